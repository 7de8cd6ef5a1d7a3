"""The study: what every strategy finds, beside random search of the same cost, one random draw and MCAN.

    python -m benchmarks.study            # runs what is missing, which takes hours, and sums up
    python -m benchmarks.study --small    # minutes: the default strategy on the default space, two seeds
    python -m benchmarks.study --limit 0  # sums up what is there

A run is a search and one training of what it found, or one training of a random architecture or of MCAN, in a process
with one thread. What became of each is kept in ``benchmarks/study.csv``, and its accuracy at each test question in
``benchmarks/study.npz``. Stopped and started again, the study goes on with the runs that are missing.

Cost is the processor's time of a search, the short trainings and the validation in it included, divided by that of one
training on a processor of the same kind. Random search of the same cost draws so many architectures, rounded up, trains
each and takes the best one on the validation split; what it makes is computed over all draws from the random
architectures that were trained. Successive halving draws more, and stops the worse ones early.
"""

import argparse
import csv
import io
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.figures import write_svg
from benchmarks.tabular import every_architecture
from experiment.manager.lifeline import pool
from experiment.results.comparison import mcan_of_size
from experiment.results.comparison import measure as train_and_evaluate
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture, Space
from model_space.contracts import Choices
from model_space.files import write_text, write_whole
from model_space.functional.products import PROCESSOR
from trainer.callbacks.curve import read_curve
from trainer.data.splits import Data, load_data
from trainer.derivation import samples
from trainer.search import search
from trainer.strategies import STRATEGIES

FILE = Path(__file__).with_suffix(".csv")
"""The runs that are kept with the code; the accuracies at each question lie beside it."""
SPACES = (Path("settings/digits.yml"), Path("settings/stacked.yml"), Path("settings/facts.yml"))
"""The settings files of what is searched: two spaces, and the first one on other questions."""
SEEDS = range(10, 20)
"""Seeds of the searches by the default strategy, and of the trainings of MCAN. `docs/study.md` says what was chosen on
what."""
OTHERS = SEEDS[:5]
"""Seeds of the searches by the other strategies."""
RANDOM = 100
"""Number of random architectures of each space."""
SMALL_SPACE = 10_000
"""Number of architectures up to which all of a space are listed."""
HALVING = (0.25, 0.5)
"""Shares of a training after each of which successive halving keeps the best third."""
RESAMPLES = 1000
"""Number of samples of a bootstrap, and of draws from which the weights of a successive halving are taken."""
COLOURS = {strategy: f"C{number}" for number, strategy in enumerate(sorted(STRATEGIES))}
"""Matplotlib's colour of each strategy, the same in all figures."""

_settings: dict[str, Settings]
_data: dict[str, Data]
"""What all runs of a process share, by space. They are set when the process begins."""


@dataclass(frozen=True, order=True)
class Job:
    """What is to be run: a strategy, ``random`` or ``mcan``, on a space, with a seed."""

    space: str
    method: str
    seed: int


@dataclass(frozen=True)
class Run:
    """What became of a job."""

    job: Job
    choices: Choices
    search_seconds: float
    """Seconds of the processor for the search; 0 where there was none."""
    score: float
    """Accuracy by which the search ranks what it found, in percent; 0 where there was none."""
    training_seconds: float
    """Seconds of the processor for the training from new weights."""
    val: tuple[float, ...]
    """Accuracy on the validation split after each epoch of the training, in percent."""
    test: float
    """Accuracy on the test split at the end, in percent."""
    processor: str
    """The kind of processor: with others, seconds differ, and the last bits of what is computed. Runs that were made
    beside other work took longer: they are marked by hand as a kind of their own."""
    right: np.ndarray = field(compare=False)
    """Accuracy at each test question in percent, ``(questions,)`` uint8."""


