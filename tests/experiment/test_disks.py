"""Disks that are full, homes that cannot be written, names that are too long: one line, and nothing is lost."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from experiment.manager import control
from experiment.manager.configuration import read_configuration
from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.spaces.mcan import MCANSettings
from tests.helpers.paths import ROOT
from tests.helpers.photos import write_photos
from tests.helpers.tiny import space_of
from trainer.callbacks.checkpoint import CHECKPOINT, load_checkpoint
from trainer.callbacks.curve import read_curve
from trainer.data.packing import pack as packing
from trainer.data.packing.pack import pack_pictures
from trainer.data.pictures.patches import PatchesSettings
from trainer.train import TrainSettings, train


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("the small disk is a tmpfs, which only the system's administrator may mount: run as root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def filled(disk: Path) -> Path:
    """Fills a disk with a file."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return filler


def test_a_training_on_a_full_disk_ends_in_a_line_and_resumes_when_there_is_room(tiny_data, tmp_path, disk):
    architecture = Architecture(space=space_of(tiny_data, MCANSettings(layers=1), dropout=0.1), choices={})
    settings = TrainSettings(epochs=4, batch_size=16, lr=1e-3)
    whole = load_checkpoint(train(tiny_data, architecture, settings, tmp_path / "whole"))

    def fill(epoch):
        if epoch["epoch"] == 2:
            filled(disk)

    with pytest.raises(
        InputError, match=r"last\.ckpt: checkpoint not written: the disk is full; the earlier one is still"
    ):
        train(tiny_data, architecture, settings, disk / "run", fill)
    assert load_checkpoint(disk / "run" / CHECKPOINT)["epoch"] == 0
    (disk / "filler").unlink()
    resumed = load_checkpoint(train(tiny_data, architecture, settings, disk / "run"))
    assert all(torch.equal(resumed["state_dict"][name], weight) for name, weight in whole["state_dict"].items())
    assert read_curve(disk / "run") == read_curve(tmp_path / "whole")

    filled(disk)
    with pytest.raises(InputError, match=r"(curve.json|run.json): cannot be written: No space|the disk is full$"):
        train(tiny_data, architecture, settings, disk / "new")


def test_pictures_on_a_disk_that_fills_up_half_way_go_on_when_there_is_room(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(packing, "_check_room", lambda *given: None)  # it would not have begun
    write_photos(tmp_path / "photos", 8)
    (disk / "photos").symlink_to(tmp_path / "photos")
    settings = PatchesSettings(name="patches", side=128, patch=16, batch_size=2)
    expected = pack_pictures(tmp_path / "photos", settings).read_bytes()

    def fill(images, done, total):
        if images == 4:
            filled(disk)

    with pytest.raises(InputError, match=r"photos.safetensors: No space left on device after [45] images: make room"):
        pack_pictures(disk / "photos", settings, fill)
    (disk / "filler").unlink()
    assert pack_pictures(disk / "photos", settings).read_bytes() == expected


def refuses_to_start(config: Path, working_directory: Path, message: str) -> None:
    """An experiment that keeps its records there is refused in one line."""
    content = yaml.safe_load((ROOT / "config.yml").read_text())
    content |= {"trialCodeDirectory": str(ROOT), "tuner": {"name": "Random"}}
    content["trialCommand"] = "python -m experiment.manager.trial settings/digits.yml"
    config.write_text(yaml.safe_dump(content | {"experimentWorkingDirectory": str(working_directory)}))
    with pytest.raises(InputError, match=message) as error:
        control.start(read_configuration(config))
    assert "\n" not in str(error.value) and not [path for path in working_directory.glob("*") if path.is_dir()]


def test_an_experiment_does_not_start_on_a_full_disk(tmp_path, disk, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    refuses_to_start(tmp_path / "config.yml", disk, "disk: 2 MB are free on its disk; .* make room")
    filled(disk)
    message = "nni.sqlite: cannot be written: No space left|disk: 0 MB are free"
    refuses_to_start(tmp_path / "config.yml", disk, message)


def test_an_experiment_does_not_start_without_a_home(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    message = "home/nni-experiments/.*: cannot be written: Not a directory"
    refuses_to_start(tmp_path / "config.yml", tmp_path / "runs", message)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "x" * 300],
        ["--train", "x" * 300],
        ["--val", "x" * 300],
        ["--multi-trial", "settings/digits.yml", "--output", "x" * 300],
        ["--check", "x" * 300],
    ],
)
def test_a_name_that_is_too_long_is_one_line(tmp_path, arguments):
    (tmp_path / "settings").symlink_to(ROOT / "settings")
    command = [sys.executable, str(ROOT / "launch.py"), *arguments]
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "x" * 50 in done.stderr
