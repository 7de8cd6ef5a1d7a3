"""Every command line that README and docs show ends well, run as it stands there in a clean copy with small settings.

What is not run here has its reason below, and is run by the tests that are named there.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.official import write_official
from tests.helpers.paths import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
PROGRAMS = "python|torchrun|nnictl|make|tensorboard|pip"
COMMAND = re.compile(rf"(?:^|`|\n *)((?:[A-Z]+=\S+ )?(?:\.venv/bin/)?(?:{PROGRAMS}) (?:\\\n|[^`#|\n])*)")
"""A command line at the beginning of a line or of what is set as code, with the lines that continue it."""


ELSEWHERE = {
    r"make |.*python -m pytest|pip install|python -m spacy": "what sets up and tests, and downloads",
    r".*python -m (benchmarks|tests)\.": "hours; tests/test_study.py, test_tabular.py and others run them small",
    r"nnictl ": "tests/experiment/manager/test_manager.py",
    r"torchrun ": "four processes; tests/trainer/test_training_loop.py has two",
    r"tensorboard ": "a server; what it reads is read by tests/trainer/test_training_loop.py",
    r"python - ": "docs/own_data.md; tests/test_docs.py runs all of it",
    r".*(mine|YOUR)\.yml": "docs/own_data.md; tests/test_docs.py runs all of it",
    r".*easy_vqa\.yml": "what half an hour of benchmarks.easy_vqa made; tests/experiment/actions/test_answer_photo.py",
    r".*photos\.yml": "docs/pictures.md; tests/test_docs.py runs all of it",
    r".*CHECKPOINT\.pkl": "a published checkpoint; tests/model_space/published",
}
"""Beginnings of commands that are not run here, and why not or where they are."""
SMALL = {
    "search": {"epochs": 1, "steps_per_epoch": 2, "batch_size": 8, "samples": 4, "shortlist": 2, "tuning_steps": 1},
    "train": {"epochs": 1, "steps_per_epoch": 2, "batch_size": 8},
    "network": {"hidden": 64, "heads": 1, "embedding_dim": 8, "flat_mlp_size": 16, "flat_out_size": 16},
    "compare": {"trainings": 1, "random": 1},
    "data": {"min_answer_count": 1, "word_vectors": None},
}
"""What settings files that are based on no other one are changed to."""
DIGITS = {"train_scenes": 40, "val_scenes": 8, "test_scenes": 8}


def documented() -> list[str]:
    """The command lines of all documents, each once, in their order."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        for command in COMMAND.findall(document.read_text()):
            found[re.sub(r"\s*\\\n\s*", " ", command).strip()] = None
    return list(found)


def small(folder: Path) -> None:
    """Makes a copy of the project with settings that take seconds, and tiny files in place of VQA-v2."""
    for room in ("model_space", "trainer", "experiment", "settings", "docs"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("launch.py", "config.yml"):
        shutil.copy(ROOT / file, folder)
    for file in (folder / "settings").rglob("*.yml"):
        content = yaml.safe_load(file.read_text())
        for section, changes in SMALL.items():
            if "base" not in content or (section == "data" and section in content):
                of_derivation = ("samples", "shortlist", "tuning_steps")
                there = content.get(section, {})
                kept = {k: v for k, v in changes.items() if k not in of_derivation or "digits" in file.name}
                content[section] = there | kept
        for loop in ("search", "train"):
            content.get(loop, {}).pop("decay_epochs", None)
        if content.get("data", {}).get("digits"):
            content["data"]["digits"] |= DIGITS
        file.write_text(yaml.safe_dump(content))
    files = write_official(folder / "data/vqa2", (12, 6, 6), (24, 12, 8), regions=(2, 5))
    assert files.train.questions.name.startswith("v2_OpenEnded")


def test_every_documented_command(tmp_path):
    small(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = "settings/vqa2/mcan_small.yml"  # docs/vqa2.md
    environment = os.environ | {"PATH": path, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "S": settings}
    features = next((tmp_path / "data/vqa2/val2014").glob("*.npz"))
    with np.load(features) as arrays:
        Image.new("RGB", (int(arrays["image_w"]), int(arrays["image_h"]))).save(tmp_path / "photo.jpg")
    commands = [each for each in documented() if not any(re.match(beginning, each) for beginning in ELSEWHERE)]
    assert len(commands) > 20
    for command in ["python launch.py", *commands]:  # the search comes first, as `make search` does in the README
        for shown, real in {
            "FEATURES.npz": "data/digits/val2014/COCO_val2014_000000000041.jpg.npz",
            "data/vqa2/val2014/COCO_val2014_000000000042.jpg.npz": str(features),
            '"..."': '"What colour is the 3?"',
            "FILE": "settings/vqa2.yml",
        }.items():
            command = command.replace(shown, real)
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        allowed = (0, 1) if "--check" in command or "--plan" in command else (0,)  # something is worth a look
        assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{command}\n{done.stderr}"
    assert "People answered" in (tmp_path / "results/report.html").read_text()  # the whole report, with questions


@pytest.mark.parametrize("beginning", ELSEWHERE)
def test_what_is_run_elsewhere_is_documented(beginning):
    assert any(re.match(beginning, each) for each in documented())