def jobs(settings: dict[str, Settings], small: bool) -> list[Job]:
    """Returns all jobs of a study. A study that is stopped has some of each kind, the other strategies last."""
    spaces = list(settings)[: 1 if small else None]
    default = next(iter(settings.values())).search.strategy
    strategies = [default] if small else [default, *(name for name in STRATEGIES if name != default)]
    ordered: list[tuple[tuple[bool, float], Job]] = []
    for space in spaces:
        kinds = dict.fromkeys(strategies, OTHERS) | dict.fromkeys([default, "mcan"], SEEDS)
        if small:
            kinds = {method: seeds[:2] for method, seeds in kinds.items()}
        kinds["random"] = range(6 if small else RANDOM)
        for method, its_seeds in kinds.items():
            later = method in strategies[1:]
            ordered += [((later, i / len(its_seeds)), Job(space, method, seed)) for i, seed in enumerate(its_seeds)]
    return [job for _, job in sorted(ordered, key=lambda each: each[0])]


def run(job: Job) -> Run:
    """Runs a job, with one thread."""
    settings, data = _settings[job.space], _data[job.space]
    space = settings.space_for(data.sizes)
    search_seconds, architecture = 0.0, None
    with tempfile.TemporaryDirectory() as folder:
        if job.method == "mcan":
            drawn = [Architecture(space=space, choices=choices) for choices in random_architectures(space)[:20]]
            architecture = mcan_of_size(space, round(statistics.median(each.parameters() for each in drawn)))
        elif job.method == "random":
            architecture = Architecture(space=space, choices=random_architectures(space)[job.seed])
        else:
            searched = settings.with_parameters({"strategy": job.method, "seed": job.seed}).search
            start = time.process_time()
            architecture = search(data, space, searched, Path(folder) / "search", lambda epoch: None)
            search_seconds = time.process_time() - start
        training = Path(folder) / "training"
        result, right = train_and_evaluate(architecture, job.seed, training, settings, data)
        val = tuple(epoch["accuracy"] for epoch in read_curve(training))
    return Run(
        job,
        architecture.choices,
        search_seconds,
        architecture.score or 0.0,
        result["cpu_seconds"],
        val,
        result["overall"],
        PROCESSOR,
        right.round().astype(np.uint8),
    )


def with_missing(wanted: Sequence[Job], settings: dict[str, Settings], file: Path, processes: int) -> list[Run]:
    """Runs what a file has not of some jobs, keeps each run in it, and returns all that it has then."""
    runs = read(file)
    known = {each.job for each in runs}
    missing = [job for job in wanted if job not in known]
    with pool(processes, _begin, settings) as workers:
        started = [workers.submit(run, job) for job in missing]
        for done in track(as_completed(started), f"{len(missing)} runs", total=len(missing)):
            runs.append(done.result())
            write(file, runs)
    return runs


def random_architectures(space: Space) -> list[Choices]:
    """Returns the random architectures of a space; of a small one they are the first ones of its table."""
    return every_architecture(space)[:RANDOM] if space.size() <= SMALL_SPACE else samples(space, RANDOM, seed=0)


def _begin(settings: dict[str, Settings]) -> None:
    global _settings, _data
    torch.set_num_threads(1)
    _settings, _data = settings, {name: load_data(each.data) for name, each in settings.items()}


def read(file: Path) -> list[Run]:
    """Returns the runs that are kept."""
    return list(_read(file)) if file.exists() else []


def _read(file: Path) -> Iterator[Run]:
    with file.open(newline="") as lines, np.load(file.with_suffix(".npz"), allow_pickle=False) as right:
        for row in csv.DictReader(lines):
            job = Job(row["space"], row["method"], int(row["seed"]))
            val = tuple(map(float, row["val"].split()))
            numbers = {name: float(row[name]) for name in ("search_seconds", "score", "training_seconds", "test")}
            choices, processor = json.loads(row["choices"]), row["processor"]
            yield Run(job, choices, val=val, processor=processor, right=right[_name(job)], **numbers)


