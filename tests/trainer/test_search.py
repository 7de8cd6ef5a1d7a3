"""A search from data to architecture, on tiny data: every strategy, killed and resumed, and what is refused."""

import errno
import json

import pytest
import torch

from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.searching import Killed, ignore, killed_at, short_search
from tests.helpers.supernets import FORMS, loss_of, supernet_of
from tests.helpers.tiny import space_of, tiny_batch
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.search import search, training_batches
from trainer.strategies import STRATEGIES
from trainer.supernet.choices import architecture_parameter, weighting

ONE = StackedSettings(edges="one", cells=2, nodes=2)
ALL = StackedSettings(edges="all", cells=2, nodes=2)
DROPOUT = {"dropout": 0.1, "channel_dropout": 0.1}  # draws random numbers in every step


@pytest.mark.parametrize("space", [ONE, ALL], ids=lambda space: space.edges)
@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - {"single_path"}))
def test_a_killed_search_ends_as_if_it_had_not_been(tiny_data, tmp_path, strategy, space):
    options = short_search(strategy=strategy, temperature=(2.0, 0.5))
    reported = []
    whole = search(tiny_data, space_of(tiny_data, space, **DROPOUT), options, tmp_path / "whole", reported.append)

    with pytest.raises(Killed):
        search(tiny_data, space_of(tiny_data, space, **DROPOUT), options, tmp_path / "killed", killed_at(2))
    torch.manual_seed(99)  # another process has used other random numbers
    rest = []
    resumed = search(tiny_data, space_of(tiny_data, space, **DROPOUT), options, tmp_path / "killed", rest.append)

    assert [epoch["epoch"] for epoch in reported] == [1, 2, 3]
    assert [epoch["epoch"] for epoch in rest] == [2, 3]
    assert resumed == whole
    assert read_curve(tmp_path / "killed") == read_curve(tmp_path / "whole") == reported
    states = [load_checkpoint(tmp_path / name / "last.ckpt")["state_dict"] for name in ("whole", "killed")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_an_epoch_reports(tiny_data, tmp_path):
    architecture = search(tiny_data, space_of(tiny_data, ONE), short_search(temperature=(1.0, 0.5)), tmp_path, ignore)
    curve = read_curve(tmp_path)
    assert [round(epoch["temperature"], 3) for epoch in curve] == [1.0, 0.833, 0.667]
    assert all(0 < epoch["entropy"] <= 1 and 0 <= epoch["accuracy"] <= 100 for epoch in curve)
    last = curve[-1]["probabilities"]
    assert last.keys() == architecture.choices.keys()
    for label, chosen in architecture.choices.items():
        name = str(chosen[0]) if isinstance(chosen, list) else chosen
        assert last[label][name] == max(last[label].values())
    assert architecture.score == curve[-1]["accuracy"]
    before, after = curve[0]["probabilities"], last
    assert any(abs(before[label][c] - after[label][c]) > 1e-3 for label in before for c in before[label])


def test_half_precision(tiny_data, tmp_path):
    architecture = search(tiny_data, space_of(tiny_data, ALL), short_search(precision="bf16-mixed"), tmp_path, ignore)
    curve = read_curve(tmp_path)
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert architecture.choices.keys() == curve[-1]["probabilities"].keys()


def test_the_seed_decides(tiny_data, tmp_path):
    def found(folder, seed):
        space = space_of(tiny_data, ONE, **DROPOUT)
        return search(tiny_data, space, short_search(seed=seed, epochs=1), tmp_path / folder, ignore)

    assert found("a", 1) == found("b", 1)
    found("c", 2)
    curves = [read_curve(tmp_path / name)[0]["probabilities"] for name in "abc"]
    assert curves[0] == curves[1] != curves[2]


def test_bilevel_search_trains_the_architecture_on_other_questions(tiny_data):
    settings = short_search(strategy="darts", architecture_share=0.25)
    weights, architecture = (set(batches.dataset.indices) for batches in training_batches(tiny_data.train, settings))
    assert not weights & architecture
    assert len(weights) == 72 and len(architecture) == 24
    again, _ = training_batches(tiny_data.train, settings)
    assert set(again.dataset.indices) == weights


def test_a_folder_belongs_to_one_search(tiny_data, tmp_path):
    search(tiny_data, space_of(tiny_data, ONE), short_search(epochs=1), tmp_path, ignore)
    with pytest.raises(InputError, match="another 'search'"):
        search(tiny_data, space_of(tiny_data, ONE), short_search(epochs=1, seed=7), tmp_path, ignore)
    with pytest.raises(InputError, match="another 'space'"):
        search(tiny_data, space_of(tiny_data, ALL), short_search(epochs=1), tmp_path, ignore)


def test_a_fixed_network_is_not_searched(tiny_data, tmp_path):
    with pytest.raises(InputError, match="nothing to search"):
        search(tiny_data, space_of(tiny_data, MCANSettings(layers=1)), short_search(), tmp_path, ignore)


def test_more_questions_a_batch_than_there_are_is_refused(tiny_data, tmp_path):
    with pytest.raises(InputError, match=r"search\.batch_size: 97"):
        search(tiny_data, space_of(tiny_data, ONE), short_search(batch_size=97), tmp_path, ignore)


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("enforce fail")])
def test_a_full_disk_leaves_the_checkpoint_before_it_whole(tiny_data, tmp_path, monkeypatch, failure):
    save, saved = torch.save, []

    def fill_the_disk(content, file):
        saved.append(content["epoch"])
        if len(saved) == 2:
            file.write(b"the first half of a checkpoint")
            raise failure
        save(content, file)

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(InputError, match=r"last\.ckpt: checkpoint not written: the disk is full"):
        search(tiny_data, space_of(tiny_data, ONE), short_search(), tmp_path, ignore)
    assert load_checkpoint(tmp_path / "last.ckpt")["epoch"] == 0
    assert not list(tmp_path.glob("*.partial"))
    monkeypatch.undo()
    search(tiny_data, space_of(tiny_data, ONE), short_search(), tmp_path, ignore)
    assert [epoch["epoch"] for epoch in json.loads((tmp_path / "curve.json").read_text())] == [1, 2, 3]


def test_a_step_keeps_no_graph_alive(tiny_data, tmp_path):
    """A mixed layer remembers its inputs until the backward pass, and no longer."""
    import gc
    import weakref

    from trainer.supernet.choices import mixed_modules, sample

    gc.collect()
    gc.disable()
    try:
        for form in FORMS:
            supernet = supernet_of(form)
            for module in mixed_modules(supernet):
                sample([weighting(module)], [architecture_parameter(module)], 1.0)
            alive = []
            hook = supernet.backbone.cells[0].register_forward_hook(
                lambda module, inputs, output, alive=alive: alive.append(weakref.ref(output[0]))
            )
            loss = loss_of(supernet, tiny_batch())
            loss.backward()
            hook.remove()
            del loss
            assert alive and all(reference() is None for reference in alive)
    finally:
        gc.enable()
