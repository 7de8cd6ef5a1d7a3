"""A tabular benchmark: every architecture of a small space, trained from new weights, in one table.

    python -m benchmarks.tabular                        # trains what is missing, which takes hours, and sums up
    python -m benchmarks.tabular --seeds 2 --limit 304  # the first 48 of the 256 once more, which gives the noise
    python -m benchmarks.tabular --limit 0              # sums up what is there

The space, the data and the training are those of the settings. The architectures come in a random order, so that a
table that is not yet whole is a random sample of the space. Each training has a seed of its own. Stopped and started
again, it goes on where it was.

A strategy that asks for accuracies can be run on the table a hundred times in seconds:

    table = Table.load()
    choices = table.trainings[0].choices
    accuracy = table.accuracy(choices)
"""

import argparse
import csv
import io
import itertools
import math
import os
import random
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable
from torch import Tensor
from torchmetrics.functional import kendall_rank_corrcoef

from experiment.manager.lifeline import pool
from experiment.results.comparison import measure as train_and_evaluate
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture, Space
from model_space.contracts import Choices
from model_space.files import write_text
from trainer.callbacks.curve import read_curve
from trainer.data.splits import Data, load_data
from trainer.derivation import samples

FILE = Path(__file__).with_suffix(".csv")
"""The table that is kept with the code."""
SETTINGS = Path("settings/digits.yml")
DRAWS = (1, 2, 4, 8, 16)
"""Numbers of trainings of the random searches that are summed up, and how many searches of each."""
SEARCHES = 4000
LEVELS = (0, 80, 95, 101)
"""Bounds of the accuracies for which the deviation over seeds is summed up, in percent."""

_settings: Settings
_data: Data
"""What all trainings of a process share. They are set when the process begins."""


@dataclass(frozen=True)
class Training:
    """One training of one architecture."""

    choices: Choices
    seed: int
    val: tuple[float, ...]
    """Accuracy on the validation split after each epoch, in percent."""
    test: float
    """Accuracy on the test split at the end, in percent."""
    seconds: float
    """Seconds of training, on one thread."""


@dataclass(frozen=True)
class Table:
    """The trainings of the architectures of a space."""

    space: Space
    trainings: list[Training]

    @classmethod
    def load(cls, settings: Path = SETTINGS, file: Path = FILE) -> Self:
        """Reads the table, whose space is that of the settings."""
        read = read_settings(settings)
        return cls(read.space_for(load_data(read.data).sizes), list(_read(file)))

    def accuracy(self, choices: Choices, epoch: int | None = None, split: str = "val") -> float:
        """Returns an accuracy of an architecture in percent, the mean over its trainings.

        Args:
            choices: The architecture.
            epoch: Number of the epoch, from 1, after which it is validated; None for the last.
            split: ``val``, or ``test``, which only the report of a study may look at.

        Raises:
            KeyError: The architecture was not trained.
        """
        of_it = [training for training in self.trainings if training.choices == choices]
        if not of_it:
            raise KeyError(f"not in the table: {choices}")
        if split == "test":
            return statistics.fmean(training.test for training in of_it)
        return statistics.fmean(training.val[(epoch or 0) - 1] for training in of_it)


def _read(file: Path) -> Iterator[Training]:
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            seed, seconds, test = int(row.pop("seed")), float(row.pop("seconds")), float(row.pop("test"))
            val = [float(row.pop(key)) for key in list(row) if key.startswith("epoch")]
            yield Training(dict(row), seed, tuple(val), test, seconds)


def _write(file: Path, trainings: Iterable[Training]) -> None:
    rows = [
        training.choices
        | {"seed": training.seed, "seconds": f"{training.seconds:.1f}", "test": f"{training.test:.3f}"}
        | {f"epoch{epoch}": f"{accuracy:.3f}" for epoch, accuracy in enumerate(training.val, start=1)}
        for training in trainings
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())


def every_architecture(space: Space) -> list[Choices]:
    """Returns the choices of all architectures of a space, in an order that is random and always the same."""
    all_choices = samples(space, space.size(), seed=0)
    random.Random(0).shuffle(all_choices)
    return all_choices


def measure(choices: Choices, seed: int) -> Training:
    """Trains an architecture and evaluates it."""
    architecture = Architecture(space=_settings.space_for(_data.sizes), choices=choices)
    with tempfile.TemporaryDirectory() as folder:
        result, _ = train_and_evaluate(architecture, seed, Path(folder), _settings, _data)
        val = tuple(epoch["accuracy"] for epoch in read_curve(Path(folder)))
    return Training(choices, seed, val, result["overall"], result["seconds"])