def write(file: Path, runs: Sequence[Run]) -> None:
    """Keeps runs."""
    runs = sorted(runs, key=lambda each: each.job)
    right: dict[str, Any] = {_name(each.job): each.right for each in runs}
    with write_whole(file.with_suffix(".npz")) as partial, partial.open("wb") as content:
        np.savez_compressed(content, **right)
    text = io.StringIO()
    rows = [
        vars(each.job)
        | {name: f"{getattr(each, name):.1f}" for name in ("search_seconds", "training_seconds")}
        | {"score": f"{each.score:.3f}", "test": f"{each.test:.3f}", "val": " ".join(f"{a:.2f}" for a in each.val)}
        | {"processor": each.processor, "choices": json.dumps(each.choices, separators=(",", ":"))}
        for each in runs
    ]
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())


def _name(job: Job) -> str:
    return f"{job.space} {job.method} {job.seed}"


class Tested(Protocol):
    """What a trained network is worth."""

    @property
    def test(self) -> float:
        """Accuracy on the split that a table is of, in percent."""


class Trained(Tested, Protocol):
    """What became of a training."""

    @property
    def val(self) -> Sequence[float]:
        """Accuracy on the validation split after each epoch, in percent."""


class Answered(Tested, Protocol):
    """What a trained network answers."""

    @property
    def right(self) -> np.ndarray:
        """Accuracy at each question in percent, ``(questions,)``."""


T = TypeVar("T", bound=Tested)
A = TypeVar("A", bound=Answered)

Weights = np.ndarray
"""How much each run of a kind counts, ``(runs,)``: the expected accuracy is the sum of their accuracies so weighted."""


def best_of(val: np.ndarray, n: int) -> Weights:
    """Returns with which probability random search of n trainings ends at each of some trainings.

    It draws n different ones and takes the best on the validation split; of equals, the first.
    """
    n = min(n, len(val))
    worse = np.empty(len(val), int)
    worse[np.argsort(-val, kind="stable")] = np.arange(len(val))[::-1]
    return np.array([math.comb(each, n - 1) for each in worse]) / math.comb(len(val), n)


def halving_size(budget: float) -> int:
    """Returns how many trainings successive halving can begin for the cost of so many whole ones."""
    n = 1
    while _halving_cost(n + 1) <= budget:
        n += 1
    return n


def _halving_cost(n: int) -> float:
    cost, before = 0.0, 0.0
    for share in HALVING:
        cost, before, n = cost + n * (share - before), share, math.ceil(n / 3)
    return cost + n * (1 - before)


def halved(val: np.ndarray, n: int, generator: np.random.Generator, draws: int) -> Weights:
    """Returns with which probability successive halving that begins n trainings ends at each of some trainings.

    Args:
        val: Validation accuracies after each epoch, ``(trainings, epochs)``.
        n: Number of trainings that are begun.
        generator: Draws them.
        draws: Number of searches by which the probabilities are estimated.
    """
    trainings, epochs = val.shape
    drawn = generator.permuted(np.tile(np.arange(trainings), (draws, 1)), axis=1)[:, :n]
    for share in (*HALVING, 1):
        kept = 1 if share == 1 else math.ceil(drawn.shape[1] / 3)
        epoch = max(1, round(share * epochs))
        order = np.argsort(-val[drawn, epoch - 1], axis=1, kind="stable")[:, :kept]
        drawn = np.take_along_axis(drawn, order, axis=1)
    return np.bincount(drawn[:, 0], minlength=trainings) / draws


Method = tuple[Sequence[Run], Callable[[Sequence[Run]], Weights]]
"""Some runs, and how much each of them counts."""


def evenly(runs: Sequence[Tested]) -> Weights:
    """Returns equal weights."""
    return np.full(len(runs), 1 / len(runs))


def random_search(n: int) -> Callable[[Sequence[Trained]], Weights]:
    """Returns the weighting of a random search of n trainings."""
    return lambda runs: best_of(np.array([each.val[-1] for each in runs]), n)


def successive_halving(n: int) -> Callable[[Sequence[Trained]], Weights]:
    """Returns the weighting of a successive halving that begins n trainings."""
    return lambda runs: halved(np.array([each.val for each in runs]), n, np.random.default_rng(0), RESAMPLES)


