"""NNI's manager: starts, resumes, follows and stops the experiment of a configuration file.

An experiment is named by its folder, ``<working directory>/<id>``. The manager is a process of its own that
outlives the one which started it, as with ``nnictl``; what is started here can be stopped there, and the other
way round.
"""

import importlib.util
import math
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psutil
import requests
from filelock import FileLock
from nni.experiment import Experiment as NNIExperiment
from nni.experiment import RunMode
from nni.experiment.config import ExperimentConfig
from nni.runtime.log import silence_stdout

from experiment.manager import loopback, nni_private, records
from experiment.manager.configuration import Configuration
from experiment.manager.errors import SearchFailed
from experiment.manager.records import ENDED, Experiment, Trial
from model_space.errors import InputError

FIRST_PORT = 8080
"""The first port that is tried, which is NNI's default."""

IDLE = 15
"""Seconds without a running trial after which an experiment is over whose tuner has no more parameters."""


def start(configuration: Configuration, port: int | None = None) -> Path:
    """Starts the experiment of a configuration and returns its folder.

    Args:
        configuration: The experiment.
        port: Port of the portal; None takes the first free one from 8080 on.

    Raises:
        InputError: NNI is not installed, the configuration is wrong, or the port is in use.
        SearchFailed: The manager did not start.
    """
    return _launch(configuration.for_nni(), port, action="create")


def resume(folder: Path, port: int | None = None) -> Path:
    """Resumes an experiment that was stopped or killed, and returns its folder.

    Interrupted trials run again, from their checkpoints. So do failed ones, which ``nnictl resume`` would leave as they
    are. It raises as :func:`start` does.
    """
    config = _recorded_config(folder)
    _repeat_failed(folder)
    return _launch(config, port, action="resume", id=folder.name)


def follow(folder: Path) -> Iterator[Experiment]:
    """Yields what is recorded of a running experiment, twice a second until all its trials have ended.

    Raises:
        SearchFailed: All trials failed, or the manager ended or reports an error.
    """
    manager = _process(folder)
    idle_since = math.inf
    while True:
        # The status before the records: what has ended by then is in them.
        if (status := _status(manager)) is None:
            manager = _process(folder)  # a new one, if it was resumed meanwhile
            status = _status(manager)
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
            what = f"reports an error: {_last_error(_log(folder).read_text())}" if status else "has ended"
            raise SearchFailed(f"NNI's manager {what} (log: {_log(folder)})")
        time.sleep(0.5)
    if experiment.trials and all(trial.failed for trial in experiment.trials):
        last = experiment.trials[-1]
        raise SearchFailed(f"all {len(experiment.trials)} trials failed; the last one: {reason(last)}")


def stop(folder: Path, patience: float = 60) -> None:
    """Ends the manager and all that it started; does nothing where it does not run.

    What the trials have done stays, and :func:`resume` continues it.

    Args:
        folder: The folder of the experiment.
        patience: Seconds after which processes that have not ended are killed.
    """
    manager = _process(folder)
    if manager is None:
        return
    try:
        family = [manager, *manager.children(recursive=True)]
        manager.terminate()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(family[:1], timeout=patience)
    _, orphans = psutil.wait_procs(family[1:], timeout=2)
    for process in alive + orphans:
        process.kill()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Stops the experiment when the block is left: at its end, on Ctrl-C, or when this process is told to end."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        stop(folder)
        for number, handler in before.items():
            signal.signal(number, handler)


def portal(folder: Path) -> str | None:
    """Returns the address of the web page of an experiment; None where no manager runs."""
    manager = _process(folder)
    return f"http://127.0.0.1:{_argument(manager.cmdline(), '--port')}" if manager else None


def reason(trial: Trial) -> str:
    """Returns in one line why a trial failed: its last error, and the file that has the rest."""
    log = trial.folder / "trial.stderr"
    text = log.read_text(errors="replace") if log.exists() else ""
    if trial.cancelled:
        return "cancelled by a user"
    if trial.state == "USER_CANCELED":
        return f"killed from outside (out of memory?) (log: {log})"
    return f"{_last_error(text) or 'no error message'} (log: {log})"