def _begin(settings: Settings) -> None:
    global _settings, _data
    torch.set_num_threads(1)
    _settings, _data = settings, load_data(settings.data)


def by_architecture(trainings: Iterable[Training]) -> list[list[Training]]:
    """Returns the trainings of each architecture."""
    of_each: dict[str, list[Training]] = {}
    for training in trainings:
        of_each.setdefault(repr(sorted(training.choices.items())), []).append(training)
    return list(of_each.values())


def over_seeds(trainings: Iterable[Training]) -> RichTable:
    """Returns by how much the trainings of one architecture differ, by how good it is."""
    repeated = [[each.test for each in of_one] for of_one in by_architecture(trainings) if len(of_one) > 1]
    made = RichTable("test accuracy, mean over seeds, %", "all")
    levels = [repeated]
    for low, high in itertools.pairwise(LEVELS):
        made.add_column(f"{low} to {min(high, 100)}")
        levels.append([tests for tests in repeated if low <= statistics.fmean(tests) < high])
    made.add_row("architectures", *(str(len(level)) for level in levels))
    made.add_row("deviation over seeds, points", *map(_pooled_deviation, levels))
    return made


def _pooled_deviation(groups: Sequence[Sequence[float]]) -> str:
    if not groups:
        return ""
    freedom = sum(len(group) - 1 for group in groups)
    return f"{math.sqrt(sum((len(group) - 1) * statistics.variance(group) for group in groups) / freedom):.1f}"


def summary(trainings: Sequence[Training]) -> list[RichTable]:
    """Returns how the accuracies are distributed, how early they can be told, and what random search makes of them.

    They are those of the first training of each architecture. By how much others of it differ comes last, if there are.
    """
    all_trainings, trainings = trainings, [of_one[0] for of_one in by_architecture(trainings)]
    test = sorted(training.test for training in trainings)
    spread = RichTable(
        "test accuracy, %", *(f"{share} %" for share in (0, 10, 25, 50, 75, 90, 100)), "mean ± deviation"
    )
    quantiles = np.quantile(test, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1])
    deviation = statistics.stdev(test) if len(test) > 1 else 0.0
    spread.add_row(
        "quantiles", *(f"{each:.1f}" for each in quantiles), f"{statistics.fmean(test):.1f} ± {deviation:.1f}"
    )

    epochs = len(trainings[0].val)
    early = RichTable("validated after epoch", *map(str, range(1, epochs + 1)))
    final = torch.tensor([training.test for training in trainings])
    by_epoch = torch.tensor([training.val for training in trainings]).T
    taus = [cast(Tensor, kendall_rank_corrcoef(accuracies, final)).item() for accuracies in by_epoch]
    early.add_row("Kendall's τ with the test accuracy", *(f"{tau:.2f}" for tau in taus))

    draws = RichTable("random search, trainings", *map(str, DRAWS))
    found = [_random_search(trainings, n) for n in DRAWS]
    draws.add_row(
        "test accuracy of its best", *(f"{statistics.fmean(each):.1f} ± {statistics.stdev(each):.1f}" for each in found)
    )
    repeated = [over_seeds(all_trainings)] if len(all_trainings) > len(trainings) else []
    return [spread, early, draws, *repeated]


def _random_search(trainings: Sequence[Training], n: int) -> list[float]:
    """Returns, for each of many searches, the test accuracy of the best of n different trainings by validation."""
    generator = random.Random(0)
    picks = (generator.sample(trainings, min(n, len(trainings))) for _ in range(SEARCHES))
    return [max(picked, key=lambda training: training.val[-1]).test for picked in picks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument("--file", type=Path, default=FILE, help="where the table is (benchmarks/tabular.csv)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each architecture")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, help="only the first so many trainings")
    args = parser.parse_args()
    settings = read_settings(args.settings)
    space = settings.space_for(load_data(settings.data).sizes)
    trainings = list(_read(args.file)) if args.file.exists() else []
    known = [(training.choices, training.seed) for training in trainings]
    wanted = list(zip(args.seeds * every_architecture(space), itertools.count()))[: args.limit]
    missing = [each for each in wanted if each not in known]
    with pool(args.processes, _begin, settings) as processes:
        runs = [processes.submit(measure, *each) for each in missing]
        for run in track(as_completed(runs), f"{len(missing)} trainings", total=len(missing)):
            trainings.append(run.result())
            _write(args.file, trainings)
    console = Console(width=120)
    trained = len(by_architecture(trainings))
    console.print(f"{args.file}: {len(trainings)} trainings of {trained} of {space.size()} architectures")
    if trainings:
        console.print(*summary(trainings))


if __name__ == "__main__":
    main()
