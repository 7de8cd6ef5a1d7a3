"""From photos to an answer: features on the spot are those of the split, and those of another extractor are refused."""

import io
import json
import re
import sys

import pytest
import yaml
from PIL import Image
from rich.console import Console

from experiment.actions import answer, check, export_model, pack, train, val
from experiment.settings import read_settings
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from tests.helpers.photos import write_photos, write_table
from tests.helpers.tiny import tiny_network, tiny_space
from trainer.data.splits import load_split
from trainer.evaluation.evaluate import by_question
from trainer.train import load_trained

PATCHES = {"name": "patches", "side": 32, "patch": 16}


def console() -> Console:
    return Console(highlight=False, soft_wrap=True, record=True, file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos, tables, settings and a network that was trained on them."""
    folder = tmp_path_factory.mktemp("photos")
    for split, n in {"train": 16, "val": 8}.items():
        write_table(folder / f"{split}.csv", folder / split, write_photos(folder / split, n, seed=n))
    settings_file(folder)
    pack.run(console(), folder / "settings.yml")
    train.run(console(), folder / "mcan.json", settings=folder / "settings.yml", folder=folder / "run")
    return folder


def settings_file(folder, name="settings.yml", pictures=PATCHES):
    """Settings of a folder's splits, and an architecture file beside them."""
    splits = {
        split: {"questions": str(folder / f"{split}.csv"), "features": str(folder / split)}
        for split in ("train", "val")
    }
    content = {
        "data": {**splits, "accuracy": "agreement", "min_answer_count": 1, "pictures": pictures},
        "space": {"name": "mcan", "layers": 1},
        "network": tiny_network().model_dump(),
        "train": {"epochs": 1, "batch_size": 4, "warmup": None, "decay_epochs": []},
    }
    (folder / name).write_text(yaml.safe_dump(content))
    Architecture(space=tiny_space(MCANSettings(layers=1)), choices={}).save(folder / "mcan.json")
    return folder / name


def asked(folder, settings="settings.yml", network=None, **options) -> list[str]:
    said = console()
    answer.run(
        said,
        network or folder / "run/last.ckpt",
        settings=folder / settings,
        output=folder / "answer.png",
        **{"question": "What colour is it?"} | options,
    )
    return said.export_text().splitlines()


def test_a_photo_is_answered_as_in_the_split_and_drawn_on(folder):
    network, vocabulary, _ = load_trained(folder / "run/last.ckpt")
    data = read_settings(folder / "settings.yml").data
    expected = by_question(network, load_split(data, data.val, vocabulary), lambda logits, targets: logits.sigmoid())
    for place, photo in enumerate(sorted((folder / "val").iterdir())):
        *lines, where = asked(folder, photo=photo)
        shown = {
            text: float(share) for share, text in (re.fullmatch(r" *([\d.]+) %  (.*)", line).groups() for line in lines)
        }
        for index, text in enumerate(vocabulary.answers):
            assert shown[text] == pytest.approx(100 * expected[place][index].item(), abs=0.02)
        assert where == f"where it looked: {folder / 'answer.png'}"


def test_a_model_folder_answers_photos_too_and_refuses_other_features(folder, tmp_path):
    photo = sorted((folder / "val").iterdir())[0]
    checkpoint, settings = folder / "run/last.ckpt", folder / "settings.yml"
    export_model.run(console(), [checkpoint, tmp_path / "model"], settings=settings)
    assert "patches (patch 16, side 32)" in (tmp_path / "model/README.md").read_text()
    assert asked(folder, photo=photo, network=tmp_path / "model") == asked(folder, photo=photo)
    settings_file(folder, "other.yml", {**PATCHES, "side": 64})
    with pytest.raises(InputError, match=r"made by patches .*in the training of .*model by patches"):
        asked(folder, "other.yml", photo=photo, network=tmp_path / "model")


def test_without_a_question_the_terminal_is_asked_until_its_end(folder, monkeypatch):
    photo = sorted((folder / "val").iterdir())[0]
    first = asked(folder, photo=photo)
    monkeypatch.setattr(sys, "stdin", io.StringIO("What colour is it?\n\n  Is it red?\n"))
    lines = asked(folder, photo=photo, question=None)
    assert lines[: len(first) + 1] == ["What colour is it?", *first]
    assert lines[len(first) + 1] == "Is it red?" and lines[-1].endswith("answer-2.png")
    assert Image.open(folder / "answer-2.png").size[0] > 500
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe what\n"), "utf-8"))
    with pytest.raises(InputError, match="the questions are no text in utf-8"):
        asked(folder, photo=photo, question=None)


def test_features_of_another_extractor_are_refused_with_both_names(folder, tmp_path):
    other = {**PATCHES, "side": 64}
    photo = sorted((folder / "val").iterdir())[0]
    settings_file(folder, "other.yml", other)
    both = r"made by patches \(patch 16, side 64\), in the training of .*last.ckpt by patches \(patch 16, side 32\)"
    with pytest.raises(InputError, match=both):
        asked(folder, "other.yml", photo=photo)
    for split in ("train", "val"):
        (tmp_path / split).symlink_to(folder / split)
        (tmp_path / f"{split}.csv").symlink_to(folder / f"{split}.csv")
    settings = settings_file(tmp_path, pictures=other)
    pack.run(console(), settings)
    with pytest.raises(InputError, match=both):
        val.run(console(), folder / "run/last.ckpt", settings=settings)
    (tmp_path / "train.safetensors").unlink()
    (tmp_path / "train.safetensors").symlink_to(folder / "train.safetensors")
    with pytest.raises(
        InputError, match=r"the validation split: features are made by patches \(patch 16, side 64\), in"
    ):
        settings = settings_file(tmp_path, pictures=None)
        train.run(console(), tmp_path / "mcan.json", settings=settings, folder=tmp_path / "run")


def test_settings_that_have_changed_since_the_packing_are_refused_by_every_action(folder):
    settings = settings_file(folder, "changed.yml", {**PATCHES, "patch": 8})
    message = r"train.safetensors: made by patches \(patch 16, side 32\), where data.pictures says .*'patch': 8"
    with pytest.raises(InputError, match=message):
        train.run(console(), folder / "mcan.json", settings=settings, folder=folder / "other")
    with pytest.raises(InputError, match=message):
        pack.run(console(), settings)


def test_a_folder_that_tells_no_extractor_is_refused_without_a_trace(folder, tmp_path):
    export_model.run(console(), [folder / "run/last.ckpt", tmp_path / "model"], settings=folder / "settings.yml")
    config = json.loads((tmp_path / "model/config.json").read_text())
    for told in ("mine", "[1]", '{"side": 3}'):
        (tmp_path / "model/config.json").write_text(json.dumps(config | {"extractor": told}))
        with pytest.raises(InputError, match=f"in the training of .*model by {re.escape(repr(told))}"):
            val.run(console(), tmp_path / "model", settings=folder / "settings.yml")


def test_a_photo_whose_features_cannot_be_made_is_one_line(folder, tmp_path):
    photo = sorted((folder / "val").iterdir())[0]
    settings_file(folder, "without.yml", None)
    with pytest.raises(InputError, match=r"without.yml: data.pictures is missing, .* features are made of --photo"):
        asked(folder, "without.yml", photo=photo)
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    for name, message in {
        "broken.jpg": "cannot be read: not a whole picture",
        "absent.jpg": "cannot be read: No such",
    }.items():
        with pytest.raises(InputError, match=f"{name}: {message}"):
            asked(folder, photo=tmp_path / name)


def test_pictures_that_are_not_packed_are_said_by_every_action(folder, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).symlink_to(folder / split)
        (tmp_path / f"{split}.csv").symlink_to(folder / f"{split}.csv")
    settings = settings_file(tmp_path)
    message = "has pictures, such as photo-00.jpg, and no features: launch.py --pack SETTINGS makes them"
    with pytest.raises(InputError, match=f"train: {message}"):
        train.run(console(), tmp_path / "mcan.json", settings=settings, folder=tmp_path / "run")
    said = console()
    assert check.run(said, settings) == check.STOPS
    assert message in " ".join(said.export_text().split())
