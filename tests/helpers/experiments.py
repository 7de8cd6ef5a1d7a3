"""Experiments under NNI's real manager, with a trial that trains nothing, and what is expected of them."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import yaml
from nni.tools.nnictl.config_utils import Experiments

from experiment.manager import control, records
from experiment.manager.configuration import read_configuration
from model_space.architecture import Architecture
from model_space.spaces.stacked import StackedSettings
from tests.helpers.fake_trial import EPOCHS
from tests.helpers.fake_trial import search as fake_search
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_space


def processes(home: Path) -> list[psutil.Process]:
    """All that was started with this home folder, and lives."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found


def own_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as home, where NNI keeps its list of experiments; in the end nothing of it runs."""
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(Experiments.__init__, "__defaults__", (str(folder / "nni-experiments"),))
    yield folder
    left = processes(folder)
    for process in left:
        process.kill()
    psutil.wait_procs(left)


def choices(space: dict[str, list]) -> dict[str, dict]:
    return {key: {"_type": "choice", "_value": values} for key, values in space.items()}


def fake(**space: list) -> dict[str, dict]:
    """A search space of the fake trial."""
    return choices({"strategy": ["snas"], "pause": [0.2]} | space)


def start(config_file: Path, port: int | None = None) -> Path:
    """Starts the experiment of a configuration file; returns its folder."""
    return control.start(read_configuration(config_file), port)


def write_config(home: Path, **changes) -> Path:
    """A configuration like config.yml, with the fake trial."""
    space = tiny_space(StackedSettings(nodes=1, cells=1))
    Architecture(space=space, choices=space.random_choices(seed=0)).save(home / "fake.json")
    config = yaml.safe_load((ROOT / "config.yml").read_text())
    config |= {
        "trialCommand": f"python -m tests.helpers.fake_trial {home / 'fake.json'}",
        "trialCodeDirectory": str(ROOT),
        "tuner": {"codeDirectory": str(ROOT), "className": "experiment.manager.grid.Grid"},
        "experimentWorkingDirectory": str(home / "runs"),
        "maxTrialNumber": 4,
    } | changes
    file = home / "config.yml"
    file.write_text(yaml.safe_dump(config))
    return file


def uninterrupted(seed: int, home: Path) -> list[float]:
    """The scores of a trial that nobody disturbs."""
    curve = []
    parameters = {"seed": seed, "pause": 0, "strategy": "snas"}
    with tempfile.TemporaryDirectory() as folder:
        fake_search(str(home / "fake.json"), parameters, Path(folder), lambda epoch: curve.append(epoch["accuracy"]))
    return curve


def check_trials(folder: Path, home: Path, seeds: tuple[int, ...] = (0, 1)) -> None:
    """Each seed was searched once, with the result and the curve of a trial that nobody disturbs."""
    trials = records.read(folder).trials
    assert sorted(trial.parameters["seed"] for trial in trials) == sorted(seeds)
    for trial in trials:
        curve = uninterrupted(trial.parameters["seed"], home)
        assert (trial.state, trial.parameters) == ("SUCCEEDED", trial.record["parameters"])
        assert [metric["default"] for metric in trial.curve] == curve
        assert [metric["epoch"] for metric in trial.curve] == list(range(1, EPOCHS + 1))
        assert trial.final["default"] == curve[-1]
        assert Architecture.from_json(trial.final["architecture"], "here").score == curve[-1]
    with closing(sqlite3.connect(folder / "db" / "nni.sqlite")) as database:
        rows = database.execute("select trialJobId, type, sequence from MetricData").fetchall()
    assert len(rows) == len(set(rows)) == len(seeds) * (EPOCHS + 1)  # nothing was reported twice


def trial_process(trial: records.Trial) -> psutil.Process:
    """The process that has the id of a trial in its environment."""
    return next(p for p in processes(Path.home()) if p.environ().get("NNI_TRIAL_JOB_ID") == trial.id)
