"""``--multi-trial``: an experiment is written in which each trial trains one architecture, and it runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiment.manager import records
from model_space.architecture import Architecture
from tests.helpers.paths import ROOT
from tests.helpers.trained import settings_file


def launch(folder: Path, *arguments) -> subprocess.CompletedProcess:
    environment = os.environ | {"HOME": str(folder)}
    command = [sys.executable, str(ROOT / "launch.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def settings(tiny_data_settings, tmp_path) -> Path:
    file = settings_file(tmp_path / "settings.yml", tiny_data_settings, name="stacked", edges="one", cells=1, nodes=2)
    content = yaml.safe_load(file.read_text()) | {"train": {"epochs": 2, "steps_per_epoch": 2, "batch_size": 16}}
    file.write_text(yaml.safe_dump(content))
    return file


def test_what_is_written_and_what_is_refused(settings, tmp_path):
    assert launch(tmp_path, "--multi-trial", settings).returncode == 0
    written = yaml.safe_load((tmp_path / "multi_trial.yml").read_text())
    assert written["searchSpace"]["image_node2_input"] == {"_type": "choice", "_value": [[0], [1]]}
    assert len(written["searchSpace"]) == 8 and written["trialCommand"].endswith(str(settings))
    again = launch(tmp_path, "--multi-trial", settings)
    assert again.returncode == 2 and again.stderr.startswith("multi_trial.yml: is there already")
    content = yaml.safe_load(settings.read_text()) | {"space": {"name": "mcan"}}
    settings.write_text(yaml.safe_dump(content))
    fixed = launch(tmp_path, "--multi-trial", settings, "--output", "other.yml")
    assert fixed.returncode == 2 and "nothing to search" in fixed.stderr and not (tmp_path / "other.yml").exists()


@pytest.mark.parametrize("tuner", ["TPE", "regularized evolution"])
def test_each_trial_trains_one_architecture(tuner, settings, tmp_path):
    launch(tmp_path, "--multi-trial", settings)
    file = tmp_path / "multi_trial.yml"
    lines = file.read_text().splitlines()
    content = yaml.safe_load("\n".join(lines)) | {"trialCodeDirectory": str(ROOT), "maxTrialNumber": 3}
    if tuner == "regularized evolution":  # as a comment of the file says it
        (line,) = [line for line in lines if line.startswith("# tuner: ")]
        content["tuner"] = yaml.safe_load(line.removeprefix("# "))["tuner"] | {"codeDirectory": str(ROOT)}
        content["tuner"]["classArgs"]["population"] = 2
    file.write_text(yaml.safe_dump(content))
    done = launch(tmp_path, "--config", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MCAN" in done.stdout and "found" in done.stdout
    trials = records.read(records.find(tmp_path / "runs")).trials
    assert len(trials) == 3
    finals = [trial.final for trial in trials if trial.final]  # the others were stopped early
    assert finals
    for final in finals:
        architecture = json.loads(final["architecture"])
        assert architecture["choices"] == json.loads(final["parameters"])
        assert architecture["provenance"]["strategy"] == "multi-trial"
    found = Architecture.load(tmp_path / "architecture.json")
    assert found.score == max(final["default"] for final in finals)
    assert all(len(trial.curve) == 2 for trial in trials if trial.final)


def test_some_of_the_choices_are_not_enough(settings, tmp_path):
    launch(tmp_path, "--multi-trial", settings)
    file = tmp_path / "multi_trial.yml"
    content = yaml.safe_load(file.read_text()) | {"trialCodeDirectory": str(ROOT), "maxTrialNumber": 1}
    del content["searchSpace"]["image_node2_operation"]
    file.write_text(yaml.safe_dump(content))
    done = launch(tmp_path, "--config", file)
    assert done.returncode == 1 and "'image_node2_operation' is missing (1 of 8 are)" in done.stdout + done.stderr
