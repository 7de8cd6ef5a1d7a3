"""Follows a running experiment, and says why a trial failed."""

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

from experiment.manager import records
from experiment.manager.errors import SearchFailed
from experiment.manager.process import find_manager, manager_log, manager_status
from experiment.manager.records import ENDED, Experiment, Trial

STDERR = "trial.stderr"
IDLE = 15
"""Seconds without a running trial after which an experiment is over whose tuner has no more parameters."""


def follow(folder: Path) -> Iterator[Experiment]:
    """Yields what is recorded of a running experiment, twice a second until all its trials have ended.

    Raises:
        SearchFailed: All trials failed, or the manager ended or reports an error.
    """
    manager = find_manager(folder)
    idle_since = math.inf
    while True:
        # The status before the records: what has ended by then is in them.
        if (status := manager_status(manager)) is None:
            manager = find_manager(folder)  # a new one, if it was resumed meanwhile
            status = manager_status(manager)
        experiment = records.read(folder)
        yield experiment
        alive = [trial for trial in experiment.trials if trial.state not in ENDED]
        if experiment.finished or (not alive and status and status["status"] == "DONE"):
            break
        # A tuner may say that there are no more while the last trial that it gave waits to be started, which takes
        # NNI seconds; and where a tuner has fewer than the experiment was to have, NNI never says that it is done.
        if not alive and status and status["status"] == "TUNER_NO_MORE_TRIAL":
            idle_since = min(idle_since, time.monotonic())
        else:
            idle_since = math.inf
        if time.monotonic() - idle_since > IDLE:
            break
        if status is None or status["status"] == "ERROR":
            what = f"reports an error: {last_error(manager_log(folder).read_text())}" if status else "has ended"
            raise SearchFailed(f"NNI's manager {what} (log: {manager_log(folder)})")
        time.sleep(0.5)
    if experiment.trials and all(trial.failed for trial in experiment.trials):
        last = experiment.trials[-1]
        raise SearchFailed(f"all {len(experiment.trials)} trials failed; the last one: {reason(last)}")


def reason(trial: Trial) -> str:
    """Returns in one line why a trial failed: its last error, and the file that has the rest."""
    return why(trial) if trial.cancelled else f"{why(trial)} (log: {trial.folder / STDERR})"


def why(trial: Trial) -> str:
    """Returns in one line why a trial failed: its last error, or who ended it."""
    if trial.cancelled:
        return "cancelled by a user"
    if trial.state == "USER_CANCELED":
        return "killed from outside (out of memory?)"
    return last_error(stderr(trial)) or "no error message"


def stderr(trial: Trial) -> str:
    """Returns what a trial wrote to its standard error, which is where errors are; empty if there is no such file."""
    log = trial.folder / STDERR
    return log.read_text(errors="replace") if log.exists() else ""


def last_error(text: str) -> str:
    """Returns the message of the last traceback, or the last line where there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    begin = max((n for n, line in enumerate(lines) if line.startswith("Traceback ")), default=None)
    if begin is not None:
        for line in lines[begin + 1 :]:
            if re.match(r"[\w.]+(: |$)", line):
                return line
    return lines[-1].strip() if lines else ""