def expected(method: tuple[Sequence[T], Callable[[Sequence[T]], Weights]]) -> tuple[float, float]:
    """Returns mean and standard deviation of the test accuracy of a method, in percent."""
    runs, weigh = method
    weights, test = weigh(runs), np.array([each.test for each in runs])
    mean = float(weights @ test)
    spread = float(weights @ (test - mean) ** 2)
    if weigh is evenly and len(runs) > 1:  # a sample, in which the mean has been fitted
        spread *= len(runs) / (len(runs) - 1)
    return mean, math.sqrt(spread)


def difference(
    ours: tuple[Sequence[A], Callable[[Sequence[A]], Weights]],
    theirs: tuple[Sequence[A], Callable[[Sequence[A]], Weights]],
    resamples: int = RESAMPLES,
) -> tuple[float, float, float]:
    """Returns how much better a method is than another, with its 95 % interval, in points of the accuracy.

    The interval is that of a bootstrap over the runs of each and over the questions, which are the same for both.
    """
    generator = np.random.default_rng(0)
    accuracies = [np.stack([each.right for each in runs]).astype(np.float32) for runs, _ in (ours, theirs)]
    questions = accuracies[0].shape[1]
    found = []
    for _ in range(resamples):
        means = []
        for (runs, weigh), accuracy in zip((ours, theirs), accuracies, strict=True):
            drawn = generator.integers(len(runs), size=len(runs))
            weights = np.bincount(drawn, weigh([runs[i] for i in drawn]), minlength=len(runs))
            means.append(weights.astype(np.float32) @ accuracy)
        counts = np.bincount(generator.integers(questions, size=questions), minlength=questions)
        found.append(float(counts @ (means[0] - means[1])) / questions)
    low, high = np.quantile(found, [0.025, 0.975])
    return expected(ours)[0] - expected(theirs)[0], float(low), float(high)


class Summary:
    """The runs on one space, and what they cost."""

    def __init__(self, runs: Sequence[Run]):
        self.by_method: dict[str, list[Run]] = {}
        for each in runs:
            self.by_method.setdefault(each.job.method, []).append(each)
        self.random = self.by_method.pop("random", [])
        self.mcan = self.by_method.pop("mcan", [])
        self.training_seconds = _by_processor(runs) | _by_processor(self.random)

    def cost(self, strategy: str) -> float:
        """Returns the mean cost of a search in trainings."""
        runs = self.by_method[strategy]
        return statistics.fmean(each.search_seconds / self.training_seconds[each.processor] for each in runs)


def _by_processor(runs: Sequence[Run]) -> dict[str, float]:
    """Returns the mean seconds of a training on each kind of processor."""
    seconds: dict[str, list[float]] = {}
    for each in runs:
        seconds.setdefault(each.processor, []).append(each.training_seconds)
    return {processor: statistics.fmean(values) for processor, values in seconds.items()}


def table(name: str, space: Summary) -> Table:
    """Returns the table of a space."""
    made = Table(box=box.MARKDOWN, title=f"{name}: accuracy on the test split, %")
    for title in ("method", "runs", "cost, trainings", "mean ± deviation", "lowest to highest"):
        made.add_column(title, justify="left" if title == "method" else "right")
    for rival in ("random search of the same cost", "successive halving of the same cost", "MCAN"):
        made.add_column(f"above {rival}", justify="right")
    mcan: Method = (space.mcan, evenly)

    def add(title: str, method: Method, cost: str, *rivals: Method) -> None:
        mean, deviation = expected(method)
        low, high = min(each.test for each in method[0]), max(each.test for each in method[0])
        if len(method[0]) == 1:  # one run has no deviation, and its interval would be that of the questions alone
            made.add_row(title, "1", cost, f"{mean:.1f}")
            return
        made.add_row(
            title,
            str(len(method[0])),
            cost,
            f"{mean:.1f} ± {deviation:.1f}",
            f"{low:.1f} to {high:.1f}" if method[1] is evenly else "",
            *[in_points(difference(method, rival)) for rival in rivals] + [""] * (2 - len(rivals)),
            in_points(difference(method, mcan)) if space.mcan and method != mcan else "",
        )

    def rivals(n: int) -> list[Method]:
        """Returns random search and successive halving of the cost of n trainings, if there are enough of them."""
        found: list[Method] = [(space.random, random_search(n)), (space.random, successive_halving(halving_size(n)))]
        return found if len(space.random) > halving_size(n) else []

    costs = {strategy: space.cost(strategy) for strategy in space.by_method}
    for strategy, cost in costs.items():
        add(strategy, (space.by_method[strategy], evenly), f"{cost:.1f}", *rivals(math.ceil(cost)))
    for n in sorted(set(map(math.ceil, costs.values()))):
        if found := rivals(n):
            add(f"random search of {n}", found[0], f"{n}")
            add(f"successive halving of {halving_size(n)}", found[1], f"{n}", found[0])
    if space.random:
        add("one random draw", (space.random, evenly), "1")
    if space.mcan:
        add("MCAN", mcan, "1")
    return made


