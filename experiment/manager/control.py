"""Starts, resumes and stops the experiment of a configuration.

NNI's manager is a process of its own that outlives the one which started it, as with ``nnictl``. What is started here
can be stopped there, and the other way round.
"""

import importlib.util
import shutil
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
from nni.experiment import Experiment as NNIExperiment
from nni.experiment import RunMode
from nni.experiment.config import ExperimentConfig
from nni.runtime.log import silence_stdout

from experiment.manager import loopback, nni_private, records
from experiment.manager.configuration import Configuration
from experiment.manager.errors import SearchFailed
from experiment.manager.process import find_manager, free_port, left_of, manager_log, manager_status, portal
from model_space.errors import InputError
from model_space.files import check_writable

ROOM = 50_000_000
"""The bytes of the disk that have to be free where an experiment starts."""


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
    # A tuner of before would take its manager's place at the new one, and NNI would stop there.
    _kill(left_of(folder))
    _repeat(folder)
    return _launch(config, port, action="resume", id=folder.name)


def stop(folder: Path, patience: float = 60) -> None:
    """Ends the manager and all that it started; does nothing where it does not run.

    What the trials have done stays, and :func:`resume` continues it.

    Args:
        folder: The folder of the experiment.
        patience: Seconds after which processes that have not ended are killed.
    """
    manager = find_manager(folder)
    if manager is None:
        return
    try:
        family = [manager, *manager.children(recursive=True)]
        manager.terminate()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(family[:1], timeout=patience)
    _, orphans = psutil.wait_procs(family[1:], timeout=2)
    _kill(alive + orphans)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


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


def _launch(config: ExperimentConfig, port: int | None, action: str, id: str | None = None) -> Path:
    """Starts NNI's manager for an experiment, and returns its folder."""
    if importlib.util.find_spec("nni_node") is None:
        raise InputError("NNI's manager is not installed: NNI has no package for this Python or this platform")
    experiment = NNIExperiment(config, id)
    nni_private.set_action(experiment, action)
    folder = Path(config.canonical_copy().experiment_working_directory, experiment.id)
    _check_room(folder.parent)
    loopback.enable()
    silence_stdout()
    nni_private.set_wait_for_manager(partial(_wait_for_manager, folder))
    check_writable(Path.home() / "nni-experiments" / ".experiment")  # where NNI keeps its list of experiments
    with _alone():
        chosen = free_port(port)
        try:
            experiment.start(chosen, run_mode=RunMode.Detach)
        except BaseException as error:  # Ctrl-C too: NNI would leave its manager running
            stop(folder, patience=2)
            if isinstance(error, Exception):
                raise SearchFailed(f"NNI's manager did not start: {error} (log: {manager_log(folder)})") from error
            raise
    return folder


@contextmanager
def _alone() -> Iterator[None]:
    """Lets one manager start at a time on this machine, whoever starts it: where two start on one port, NNI gives the
    experiment of the second to the first. The lock is a name that the network knows, as ports are, and no file."""
    with socket.socket(socket.AF_UNIX) as lock:
        while True:
            try:
                lock.bind("\0an NNI manager starts")
            except OSError:
                time.sleep(0.2)
            else:
                break
        yield


def _check_room(working_directory: Path) -> None:
    """Checks that experiments can be kept in a folder: NNI's manager would end without a word on a full disk."""
    check_writable(working_directory / "nni.sqlite")
    free = shutil.disk_usage(working_directory).free
    if free < ROOM:
        raise InputError(
            f"{working_directory}: {free / 1e6:.0f} MB are free on its disk; NNI's records and the checkpoints need "
            f"{ROOM / 1e6:.0f} MB at least: make room, or name another experimentWorkingDirectory"
        )


def _wait_for_manager(folder: Path, port: int, url_prefix: str | None = None) -> None:
    """Waits until the manager answers, at most a minute."""
    deadline = time.monotonic() + 60
    while True:
        status = manager_status(find_manager(folder))
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


def _repeat(folder: Path) -> None:
    """Makes failed trials waiting ones in NNI's records, so that they are run again under their id.

    Also those that NNI had taken up again, and whose manager was killed before they ran: it would leave them for ever.
    """
    failed = {trial.id for trial in records.read(folder).trials if trial.failed and not trial.cancelled}
    now = int(time.time() * 1000)
    with closing(sqlite3.connect(folder / "db" / "nni.sqlite")) as database, database:
        last = dict(database.execute("select trialJobId, event from TrialJobEvent order by rowid"))
        taken_up = {trial for trial, event in last.items() if event == "ADD_RESUMED"}
        sql = "insert into TrialJobEvent (timestamp, trialJobId, event) values (?, ?, 'WAITING')"
        database.executemany(sql, [(now, trial) for trial in sorted(failed | taken_up)])
