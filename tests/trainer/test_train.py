"""Training of a frozen network: from the file alone, through an interruption, to its evaluation."""

import json

import pytest
import torch

from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from model_space.spaces.stacked import StackedSettings
from tests.helpers.tiny import space_of, tiny_space
from trainer import memory as memory_module
from trainer.callbacks.checkpoint import load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.data.splits import load_data, load_split
from trainer.evaluation.evaluate import answers, evaluate, mean_soft_accuracy
from trainer.search import search
from trainer.settings import LoopSettings
from trainer.strategies.snas import SnasSettings
from trainer.train import TrainSettings, load_trained, train

FORMS = [StackedSettings(edges="one", nodes=2), StackedSettings(edges="all", nodes=2), MCANSettings(layers=1)]


def architecture_of(form) -> Architecture:
    space = tiny_space(form, dropout=0.1)
    return Architecture(space=space, choices=space.random_choices(4))


def settings(**changes) -> TrainSettings:
    return TrainSettings(**({"epochs": 3, "batch_size": 16, "lr": 1e-3, "decay_epochs": [2]} | changes))


def interrupt(epoch):
    if epoch["epoch"] == 2:
        raise InterruptedError


@pytest.mark.parametrize("form", FORMS, ids=lambda form: getattr(form, "edges", form.name))
def test_an_interrupted_training_ends_as_if_it_had_not_been(tiny_data, tmp_path, form):
    architecture = architecture_of(form)
    whole = train(tiny_data, architecture, settings(), tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(tiny_data, architecture, settings(), tmp_path / "cut", interrupt)
    torch.manual_seed(99)
    resumed = train(tiny_data, architecture, settings(), tmp_path / "cut")
    first, second = load_checkpoint(whole), load_checkpoint(resumed)
    assert all(torch.equal(first["state_dict"][name], second["state_dict"][name]) for name in first["state_dict"])
    assert read_curve(tmp_path / "whole") == read_curve(tmp_path / "cut")
    assert len(read_curve(tmp_path / "whole")) == 3


def test_a_checkpoint_is_used_alone(tiny_data, tiny_data_settings, tmp_path):
    checkpoint = train(tiny_data, architecture_of(FORMS[0]), settings(), tmp_path)
    network, vocabulary, architecture = load_trained(checkpoint)
    assert vocabulary == tiny_data.vocabulary
    assert architecture.space.data == tiny_data.sizes
    val = load_split(tiny_data_settings, tiny_data_settings.val, vocabulary)
    given = answers(network, val)
    assert list(given) == list(val.question_ids) and set(given.values()) <= set(vocabulary.answers)
    accuracy = evaluate(network, val)
    assert set(accuracy.per_answer_type) == {"yes/no", "number", "other"}
    assert mean_soft_accuracy(network, val) == pytest.approx(read_curve(tmp_path)[-1]["accuracy"], abs=1e-4)


def test_training_learns(tiny_data, tmp_path):
    train(tiny_data, architecture_of(FORMS[2]), settings(epochs=20, decay_epochs=[]), tmp_path)
    curve = read_curve(tmp_path)
    assert curve[-1]["loss"] < 0.6 * curve[0]["loss"]


def test_a_folder_belongs_to_one_training(tiny_data, tmp_path):
    train(tiny_data, architecture_of(FORMS[0]), settings(epochs=1), tmp_path)
    with pytest.raises(InputError, match="another 'space'"):
        train(tiny_data, architecture_of(FORMS[2]), settings(epochs=1), tmp_path)
    with pytest.raises(InputError, match="another 'train'"):
        train(tiny_data, architecture_of(FORMS[0]), settings(epochs=1, lr=1e-2), tmp_path)
    with pytest.raises(InputError, match=r"run\.json: no folder can be made there: File exists"):
        train(tiny_data, architecture_of(FORMS[0]), settings(epochs=1), tmp_path / "run.json")


def test_a_training_does_not_resume_with_other_questions(tiny_data_settings, tmp_path):
    """As many, with the same words and answers: two have exchanged their texts."""
    data = load_data(tiny_data_settings)
    train(data, architecture_of(FORMS[0]), settings(epochs=1), tmp_path / "run")
    train(load_data(tiny_data_settings), architecture_of(FORMS[0]), settings(epochs=1), tmp_path / "run")
    for name, section in {"train": "training questions", "val": "validation questions"}.items():
        split = getattr(tiny_data_settings, name)
        content = json.loads(split.questions.read_text())
        one, *others = reversed(content["questions"])  # their words are in earlier ones, so the vocabulary is the same
        other = next(each for each in others if each["question"] != one["question"])
        one["question"], other["question"] = other["question"], one["question"]
        exchanged = tmp_path / f"{name}.json"
        exchanged.write_text(json.dumps(content))
        changed = tiny_data_settings.model_copy(update={name: split.model_copy(update={"questions": exchanged})})
        assert load_data(changed).vocabulary == data.vocabulary
        with pytest.raises(InputError, match=f"another '{section}'"):
            train(load_data(changed), architecture_of(FORMS[0]), settings(epochs=1), tmp_path / "run")


def test_a_validation_split_without_answers_is_refused_before_the_training(tiny_data_settings):
    unknown = tiny_data_settings.val.model_copy(update={"annotations": None})
    with pytest.raises(InputError, match=r"data\.val\.annotations is missing"):
        load_data(tiny_data_settings.model_copy(update={"val": unknown}))


def test_what_is_no_checkpoint_is_refused(tiny_data, tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_trained(tmp_path / "absent.ckpt")
    checkpoint = train(tiny_data, architecture_of(FORMS[0]), settings(epochs=1), tmp_path)
    short = tmp_path / "short.ckpt"
    short.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        load_trained(short)
    flipped = bytearray(checkpoint.read_bytes())
    flipped[len(flipped) // 2] ^= 1  # among the weights
    (tmp_path / "flipped.ckpt").write_bytes(flipped)
    with pytest.raises(InputError, match=r"flipped.ckpt: damaged: the checksum of its part '.*/data/\d+' is not"):
        load_trained(tmp_path / "flipped.ckpt")
    (tmp_path / "text.ckpt").write_text(json.dumps({"state_dict": 1}))
    with pytest.raises(InputError, match="not a whole checkpoint"):
        load_trained(tmp_path / "text.ckpt")


class Spy:
    """Would run code if it were unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


def test_loading_a_checkpoint_runs_nothing(tmp_path):
    torch.save({"architecture": Spy()}, tmp_path / "spy.ckpt")
    with pytest.raises(InputError, match="not a whole checkpoint"):
        load_trained(tmp_path / "spy.ckpt")


def test_learning_rate_of_mcan():
    """Warm-up over three epochs, a fifth after the epochs 10 and 12 (mcan-vqa)."""
    schedule = LoopSettings(warmup="30 steps", decay_epochs=[10, 12], decay=0.2)
    scales = [schedule.lr_scale(step, steps_per_epoch=10) for step in (0, 14, 29, 99, 100, 119, 120)]
    assert scales == pytest.approx([1 / 30, 0.5, 1, 1, 0.2, 0.2, 0.04])


@pytest.mark.parametrize("memory", ["all_memory", None])
def test_a_network_larger_than_the_memory_is_refused_before_it_is_built(tiny_data, tmp_path, monkeypatch, memory):
    """So wide a network, a petabyte, would end in a trace or take the machine down; a large one is measured by it."""
    hidden = 1_000_000
    if memory:
        hidden = 64
        monkeypatch.setattr(memory_module, memory, lambda: 1e6)
    architecture = Architecture(space=space_of(tiny_data, MCANSettings(layers=1), hidden=hidden), choices={})
    with pytest.raises(InputError, match=r"^the network has [\d,]+ weights, which take .* GB: expected a smaller"):
        train(tiny_data, architecture, TrainSettings(epochs=1, batch_size=8), tmp_path)
    space = space_of(tiny_data, StackedSettings(cells=1, nodes=1), hidden=hidden)
    with pytest.raises(InputError, match=r"^the supernet has [\d,]+ weights"):
        search(tiny_data, space, SnasSettings(epochs=1, batch_size=8), tmp_path, lambda epoch: None)
