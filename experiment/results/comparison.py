"""The found architecture against MCAN and a random one of its space: trained alike, evaluated alike."""

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
from trainer.callbacks import Epoch, read_curve
from trainer.data.splits import load_data, load_split
from trainer.evaluation.evaluate import evaluate
from trainer.train import load_trained, train

RESULT = "result.json"
DRAWS = 32
"""random architectures among which that of the closest size is taken"""

Result = dict[str, Any]
"""overall, per_answer_type (percent), parameters, seconds of training"""


def rivals(found: Architecture, seed: int) -> dict[str, Architecture]:
    """The found architecture, and of MCAN and of random draws from its space the ones closest to it in size."""
    size = found.parameters()

    def distance(architecture: Architecture) -> int:
        return abs(architecture.parameters() - size)

    def mcan(layers: int) -> Architecture:
        changes = {"backbone": MCANSettings(layers=layers), "encoder": LSTMSettings()}
        return Architecture(space=found.space.model_copy(update=changes), choices={})

    depths = [mcan(layers) for layers in range(1, 13)]
    draws = [Architecture(space=found.space, choices=found.space.random_choices(seed + draw)) for draw in range(DRAWS)]
    others = [draw for draw in draws if draw.choices != found.choices]
    return {"found": found, "mcan": min(depths, key=distance), "random": min(others, key=distance)}


def compare(
    architectures: dict[str, Architecture],
    settings: Settings,
    folder: Path,
    watch: Callable[[dict[str, list[Epoch]]], None],
) -> dict[str, Result]:
    """Trains and evaluates each architecture in a process of its own; what is done already is not done again.

    Args:
        folder: for one folder an architecture, with its checkpoint, curve and result.
        watch: is told the curve of each, twice a second.
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
    """How many processes train at a time, and with how many threads: one on a GPU, else as many as the cores allow."""
    cores = os.cpu_count() or 1
    workers = 1 if torch.cuda.is_available() else min(tasks, cores)
    return workers, max(1, cores // max(workers, 1))


def _begin(threads: int, settings: Settings) -> None:
    """Once a process: the data is read here, not for each training."""
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