def in_points(difference: tuple[float, float, float]) -> str:
    """Returns a difference with its interval as a table shows it."""
    mean, low, high = difference
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def draw(spaces: dict[str, Summary], path: Path) -> None:
    """Draws accuracy against cost: what strategies find, what random search makes of the same cost, and MCAN."""
    figure = Figure(figsize=(5.6 * len(spaces), 4.6), dpi=120, layout="constrained")
    every_axes = figure.subplots(1, len(spaces), squeeze=False)[0]
    for axes, (name, space) in zip(every_axes, spaces.items(), strict=True):
        _draw_space(axes, name, space)
    write_svg(figure, path, "study")


def _draw_space(axes: Axes, name: str, space: Summary) -> None:
    costs = [space.cost(strategy) for strategy in space.by_method]
    budgets = range(1, min(len(space.random), math.ceil(max(costs, default=4)) + 3))
    curves = {"random search": random_search, "successive halving": lambda n: successive_halving(halving_size(n))}
    for (title, weighting), line in zip(curves.items(), ("-", "--"), strict=True):
        means = [expected((space.random, weighting(budget)))[0] for budget in budgets]
        axes.plot(budgets, means, line, color="0.35", label=title)
    if space.mcan:
        axes.axhline(expected((space.mcan, evenly))[0], color="0.6", linestyle=":", label="MCAN")
    for strategy, cost in zip(space.by_method, costs, strict=True):
        mean, deviation = expected((space.by_method[strategy], evenly))
        axes.errorbar(cost, mean, yerr=deviation, marker="o", capsize=3, label=strategy, color=COLOURS[strategy])
    axes.set_ylim(top=min(axes.get_ylim()[1], 101))  # the bars of a deviation would reach further
    axes.set_title(name, fontsize=10)
    axes.set_xlabel("cost of the search, in trainings")
    axes.set_ylabel("test accuracy of what it finds, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the default strategy on the default space, two seeds")
    parser.add_argument("--settings", type=Path, nargs="+", default=SPACES, help="a settings file for each space")
    parser.add_argument("--file", type=Path, default=FILE, help="where the runs are kept (benchmarks/study.csv)")
    parser.add_argument("--figure", type=Path, default=Path("docs/study.svg"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, help="only the first so many runs")
    args = parser.parse_args()
    settings = {path.stem: read_settings(path) for path in args.settings}
    runs = with_missing(jobs(settings, args.small)[: args.limit], settings, args.file, args.processes)
    spaces = {name: Summary([each for each in runs if each.job.space == name]) for name in settings if runs}
    spaces = {name: space for name, space in spaces.items() if space.by_method}
    console = Console(width=220)
    console.print(f"{args.file}: {len(runs)} runs")
    for name, space in spaces.items():
        console.print(table(name, space))
    if spaces:
        draw(spaces, args.figure)
        console.print(f"{args.figure}: the figure")


if __name__ == "__main__":
    main()
