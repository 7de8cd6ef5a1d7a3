"""Compares the found architecture with MCAN and with a random architecture: all are trained and evaluated alike."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from experiment.settings import Settings
from model_space.architecture import Architecture
from model_space.encoders.lstm import LSTMSettings
from model_space.files import write_text
from model_space.spaces.mcan import MCANSettings
from trainer.callbacks.curve import Epoch, read_curve
from trainer.data.splits import Data, load_data, load_split
from trainer.evaluation.evaluate import evaluate
from trainer.train import load_trained, train

RESULT = "result.json"
SAMPLES = 32
"""Number of random architectures, of which the one closest in size is taken."""

_settings: Settings
_data: Data
"""What all trainings of a process share. They are set when the process begins."""

Result = dict[str, Any]
"""The fields `overall`, `per_answer_type`, `parameters` and `seconds` of `experiment.results.report.Evaluated`."""


def rivals(found: Architecture, seed: int) -> dict[str, Architecture]:
    """Returns the found architecture and those that it is compared with, of a similar number of weights.

    Args:
        found: The found architecture.
        seed: Random seed of the random architectures.

    Returns:
        ``found``, ``mcan`` with the number of layers that makes it closest in size, and ``random``, the closest in
        size of random architectures of the same space.
    """
    size = found.parameters()

    def distance(architecture: Architecture) -> int:
        return abs(architecture.parameters() - size)

    def mcan(layers: int) -> Architecture:
        changes = {"backbone": MCANSettings(layers=layers), "encoder": LSTMSettings()}
        return Architecture(space=found.space.model_copy(update=changes), choices={})

    depths = [mcan(layers) for layers in range(1, 13)]
    samples = [Architecture(space=found.space, choices=found.space.random_choices(seed + i)) for i in range(SAMPLES)]
    others = [sample for sample in samples if sample.choices != found.choices]
    return {"found": found, "mcan": min(depths, key=distance), "random": min(others, key=distance)}


def compare(
    architectures: dict[str, Architecture],
    settings: Settings,
    folder: Path,
    watch: Callable[[dict[str, list[Epoch]]], None],
) -> dict[str, Result]:
    """Trains and evaluates architectures, several at once, each in a process of its own.

    Architectures whose result is in the folder already are not trained again, and interrupted ones resume.

    Args:
        architectures: Name → architecture.
        settings: Names the data and how to train.
        folder: Gets a folder for each name, with the checkpoint, the curve and the result.
        watch: Is told the curve of each architecture, twice a second.

    Returns:
        Name → result.
    """
    missing = {name: a for name, a in architectures.items() if not (folder / name / RESULT).exists()}
    workers, threads = shares(len(missing))
    context = multiprocessing.get_context("spawn")  # forked processes inherit torch's threads in a broken state
    with ProcessPoolExecutor(max(workers, 1), context, initializer=_begin, initargs=(threads, settings)) as pool:
        running: set[Future] = {
            pool.submit(_train, architecture, folder / name) for name, architecture in missing.items()
        }
        try:
            while running:
                done, running = wait(running, timeout=0.5)
                watch({name: read_curve(folder / name) for name in architectures})
                for future in done:
                    future.result()
        except BaseException:  # also a signal that only this process was sent
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return {name: json.loads((folder / name / RESULT).read_text()) for name in architectures}


def shares(tasks: int) -> tuple[int, int]:
    """Returns how many processes train at a time, and with how many threads each.

    On a GPU one process trains at a time, on CPUs as many as there are tasks and cores.

    Args:
        tasks: Number of trainings.
    """
    cores = os.cpu_count() or 1
    workers = 1 if torch.cuda.is_available() else min(tasks, cores)
    return workers, max(1, cores // max(workers, 1))


def _begin(threads: int, settings: Settings) -> None:
    """Reads the data, once for all trainings of a process."""
    global _settings, _data
    torch.set_num_threads(threads)
    _settings, _data = settings, load_data(settings.data)


def _train(architecture: Architecture, folder: Path) -> None:
    start = time.monotonic()
    checkpoint = train(_data, architecture, _settings.train, folder)
    seconds = time.monotonic() - start
    network, vocabulary, _ = load_trained(checkpoint)
    data = _settings.data
    accuracy = evaluate(network, load_split(data, data.final, vocabulary), data.accuracy)
    result = {
        "overall": accuracy.overall,
        "per_answer_type": accuracy.per_answer_type,
        "parameters": architecture.parameters(),
        "seconds": seconds,
    }
    write_text(folder / RESULT, json.dumps(result, indent=1) + "\n")
