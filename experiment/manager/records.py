"""What NNI recorded of an experiment: its trials, their parameters, curves and final metrics.

NNI's manager keeps it in ``<working directory>/<experiment>/db/nni.sqlite``. It is read there, so that an
experiment is seen in the same way while it runs, when it was stopped, and when it has finished.
"""

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from model_space.errors import InputError

Metric = dict[str, Any]
"""What a trial reports: ``default``, which is its accuracy in percent here, and what else it has to say."""

FAILED = ("FAILED", "USER_CANCELED", "SYS_CANCELED")
ENDED = (*FAILED, "SUCCEEDED", "EARLY_STOPPED")


@dataclass
class Trial:
    id: str
    number: int
    """Number of the trial as NNI's portal counts, from 0."""
    folder: Path
    """Folder of its output: ``trial.stdout``, ``trial.stderr`` and what it writes itself."""
    state: str = "WAITING"
    """NNI's word: WAITING, RUNNING, SUCCEEDED, FAILED, USER_CANCELED, EARLY_STOPPED.
    A trial that was killed by a signal is USER_CANCELED as well; ``cancelled`` tells them apart."""
    cancelled: bool = False
    """Whether a user cancelled it, in the portal or with ``nnictl trial kill``."""
    record: dict[str, Any] = field(default_factory=dict)
    """What the manager means it to run with, as NNI hands it over: parameter_id, parameters."""
    started: datetime | None = None
    ended: datetime | None = None
    curve: list[Metric] = field(default_factory=list)
    """Its intermediate metrics, one for each epoch."""
    final: Metric | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that it ran with, by its own report if there is one: NNI can mix up trials."""
        reported = self.final.get("parameters") if self.final else None
        return json.loads(reported) if reported else self.record.get("parameters", {})

    @property
    def failed(self) -> bool:
        return self.state in FAILED


@dataclass
class Experiment:
    folder: Path
    config: dict[str, Any]
    """The configuration of the experiment, with NNI's keys."""
    started: datetime
    trials: list[Trial]

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def total(self) -> float:
        """The number of trials that it is to have; infinity where the configuration sets no bound."""
        total = self.config.get("maxTrialNumber", math.inf)
        choices = self.config["searchSpace"].values()
        grid = self.config["tuner"].get("className", "").endswith("Grid")
        if grid and all(choice["_type"] == "choice" for choice in choices):
            total = min(total, math.prod(len(choice["_value"]) for choice in choices))
        return total

    @property
    def finished(self) -> bool:
        return sum(trial.state in ENDED for trial in self.trials) >= self.total


def find(working_directory: Path, experiment: str | None = None) -> Path:
    """Returns the folder of an experiment, by default of the one that was started last.

    Raises:
        InputError: There is none, or none of this name.
    """
    files = working_directory.glob("*/db/nni.sqlite")
    folders = {file.parents[1].resolve() for file in files}  # NNI keeps a link to the latest one beside them
    known = sorted((started, folder.name, folder) for folder in folders if (started := _started(folder)))
    if not known:
        raise InputError(f"{working_directory}: no experiment here yet; `make search` starts one")
    if experiment is None:
        return known[-1][2]
    for _, name, folder in known:
        if name == experiment:
            return folder
    names = ", ".join(name for _, name, _ in known)
    raise InputError(f"{working_directory}: no experiment '{experiment}'; there are (the latest last): {names}")


def read(folder: Path) -> Experiment:
    """Returns all that is recorded of the experiment of a folder.

    Raises:
        InputError: The folder holds no records that can be read.
    """
    with _open(folder) as database:
        profiles = database.execute("select params, startTime from ExperimentProfile order by revision desc")
        profile = profiles.fetchone()
        if profile is None:
            raise InputError(f"{folder}: NNI has not recorded the experiment's start")
        trials = _trials(folder, database.execute("select * from TrialJobEvent order by rowid"))
        metrics = database.execute("select * from MetricData order by rowid").fetchall()
    curves: dict[str, dict[int, Metric]] = {id: {} for id in trials}
    for row in metrics:
        metric = _metric(row["data"])
        if row["trialJobId"] not in trials:
            continue
        if row["type"] == "FINAL":
            trials[row["trialJobId"]].final = metric
        else:  # an epoch that was run again replaces the one before
            curves[row["trialJobId"]][row["sequence"]] = metric
    for id, curve in curves.items():
        trials[id].curve = [curve[sequence] for sequence in sorted(curve)]
    return Experiment(folder, json.loads(profile["params"]), _time(profile["startTime"]), list(trials.values()))


def _trials(folder: Path, events: Iterable[sqlite3.Row]) -> dict[str, Trial]:
    """Returns the trials, from their events: as for NNI, the last event of a trial tells its state."""
    trials: dict[str, Trial] = {}
    for row in events:
        id, event = row["trialJobId"], row["event"]
        if not id or event == "ADD_HYPERPARAMETER":
            continue
        trial = trials.setdefault(id, Trial(id, len(trials), folder / "environments" / "local-env" / "trials" / id))
        if row["data"] and not trial.record:
            trial.record = json.loads(row["data"])
        if event == "USER_TO_CANCEL":
            trial.cancelled = True
        elif event in ENDED:
            trial.state, trial.ended = event, _time(row["timestamp"])
        else:
            trial.state, trial.ended = ("RUNNING" if event == "RUNNING" else "WAITING"), None
            trial.started = trial.started or _time(row["timestamp"])
    return trials


def _metric(data: str) -> Metric:
    metric = json.loads(json.loads(data))  # NNI packs it twice
    return metric if isinstance(metric, dict) else {"default": metric}


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone()


def _started(folder: Path) -> datetime | None:
    """Returns when the experiment of a folder was started; None where its start was not completed."""
    try:
        with _open(folder) as database:
            row = database.execute("select min(startTime) from ExperimentProfile").fetchone()
            return _time(row[0]) if row[0] else None
    except InputError:
        return None


@contextmanager
def _open(folder: Path) -> Iterator[sqlite3.Connection]:
    """Opens the records for reading, and turns errors of sqlite into words."""
    file = folder / "db" / "nni.sqlite"
    if not file.is_file():
        raise InputError(f"{folder}: no experiment here (there is no db/nni.sqlite)")
    # Opened for writing nevertheless: where a manager was killed in the middle of a write, sqlite gives the
    # state before it only then.
    uri = f"{file.resolve().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as database:
            database.row_factory = sqlite3.Row
            yield database
    except sqlite3.Error as error:
        raise InputError(f"{file}: not the records of an NNI experiment ({error})") from None
