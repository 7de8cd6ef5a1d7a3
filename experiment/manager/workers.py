"""The processes of one search. The one that NNI started is the first: it reports, and starts the others, the workers.

    python -m experiment.manager.workers

is a worker. It reads what to search from its standard input, and ends when that input ends. That is when the first
process ends, however it was killed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import torch
from torch.distributed import TCPStore

from experiment.settings import Settings
from model_space.errors import InputError

LOOPBACK = "127.0.0.1"
PATIENCE = 10
"""Seconds for which a worker keeps an error to itself: as a rule the first process has the same, and ends both."""


@contextmanager
def workers(settings: Settings, folder: Path) -> Iterator[None]:
    """Makes this process the first of `search.processes`; its workers search with it, as long as the block lasts.

    Args:
        settings: Settings of the search.
        folder: Folder of the search.

    Raises:
        InputError: There are fewer GPUs.
    """
    count = settings.search.processes
    if count == 1:
        yield
        return
    if torch.cuda.is_available() and (gpus := torch.cuda.device_count()) < count:
        raise InputError(f"search.processes is {count}, and there are {gpus} GPUs, expected one for each process")
    threads = max(1, torch.get_num_threads() // count)
    torch.set_num_threads(threads)
    # They meet here, and nowhere else than on this machine.
    listener = socket.create_server((LOOPBACK, 0))
    port = listener.getsockname()[1]
    meeting = TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    os.environ |= {  # as torchrun makes it
        "TORCHELASTIC_RUN_ID": "search",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": str(meeting.port),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        **_rank(0),
    }
    task = json.dumps({"settings": settings.model_dump(mode="json"), "folder": str(folder)})
    started: list[subprocess.Popen[str]] = []
    over = Event()
    Thread(target=_end_with, args=(started, over), daemon=True).start()
    try:
        for rank in range(1, count):
            environment = os.environ | _rank(rank) | {"OMP_NUM_THREADS": str(threads)}
            command = [sys.executable, "-m", "experiment.manager.workers"]
            process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True)
            started.append(process)
            assert process.stdin  # a pipe
            process.stdin.write(f"{task}\n")
            process.stdin.flush()
        yield
    except InputError:
        raise
    except Exception:
        time.sleep(1)  # then let through: if it comes of another process that ended, that ends this one first
        raise
    finally:
        over.set()
        for process in started:
            process.kill()
            process.wait()


def _rank(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _end_with(processes: list[subprocess.Popen], over: Event) -> None:
    """Ends all processes when one has failed, for which the others would wait."""
    while not over.wait(0.2):
        for process in processes:
            if code := process.poll():
                if code < 0:
                    name = signal.Signals(-code).name
                    print(f"a process of the search was ended by {name} (out of memory?)", file=sys.stderr)
                os._exit(abs(code))  # it has said why, if it could; the others end with this one


def main() -> None:
    task = json.loads(sys.stdin.readline())
    Thread(target=_end_with_first, daemon=True).start()
    from trainer.data.splits import load_data
    from trainer.search import search

    settings = Settings.model_validate(task["settings"])
    try:
        data = load_data(settings.data)
        search(data, settings.space_for(data.sizes), settings.search, Path(task["folder"]), report=lambda epoch: None)
    except InputError as error:
        time.sleep(PATIENCE)
        print(error, file=sys.stderr)
        sys.exit(2)


def _end_with_first() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
