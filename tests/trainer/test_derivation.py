"""How an architecture is derived by validation: what is sampled, what is shortlisted, what is chosen."""

import pytest
import torch

from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from tests.helpers.searching import ignore, short_search
from tests.helpers.supernets import supernet_of
from tests.helpers.tiny import space_of, tiny_space
from trainer import derivation
from trainer.callbacks.curve import read_curve
from trainer.derivation import derive, samples, shares
from trainer.search import search
from trainer.supernet.choices import distribution

CHAIN = EncoderDecoderSettings(encoder_blocks=1, decoder_blocks=2, relation_size=4)


def test_samples_are_different_and_a_small_space_is_taken_whole():
    space = tiny_space(CHAIN)
    whole = samples(space, 32, seed=0)
    assert len(whole) == len({repr(each) for each in whole}) == 32
    some = samples(space, 10, seed=0)
    assert len({repr(each) for each in some}) == 10 and all(each in whole for each in some)
    assert samples(space, 10, seed=0) == some != samples(space, 10, seed=1)
    first = whole[17]
    assert samples(space, 10, seed=0, first=[first])[0] == first


def test_samples_follow_the_distribution():
    space = tiny_space(CHAIN)
    decided = {label: dict.fromkeys(map(str, values), 0.0) for label, values in space.candidates().items()}
    for each in decided.values():
        each[next(iter(each))] = 1.0
    only = {label: values[0] for label, values in space.candidates().items()}
    assert samples(space, 5, 0, decided, [only]) == [only]


def test_shares_are_those_of_the_architectures():
    space = tiny_space(CHAIN)
    even = shares(samples(space, 32, seed=0), space)
    assert all(share == 1 / len(each) for each in even.values() for share in each.values())
    one = samples(space, 1, seed=3)
    assert all(max(each.values()) == 1.0 == sum(each.values()) for each in shares(one, space).values())


def test_the_best_of_the_shortlist_is_derived(tiny_data, monkeypatch):
    space = space_of(tiny_data, CHAIN)
    every = samples(space, 32, seed=0)
    settings = short_search(strategy="progressive_shrinking", samples=32, shortlist=3)
    monkeypatch.setattr(derivation, "_accuracy", lambda net, choices, batches: -abs(every.index(choices) - 20.2))
    monkeypatch.setattr(derivation, "_tuned_accuracy", lambda net, choices, *others: float(every.index(choices)))
    supernet = supernet_of(CHAIN, "progressive_shrinking")
    chosen, accuracy, shortlist = derive(supernet, every[0], distribution(supernet), space, tiny_data, settings)
    assert shortlist == [every[20], every[21], every[19]]
    assert chosen == every[21] and accuracy == 21


def test_a_short_training_helps_and_leaves_the_supernet_alone(tiny_data, tmp_path, monkeypatch):
    seen = {}

    def watched(supernet, *arguments):
        seen["before"] = {name: weight.clone() for name, weight in supernet.state_dict().items()}
        result = derive(supernet, *arguments)
        seen["after"] = supernet.state_dict()
        return result

    monkeypatch.setattr("trainer.search.derive", watched)
    settings = short_search(strategy="progressive_shrinking", shortlist=2, tuning_steps=60, lr=1e-2)
    architecture = search(tiny_data, space_of(tiny_data, CHAIN), settings, tmp_path, ignore)
    assert all(torch.equal(seen["after"][name], weight) for name, weight in seen["before"].items())
    curve = read_curve(tmp_path)
    assert architecture.score == curve[-1]["accuracy"] > max(epoch["accuracy"] for epoch in curve[:-1])
    assert all(sum(each.values()) == pytest.approx(1) for each in curve[-1]["probabilities"].values())
    assert curve[0]["entropy"] > 0.99 and curve[-1]["entropy"] < 0.99
