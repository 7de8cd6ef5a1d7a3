"""The process of NNI's manager: where it is, what it says of its state, where its portal answers.

An experiment is named by its folder, ``<working directory>/<id>``.
"""

import socket
from contextlib import suppress
from pathlib import Path

import psutil
import requests

from model_space.errors import InputError

FIRST_PORT = 8080
"""The first port that is tried, which is NNI's default."""


def find_manager(folder: Path) -> psutil.Process | None:
    """Returns the process of the manager of an experiment; None where it does not run."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []  # none for a process that has ended, and whose parent has not taken note
        experiment = Path(argument_of(words, "--experiments-directory"), argument_of(words, "--experiment-id"))
        if words and experiment.resolve() == folder.resolve():
            return process
    return None


def left_of(folder: Path) -> list[psutil.Process]:
    """Returns the tuner and the trials of an experiment, which live on for seconds when their manager is killed."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            log = environment.get("NNI_LOG_DIRECTORY")  # the tuner's
            if environment.get("NNI_EXP_ID") == folder.name or (log and Path(log).parent.resolve() == folder.resolve()):
                found.append(process)
    return found


def argument_of(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


def manager_status(manager: psutil.Process | None) -> dict | None:
    """Returns what a manager says of its state: its status, in NNI's word, and errors; None where it has ended."""
    if manager is None:
        return None
    try:
        port = argument_of(manager.cmdline(), "--port")
        answer = requests.get(f"http://127.0.0.1:{port}/api/v1/nni/check-status", timeout=20)
        answer.raise_for_status()
        return answer.json()
    except psutil.Error:
        return None
    except requests.RequestException:
        alive = manager.is_running() and manager.status() != psutil.STATUS_ZOMBIE
        return {"status": "NO_ANSWER", "errors": []} if alive else None


def portal(folder: Path) -> str | None:
    """Returns the address of the web page of an experiment; None where no manager runs."""
    manager = find_manager(folder)
    return f"http://127.0.0.1:{argument_of(manager.cmdline(), '--port')}" if manager else None


def free_port(port: int | None) -> int:
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


def manager_log(folder: Path) -> Path:
    """Returns the file of what the manager and the tuner printed."""
    return folder / "log" / "nnictl_stderr.log"
