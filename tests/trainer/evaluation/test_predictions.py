"""Saved probabilities: the same answers as the networks that made them, and refused where they do not belong."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from experiment.actions import test as answer_test
from model_space.errors import InputError
from model_space.spaces.dcn import DCNSettings
from model_space.spaces.mcan import MCANSettings
from tests.helpers.trained import settings_file, trained
from trainer.data.splits import load_split
from trainer.evaluation.evaluate import by_question
from trainer.evaluation.predictions import SavedPredictions, ensemble, saving
from trainer.train import load_trained


@pytest.fixture(scope="module")
def checkpoints(tiny_data, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trained")
    spaces = MCANSettings(layers=1), DCNSettings(layers=1)
    return [trained(tiny_data, folder / space.name, space, seed=seed) for seed, space in enumerate(spaces)]


@pytest.fixture
def settings(tiny_data_settings, tmp_path) -> Path:
    return settings_file(tmp_path / "settings.yml", tiny_data_settings, name="mcan", layers=1)


def matrix(path: Path, ids: list[int], answers: list[str], rows) -> Path:
    with saving(path, ids, answers) as probabilities:
        probabilities[:] = rows
    return path


def test_saved_predictions_answer_as_their_networks(checkpoints, settings, tiny_data_settings, tmp_path):
    console = Console(quiet=True)
    one, two, both = (tmp_path / f"{name}.safetensors" for name in ("one", "two", "both"))
    answer_test.run(console, checkpoints[:1], settings=settings, output=tmp_path / "a.json", save_predictions=one)
    answer_test.run(console, checkpoints[1:], settings=settings, output=tmp_path / "b.json", save_predictions=two)
    answer_test.run(console, checkpoints, settings=settings, output=tmp_path / "both.json", save_predictions=both)
    expected = (tmp_path / "both.json").read_text()
    for name, sources in {"files": [one, two], "mixed": [checkpoints[0], two], "again": [both]}.items():
        answer_test.run(console, sources, settings=settings, output=tmp_path / f"{name}.json")
        assert (tmp_path / f"{name}.json").read_text() == expected, name

    network, vocabulary, _ = load_trained(checkpoints[0])
    split = load_split(tiny_data_settings, tiny_data_settings.test, vocabulary)
    kept = load_file(one)
    assert kept["question_ids"].tolist() == list(split.question_ids)
    by_network = by_question(network, split, lambda logits, targets: logits.sigmoid())
    torch.testing.assert_close(kept["probabilities"].float(), by_network, rtol=2**-11, atol=1e-7)


def test_a_file_of_files_alone_reads_no_features(checkpoints, settings, tiny_data_settings, tmp_path):
    console = Console(quiet=True)
    answer_test.run(
        console,
        checkpoints[:1],
        settings=settings,
        output=tmp_path / "a.json",
        save_predictions=tmp_path / "p.safetensors",
    )
    settings.write_text(settings.read_text().replace(str(tiny_data_settings.test.features), "nowhere"))
    answer_test.run(console, [tmp_path / "p.safetensors"], settings=settings, output=tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_rows_are_found_by_question_in_any_order(tmp_path):
    """test-dev is part of test-standard, whose predictions serve it too."""
    path = matrix(tmp_path / "p.safetensors", [30, 10, 20], ["a", "b"], [[0.3, 0], [0.1, 0], [0, 0.2]])
    saved = SavedPredictions.load(path)
    assert saved.answers == ("a", "b")
    given = [(places, rows.tolist()) for places, rows in ensemble([], [saved, saved], [10, 20])]
    assert given == [([0, 1], [[pytest.approx(0.1, abs=1e-4), 0], [0, pytest.approx(0.2, abs=1e-4)]])]
    with pytest.raises(InputError, match=r"another split: question 5 is not in it \(2 of 3 are not\)"):
        next(ensemble([], [saved], [5, 10, 40]))


def test_no_number_is_no_answer(tmp_path):
    path = matrix(tmp_path / "p.safetensors", [1, 2], ["a", "b"], [[0.5, 0.5], [0.5, np.nan]])
    with pytest.raises(InputError, match="question 2: the probabilities are no numbers"):
        list(ensemble([], [SavedPredictions.load(path)], [1, 2]))


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = matrix(tmp_path / "p.safetensors", [1], ["a"], [[0.5]])
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), saving(path, [1, 2], ["a"]) as rows:
        rows[0] = 1
        raise KeyboardInterrupt
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="cannot be written: No space left"), saving(path, [1, 2], ["a"]):
        pass
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_one_wrong_bit_is_found(tmp_path):
    path = matrix(tmp_path / "p.safetensors", [30, 10, 20], ["first", "other"], [[0.3, 0], [0.1, 0], [0, 0.2]])
    whole = path.read_bytes()
    assert not SavedPredictions.load(path).probabilities[0, 1]
    for place in (whole.index(b"other") + 1, *range(len(whole) - 36, len(whole))):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"p.safetensors: damaged: its CRC-32 is .*, expected"):
            SavedPredictions.load(path)


def test_what_is_no_file_of_predictions(checkpoints, settings, tmp_path):
    whole = matrix(tmp_path / "whole.safetensors", list(range(50)), ["a", "b"], 0.5)
    cut, other, shape = (tmp_path / f"{name}.safetensors" for name in ("cut", "other", "shape"))
    cut.write_bytes(whole.read_bytes()[:-10])
    save_file({"x": torch.zeros(3)}, other)
    parts = {"question_ids": torch.arange(3), "probabilities": torch.zeros(2, 2, dtype=torch.float16)}
    save_file(parts, shape, metadata={"answers": '["a", "b"]'})
    for path, said in (
        (cut, "broken, or not a file of predictions"),
        (other, "not a file of predictions: it holds x"),
        (shape, r"probabilities are torch.float16 \(2, 2\), expected float16 \(3, 2\)"),
        (tmp_path / "absent.safetensors", "absent.safetensors: predictions cannot be read: no such file"),
    ):
        with pytest.raises(InputError, match=said) as refused:
            SavedPredictions.load(path)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"whole.safetensors: its 2 answers are not the"):
        answer_test.run(Console(quiet=True), [checkpoints[0], whole], settings=settings, output=tmp_path / "x.json")
    with pytest.raises(InputError, match=r"is called so: p\.safetensors"):
        answer_test.run(
            Console(quiet=True),
            checkpoints,
            settings=settings,
            output=tmp_path / "x.json",
            save_predictions=tmp_path / "p.npz",
        )