def _last_error(text: str) -> str:
    """Returns the message of the last traceback, or the last line where there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    begin = max((n for n, line in enumerate(lines) if line.startswith("Traceback ")), default=None)
    if begin is not None:
        for line in lines[begin + 1 :]:
            if re.match(r"[\w.]+(: |$)", line):
                return line
    return lines[-1].strip() if lines else ""


def _log(folder: Path) -> Path:
    """Returns the file of what the manager and the tuner printed."""
    return folder / "log" / "nnictl_stderr.log"


def _launch(config: ExperimentConfig, port: int | None, action: str, id: str | None = None) -> Path:
    """Starts NNI's manager for an experiment, and returns its folder."""
    if importlib.util.find_spec("nni_node") is None:
        raise InputError("NNI's manager is not installed: NNI has no package for this Python or this platform")
    experiment = NNIExperiment(config, id)
    nni_private.set_action(experiment, action)
    folder = Path(config.canonical_copy().experiment_working_directory, experiment.id)
    loopback.enable()
    silence_stdout()
    nni_private.set_wait_for_manager(partial(_wait_for_manager, folder))
    home = Path.home() / "nni-experiments"  # where NNI keeps its list of experiments
    home.mkdir(exist_ok=True)
    # One at a time: where two managers start on one port, NNI gives the experiment of the second to the first.
    with FileLock(home / ".starting"):
        chosen = _free_port(port)
        try:
            experiment.start(chosen, run_mode=RunMode.Detach)
        except BaseException as error:  # Ctrl-C too: NNI would leave its manager running
            stop(folder, patience=2)
            if isinstance(error, Exception):
                raise SearchFailed(f"NNI's manager did not start: {error} (log: {_log(folder)})") from error
            raise
    return folder


def _wait_for_manager(folder: Path, port: int, url_prefix: str | None = None) -> None:
    """Waits until the manager answers, at most a minute."""
    deadline = time.monotonic() + 60
    while True:
        status = _status(_process(folder))
        if status and status["status"] != "NO_ANSWER":
            return
        if status is None or time.monotonic() > deadline:
            raise RuntimeError(f"no answer on port {port}")
        time.sleep(0.2)


def _recorded_config(folder: Path) -> ExperimentConfig:
    """Returns the configuration with which an experiment was started that does not run now."""
    if address := portal(folder):
        raise InputError(f"experiment {folder.name} is running already: {address}")
    config = ExperimentConfig(**records.read(folder).config)
    config.experiment_working_directory = str(folder.parent)  # it may have been moved since
    return config


def _repeat_failed(folder: Path) -> None:
    """Makes failed trials interrupted ones in NNI's records, so that they are run again under their id."""
    failed = [trial for trial in records.read(folder).trials if trial.failed and not trial.cancelled]
    now = int(time.time() * 1000)
    with closing(sqlite3.connect(folder / "db" / "nni.sqlite")) as database, database:
        sql = "insert into TrialJobEvent (timestamp, trialJobId, event) values (?, ?, 'WAITING')"
        database.executemany(sql, [(now, trial.id) for trial in failed])


def _free_port(port: int | None) -> int:
    """Returns the port that was asked for, or the first free one.

    Raises:
        InputError: The port is in use.
    """
    for candidate in [port] if port else range(FIRST_PORT, 2**16):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", candidate))
                return candidate
            except (PermissionError, OverflowError):
                raise InputError(f"port {candidate} cannot be used; give one from 1024 to 65535") from None
            except OSError:
                continue
    raise InputError(f"port {port} is in use; give another one, or none to take a free one")


def _process(folder: Path) -> psutil.Process | None:
    """Returns the process of the manager of an experiment; None where it does not run."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []  # none for a process that has ended, and whose parent has not taken note
        experiment = Path(_argument(words, "--experiments-directory"), _argument(words, "--experiment-id"))
        if words and experiment.resolve() == folder.resolve():
            return process
    return None


def _argument(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


def _status(manager: psutil.Process | None) -> dict | None:
    """Returns what a manager says of its state: its status, in NNI's word, and errors; None where it has ended."""
    if manager is None:
        return None
    try:
        port = _argument(manager.cmdline(), "--port")
        answer = requests.get(f"http://127.0.0.1:{port}/api/v1/nni/check-status", timeout=20)
        answer.raise_for_status()
        return answer.json()
    except psutil.Error:
        return None
    except requests.RequestException:
        alive = manager.is_running() and manager.status() != psutil.STATUS_ZOMBIE
        return {"status": "NO_ANSWER", "errors": []} if alive else None
