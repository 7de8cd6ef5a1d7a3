"""What a process starts ends with it, also when it is killed: the children of NNI's manager, and those of a pool.

NNI ends its trials and its tuner when it is stopped in order. Killed with -9 it cannot: a trial would then
train on, in the folder of the one that ``nnictl resume`` starts again under its id, and the tuner would take
the new manager for its own and bring it into an error. Likewise the processes of a pool would train on, in the folders
of those that the next run starts.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from threading import Thread
from typing import Any

import psutil


def end_with_manager() -> None:
    """Ends this process soon after the manager that it belongs to; does nothing where there is none."""
    for ancestor in psutil.Process().parents():
        if any(argument.endswith("main.js") for argument in ancestor.cmdline()):
            Thread(target=_watch, args=(ancestor,), daemon=True).start()
            return


def pool(processes: int | None, begin: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Returns a pool of processes that end with this one.

    They are spawned: forked ones inherit torch's threads in a broken state.

    Args:
        processes: Number of processes; None for one a core.
        begin: What each of them calls at its beginning.
        arguments: The arguments of that call.
    """
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (begin, *arguments))


def _begin(begin: Callable[..., None], *arguments: Any) -> None:
    Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    begin(*arguments)


def _end_with(parent: Any) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _watch(manager: psutil.Process) -> None:
    while manager.is_running() and manager.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
