"""Compares the found architecture with MCAN and with random search: all are trained and evaluated alike."""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiment.manager.lifeline import pool
from experiment.settings import Settings
from model_space.architecture import Architecture, Space
from model_space.encoders.lstm import LSTMSettings
from model_space.files import write_text, write_whole
from model_space.spaces.mcan import MCANSettings
from trainer.callbacks.curve import Epoch, read_curve
from trainer.data.splits import Data, load_data, load_split
from trainer.derivation import samples
from trainer.evaluation.evaluate import evaluate
from trainer.train import load_trained, train

RESULT = "result.json"
BY_QUESTION = "accuracy_by_question.npy"

_settings: Settings
_data: Data
"""What all trainings of a process share. They are set when the process begins."""

Result = dict[str, Any]
"""What is kept of a training: `overall` and `per_answer_type` on the test split and `val` on the validation split, in
percent, `parameters`, and `seconds` of the clock and `cpu_seconds` of the processor for the training."""


class Training(NamedTuple):
    """One training: an architecture by its name, and the seed with which it begins."""

    name: str
    seed: int

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"

    def folder(self, within: Path) -> Path:
        """Returns the folder of its checkpoint, its curve and its result."""
        return within / f"{self.name.replace(' ', '-')}-seed{self.seed}"


def rivals(found: Architecture, seed: int, random: int) -> dict[str, Architecture]:
    """Returns the found architecture and those that it is compared with.

    Args:
        found: The found architecture.
        seed: Random seed of the random architectures.
        random: Number of random architectures. A space with fewer gives all that it has.

    Returns:
        ``found``, ``mcan`` with the number of layers that makes it closest in number of weights, and ``random 1`` and
        so on, different architectures that are sampled uniformly from the space of the found one.
    """
    sampled = samples(found.space, random, seed)
    return {
        "found": found,
        "mcan": mcan_of_size(found.space, found.parameters()),
        **{f"random {i}": Architecture(space=found.space, choices=each) for i, each in enumerate(sampled, start=1)},
    }


def mcan_of_size(space: Space, size: int) -> Architecture:
    """Returns MCAN, with the sizes of a space and the number of layers that makes its number of weights closest."""

    def mcan(layers: int) -> Architecture:
        changes = {"backbone": MCANSettings(layers=layers), "encoder": LSTMSettings()}
        return Architecture(space=space.model_copy(update=changes), choices={})

    return min(map(mcan, range(1, 13)), key=lambda architecture: abs(architecture.parameters() - size))


def best_random(results: Mapping[Training, Result]) -> str:
    """Returns the name of the random architecture that random search finds: the best one on the validation split."""
    return max((each for each in results if each.name.startswith("random")), key=lambda each: results[each]["val"]).name


def interval(ours: np.ndarray, theirs: np.ndarray, samples: int = 2000) -> tuple[float, float]:
    """Returns the 95 % interval of the difference of two mean accuracies, by a paired bootstrap.

    Each sample draws questions, the same for both, and trainings, for each of its own.

    Args:
        ours: Accuracy of each training at each question, ``(trainings, questions)``, in percent.
        theirs: The same of the other network.
        samples: Number of samples.
    """
    generator = np.random.default_rng(0)
    questions = ours.shape[1]
    differences = []
    for _ in range(samples):
        drawn = [each[generator.integers(len(each), size=len(each))].mean(0) for each in (ours, theirs)]
        counts = np.bincount(generator.integers(questions, size=questions), minlength=questions)
        differences.append(float(counts @ (drawn[0] - drawn[1])) / questions)
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def by_question(trainings: list[Training], folder: Path) -> np.ndarray:
    """Returns the accuracy of each training at each test question, ``(trainings, questions)``, in percent."""
    return np.stack([np.load(each.folder(folder) / BY_QUESTION, allow_pickle=False) for each in trainings])


def compare(
    architectures: Mapping[str, Architecture],
    trainings: list[Training],
    settings: Settings,
    folder: Path,
    watch: Callable[[dict[Training, list[Epoch]]], None],
) -> dict[Training, Result]:
    """Trains and evaluates architectures, several at once, each in a process of its own.

    What has a result in the folder already is not trained again, and what was interrupted resumes.

    Args:
        architectures: Name → architecture.
        trainings: What is trained.
        settings: Names the data and how to train.
        folder: Gets a folder for each training, with the checkpoint, the curve and the result.
        watch: Is told the curve of each training, twice a second.
    """
    missing = [training for training in trainings if not (training.folder(folder) / RESULT).exists()]
    workers, threads = shares(len(missing))
    with pool(max(workers, 1), _begin, threads, settings) as processes:
        running: set[Future] = {
            processes.submit(_train, architectures[training.name], training.seed, training.folder(folder))
            for training in missing
        }
        try:
            while running:
                done, running = wait(running, timeout=0.5)
                watch({training: read_curve(training.folder(folder)) for training in trainings})
                for future in done:
                    future.result()
        except BaseException:  # also a signal that only this process was sent
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return {training: json.loads((training.folder(folder) / RESULT).read_text()) for training in trainings}


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


def _train(architecture: Architecture, seed: int, folder: Path) -> None:
    result, accuracies = measure(architecture, seed, folder, _settings, _data)
    with write_whole(folder / BY_QUESTION) as partial, partial.open("wb") as file:
        np.save(file, accuracies)
    write_text(folder / RESULT, json.dumps(result, indent=1) + "\n")  # last: it says that the training is whole


def measure(
    architecture: Architecture, seed: int, folder: Path, settings: Settings, data: Data
) -> tuple[Result, np.ndarray]:
    """Trains an architecture from new weights and evaluates it on the test split.

    Args:
        architecture: The architecture.
        seed: Seed of the training.
        folder: Gets the checkpoint and the curve.
        settings: Say how to train, and name the test split.
        data: Training and validation split.

    Returns:
        What is kept of the training, and its accuracy at each test question in percent, ``(questions,)``.
    """
    start, start_of_cpu = time.monotonic(), time.process_time()
    checkpoint = train(data, architecture, settings.train.model_copy(update={"seed": seed}), folder)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - start_of_cpu
    network, vocabulary, _ = load_trained(checkpoint)
    split = load_split(settings.data, settings.data.final, vocabulary)
    accuracy = evaluate(network, split, settings.data.accuracy)
    result = {
        "overall": accuracy.overall,
        "per_answer_type": accuracy.per_answer_type,
        "val": read_curve(folder)[-1]["accuracy"],
        "parameters": architecture.parameters(),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }
    return result, np.array(list(accuracy.per_question.values()), dtype=np.float32)
