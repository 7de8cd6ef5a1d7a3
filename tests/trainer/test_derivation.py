"""How an architecture is derived by validation: what is sampled, what is shortlisted, what is chosen."""

from typing import ClassVar

import pytest
import torch

from model_space.architecture import Architecture
from model_space.spaces.encoder_decoder import EncoderDecoderSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import ignore, short_search
from tests.helpers.supernets import supernet_of
from tests.helpers.tiny import space_of, tiny_space
from trainer import derivation
from trainer.callbacks.curve import read_curve
from trainer.derivation import ShortTraining, derive, evolved, samples, shares
from trainer.module import answer_logits
from trainer.search import search
from trainer.strategies.progressive_shrinking import ProgressiveShrinking
from trainer.supernet.choices import distribution, weights_at

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


def test_evolved_architectures_are_better_than_samples():
    space = tiny_space(StackedSettings(edges="one", cells=1, nodes=3))
    target = space.random_choices(seed=7)
    asked = []

    def accuracy(choices):
        asked.append(repr(choices))
        return sum(choices[label] == target[label] for label in target)

    even = {label: dict.fromkeys(map(str, values), 1.0) for label, values in space.candidates().items()}
    first = samples(space, 100, seed=0)
    found = evolved(space, first, 200, accuracy, even, seed=0)
    assert len(found) == len({repr(each) for each in found}) == len(asked) == 200
    scores = [accuracy(each) for each in found]
    assert scores == sorted(scores, reverse=True)
    sampled = [accuracy(each) for each in samples(space, 200, seed=0)]
    assert scores[0] > max(sampled) and sum(scores) > 1.2 * sum(sampled)
    assert found == evolved(space, first, 200, accuracy, even, seed=0)


def test_a_decided_distribution_has_no_other_children():
    space = tiny_space(CHAIN)
    decided = {
        label: {str(value): float(i == 0) for i, value in enumerate(values)}
        for label, values in space.candidates().items()
    }
    only = {label: values[0] for label, values in space.candidates().items()}
    assert evolved(space, [only], 6, lambda choices: 1.0, decided, seed=0) == [only]


def test_shares_are_those_of_the_architectures():
    space = tiny_space(CHAIN)
    even = shares(samples(space, 32, seed=0), space)
    assert all(share == 1 / len(each) for each in even.values() for share in each.values())
    one = samples(space, 1, seed=3)
    assert all(max(each.values()) == 1.0 == sum(each.values()) for each in shares(one, space).values())


class FakeTraining:
    """A training whose network is its architecture's number, and that notes until which step each was trained."""

    ran: ClassVar[dict[int, int]] = {}

    def __init__(self, supernet, choices, *others):
        self.choices = choices
        self.network = samples(tiny_space(CHAIN), 32, seed=0).index(choices)

    def run_until(self, step):
        self.ran[self.network] = step


def test_the_shortlist_is_halved_and_its_best_is_derived(tiny_data, monkeypatch):
    space = space_of(tiny_data, CHAIN)
    every = samples(space, 32, seed=0)
    settings = short_search(strategy="progressive_shrinking", samples=32, shortlist=5, tuning_steps=60)
    monkeypatch.setattr(
        derivation, "_supernet_accuracy", lambda net, choices, batches: -abs(every.index(choices) - 20.2)
    )
    monkeypatch.setattr(derivation, "_accuracy", lambda number, batches: -number)  # the lower ones go on
    monkeypatch.setattr(derivation, "mean_soft_accuracy", lambda number, data: float(number))
    monkeypatch.setattr(derivation, "ShortTraining", FakeTraining)
    supernet = supernet_of(CHAIN, "progressive_shrinking")
    chosen, accuracy, shortlist = derive(supernet, every[0], distribution(supernet), space, tiny_data, settings)
    assert shortlist == [every[i] for i in (20, 21, 19, 22, 18)]
    assert FakeTraining.ran == {22: 20, 21: 20, 20: 40, 19: 60, 18: 60}
    assert chosen == every[19] and accuracy == 19


def test_a_short_training_in_micro_batches_is_that_of_whole_batches(tiny_data):
    space = space_of(tiny_data, CHAIN)
    supernet = ProgressiveShrinking(whole=0.4, shrinking=0.4, architecture_lr=0.01).mutate_model(space.build())
    choices = samples(space, 1, seed=0)[0]

    def trained(**changes):
        settings = short_search(strategy="progressive_shrinking", tuning_steps=9, **changes)
        training = ShortTraining(supernet, choices, space, tiny_data, settings)
        training.run_until(4)
        training.run_until(9)
        return answers(training.network)

    def answers(network):
        with torch.no_grad():
            return answer_logits(network.eval(), tiny_data.val[range(20)])

    whole, parts = trained(), trained(accumulate=4)
    start = Architecture(space=space, choices=choices).network()
    start.load_state_dict(weights_at(supernet, choices))
    assert torch.allclose(parts, whole, atol=1e-3) and (whole - answers(start)).abs().max() > 0.1


def test_each_learning_rate_of_a_short_training_is_the_searchs_and_a_fifth_of_it_in_the_last_part(tiny_data):
    space = space_of(tiny_data, CHAIN)
    supernet = ProgressiveShrinking(whole=0.4, shrinking=0.4, architecture_lr=0.01).mutate_model(space.build())
    settings = short_search(strategy="progressive_shrinking", tuning_steps=9, lr=1e-3, matrix_lr=5e-3)
    training = ShortTraining(supernet, samples(space, 1, seed=0)[0], space, tiny_data, settings)
    rates = []
    for step in (6, 9):
        training.run_until(step)
        rates.append([group["lr"] for group in training._optimizer.param_groups])
    assert rates == [pytest.approx([1e-3, 5e-3]), pytest.approx([2e-4, 1e-3])]


def test_a_short_training_helps_and_leaves_the_supernet_alone(tiny_data, tmp_path, monkeypatch):
    seen = {}

    def watched(supernet, *arguments):
        seen["before"] = {name: weight.clone() for name, weight in supernet.state_dict().items()}
        result = derive(supernet, *arguments)
        seen["after"] = supernet.state_dict()
        return result

    monkeypatch.setattr("trainer.search.derive", watched)
    settings = short_search(strategy="random_one_shot", samples=32, tuning_steps=120, lr=1e-2)
    architecture = search(tiny_data, space_of(tiny_data, CHAIN), settings, tmp_path, ignore)
    assert all(torch.equal(seen["after"][name], weight) for name, weight in seen["before"].items())
    curve = read_curve(tmp_path)
    assert architecture.score == curve[-1]["accuracy"] > max(epoch["accuracy"] for epoch in curve[:-1])
    assert all(sum(each.values()) == pytest.approx(1) for each in curve[-1]["probabilities"].values())
    assert curve[0]["entropy"] > 0.99 and curve[-1]["entropy"] < 0.99
