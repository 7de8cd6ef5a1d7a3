"""What is read of an experiment's records."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from experiment.manager import records
from model_space.errors import InputError
from tests.helpers.nni_records import Records


def test_a_trial_from_start_to_end(tmp_path: Path):
    written = Records(tmp_path / "abc")
    assert records.read(tmp_path / "abc").trials == []
    written.event("T1", "WAITING", {"seed": 1})
    written.event("T2", "WAITING", {"seed": 0})
    written.event("T1", "RUNNING", {"seed": 1}, time=3_000_000)
    written.metric("T1", {"default": 10.0, "loss": 2.0}, sequence=0)
    written.metric("T1", {"default": 20.0, "loss": 1.0}, sequence=1)
    first, second = records.read(tmp_path / "abc").trials
    assert (first.id, first.number, first.state, first.parameters, first.final) == (
        "T1",
        0,
        "RUNNING",
        {"seed": 1},
        None,
    )
    assert [metric["default"] for metric in first.curve] == [10.0, 20.0]
    assert (second.number, second.state, second.curve) == (1, "WAITING", [])
    assert first.folder == tmp_path / "abc" / "environments" / "local-env" / "trials" / "T1"

    written.metric("T1", {"default": 20.0})
    written.event("T1", "SUCCEEDED", time=4_000_000)
    first, second = records.read(tmp_path / "abc").trials
    assert (first.state, first.final, first.failed) == ("SUCCEEDED", {"default": 20.0}, False)
    assert (first.ended - first.started).total_seconds() == 2000


def test_what_a_trial_says_it_ran_with_counts(tmp_path: Path):
    written = Records(tmp_path / "abc")
    written.event("T1", "RUNNING", {"seed": 1})
    written.metric("T1", {"default": 1.0, "parameters": json.dumps({"seed": 0})})
    assert records.read(tmp_path / "abc").trials[0].parameters == {"seed": 0}


def test_a_trial_run_again(tmp_path: Path):
    """Its curve is one curve, whatever was reported twice."""
    written = Records(tmp_path / "abc")
    written.event("T1", "RUNNING", {"seed": 1})
    for sequence, value in ((0, 1.0), (1, 2.0), (1, 2.5), (2, 3.0)):
        written.metric("T1", value, sequence)
    for event in ("USER_CANCELED", "ADD_RESUMED", "RUNNING"):
        written.event("T1", event)
    (trial,) = records.read(tmp_path / "abc").trials
    assert [metric["default"] for metric in trial.curve] == [1.0, 2.5, 3.0]
    assert (trial.state, trial.ended, trial.parameters, trial.failed) == ("RUNNING", None, {"seed": 1}, False)


@pytest.mark.parametrize(
    ("events", "failed", "cancelled"),
    [
        (["FAILED"], True, False),
        (["USER_CANCELED"], True, False),
        (["USER_TO_CANCEL", "USER_CANCELED"], True, True),
        (["EARLY_STOPPED"], False, False),
    ],
)
def test_how_a_trial_ends(tmp_path: Path, events: list[str], failed: bool, cancelled: bool):
    written = Records(tmp_path / "abc", maxTrialNumber=1)
    written.event("T1", "RUNNING", {"seed": 1})
    for event in events:
        written.event("T1", event)
    experiment = records.read(tmp_path / "abc")
    assert (experiment.trials[0].failed, experiment.trials[0].cancelled, experiment.finished) == (
        failed,
        cancelled,
        True,
    )


GRID = {"className": "experiment.manager.grid.Grid"}
CHOICES = {"a": {"_type": "choice", "_value": [1, 2, 3]}, "b": {"_type": "choice", "_value": ["x", "y"]}}


@pytest.mark.parametrize(
    ("config", "total"),
    [
        ({"maxTrialNumber": 5}, 5),
        ({"maxTrialNumber": 10, "tuner": GRID, "searchSpace": CHOICES}, 6),
        ({"maxTrialNumber": 4, "tuner": GRID, "searchSpace": CHOICES}, 4),
        ({"maxTrialNumber": 10, "tuner": GRID, "searchSpace": {"a": {"_type": "uniform", "_value": [0, 1]}}}, 10),
        ({"maxTrialNumber": math.inf}, math.inf),
    ],
)
def test_total(tmp_path: Path, config: dict, total: float):
    Records(tmp_path / "abc", **config)
    assert records.read(tmp_path / "abc").total == total


def test_find(tmp_path: Path):
    with pytest.raises(InputError, match="no experiment here yet"):
        records.find(tmp_path / "runs")
    for name, started in (("new", 3000), ("old", 1000), ("middle", 2000)):
        Records(tmp_path / "runs" / name, started)
    (tmp_path / "runs" / "_latest").symlink_to("old")  # NNI's, and not always right
    Records(tmp_path / "runs" / "begun").execute("delete from ExperimentProfile")
    assert records.find(tmp_path / "runs").name == "new"
    assert records.find(tmp_path / "runs", "old") == tmp_path / "runs" / "old"
    with pytest.raises(InputError, match=r"no experiment 'nww'; there are \(the latest last\): old, middle, new$"):
        records.find(tmp_path / "runs", "nww")


def test_no_records(tmp_path: Path):
    with pytest.raises(InputError, match="no experiment here"):
        records.read(tmp_path)
    Records(tmp_path / "begun").execute("delete from ExperimentProfile")
    with pytest.raises(InputError, match="has not recorded the experiment's start"):
        records.read(tmp_path / "begun")
    file = tmp_path / "other" / "db" / "nni.sqlite"
    file.parent.mkdir(parents=True)
    file.write_text("not a database, although of some length" * 100)
    with pytest.raises(InputError, match="not the records of an NNI experiment"):
        records.read(tmp_path / "other")


def test_reading_does_not_disturb_the_manager(tmp_path: Path):
    """While the manager writes, the state before it is read."""
    written = Records(tmp_path / "abc")
    with closing(sqlite3.connect(tmp_path / "abc" / "db" / "nni.sqlite")) as manager:
        manager.execute("insert into TrialJobEvent (trialJobId, event, timestamp) values ('T1', 'RUNNING', 1)")
        assert records.read(tmp_path / "abc").trials == []
        manager.commit()
    written.event("T1", "SUCCEEDED")
    assert records.read(tmp_path / "abc").trials[0].state == "SUCCEEDED"
