"""Regret curves: how far what a search has found is from the best of the table, by what it has cost.

    python -m benchmarks.regret

Strategies that train one architecture a trial ask the table (``benchmarks/tabular.csv``) in place of training, a
hundred times each, as NNI's manager would have them ask: random search and TPE, which are NNI's, regularized
evolution, and successive halving, which stops trainings early. What has been found is the best one by validation so
far; its regret is by how much its test accuracy is below that of the table's best. Beside them stand the architectures
that the one-shot searches of the study found (``benchmarks/study.csv``), with what the table says of them, at the cost
of their search.
"""

import argparse
import logging
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from nni.algorithms.hpo.random_tuner import RandomTuner
from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.tuner import Tuner
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table as RichTable

from benchmarks import study
from benchmarks.figures import write_svg
from benchmarks.study import COLOURS, Summary, expected, halving_size, successive_halving
from benchmarks.tabular import FILE, SETTINGS, Table, by_architecture
from experiment.manager.regularized_evolution import RegularizedEvolution

TUNERS: dict[str, Callable[[int], Tuner]] = {
    "random search": lambda seed: RandomTuner(seed=seed),
    "TPE": lambda seed: TpeTuner(optimize_mode="maximize", seed=seed),
    "regularized evolution": lambda seed: RegularizedEvolution(seed=seed),
}
"""The strategies that train whole, by seed."""
SEARCHES = 100
"""Number of searches by each strategy."""
BUDGETS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of trainings at which the searches are summed up."""


def searched(table: Table, candidates: dict[str, list], tuner: Tuner, trainings: int) -> list[float]:
    """Runs a search on a table.

    Args:
        table: Says what each architecture is worth.
        candidates: Those of every choice of its space.
        tuner: Chooses them.
        trainings: Number of architectures that are asked for.

    Returns:
        The test accuracy of the best one by validation, after each training, in percent.
    """
    tuner.update_search_space({label: {"_type": "choice", "_value": values} for label, values in candidates.items()})
    best, found = -math.inf, []
    for number in range(trainings):
        choices = tuner.generate_parameters(number)
        score = table.accuracy(choices)
        tuner.receive_trial_result(number, choices, score)
        if score > best:
            best, test = score, table.accuracy(choices, split="test")
        found.append(test)
    return found


def curves(table: Table, searches: int) -> dict[str, np.ndarray]:
    """Returns the test accuracy of what searches have found, ``(searches, trainings)``, by strategy."""
    made, candidates = {}, table.space.candidates()
    for name, tuner in TUNERS.items():
        runs = [searched(table, candidates, tuner(seed), max(BUDGETS)) for seed in track(range(searches), name)]
        made[name] = np.array(runs)
    return made


def halvings(table: Table, budget: int) -> tuple[float, float]:
    """Returns mean and deviation of the test accuracy of what successive halving finds for so many trainings."""
    first = [of_one[0] for of_one in by_architecture(table.trainings)]
    return expected((first, successive_halving(halving_size(budget))))


def landed(table: Table, summary: Summary) -> dict[str, tuple[float, list[float]]]:
    """Returns the cost of each one-shot strategy in trainings, and the table's test accuracies of what it found."""
    return {
        strategy: (summary.cost(strategy), [table.accuracy(run.choices, split="test") for run in runs])
        for strategy, runs in summary.by_method.items()
    }


def tables(
    best: float,
    found: dict[str, np.ndarray],
    halving: dict[int, tuple[float, float]],
    one_shot: dict[str, tuple[float, list[float]]],
) -> tuple[RichTable, RichTable]:
    """Returns the regret of each strategy at each budget, and that of the one-shot strategies at theirs."""
    regret = RichTable("regret after so many trainings, points", box=box.MARKDOWN)
    for budget in BUDGETS:
        regret.add_column(str(budget), justify="right")
    for name, accuracies in found.items():
        at = accuracies[:, [budget - 1 for budget in BUDGETS]]
        regret.add_row(name, *map(_spread, best - at.mean(0), at.std(0, ddof=1)))
    regret.add_row("successive halving", *(_spread(best - halving[each][0], halving[each][1]) for each in BUDGETS))

    landing = RichTable("one-shot search", "searches", "cost, trainings", "regret, points", box=box.MARKDOWN)
    landing.add_column("trainings of random search", justify="right")
    at_random = found["random search"].mean(0)
    for name, (cost, landings) in one_shot.items():
        mean = statistics.fmean(landings)
        enough = np.flatnonzero(at_random >= mean)
        same = str(enough[0] + 1) if len(enough) else f"more than {len(at_random)}"
        deviation = statistics.stdev(landings) if len(landings) > 1 else 0.0
        landing.add_row(name, str(len(landings)), f"{cost:.1f}", _spread(best - mean, deviation), same)
    return regret, landing


def _spread(mean: float, deviation: float) -> str:
    return f"{mean:.1f} ± {deviation:.1f}"


def draw(
    best: float,
    found: dict[str, np.ndarray],
    halving: dict[int, tuple[float, float]],
    one_shot: dict[str, tuple[float, list[float]]],
    path: Path,
) -> None:
    """Draws the mean regret of each strategy against what was spent, and the one-shot strategies beside them."""
    figure = Figure(figsize=(7.5, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for (name, accuracies), line in zip(found.items(), ("-", "--", "-."), strict=True):
        trainings = np.arange(1, accuracies.shape[1] + 1)
        axes.plot(trainings, best - accuracies.mean(0), line, color="0.3", label=name)
    axes.plot(
        list(halving), [best - mean for mean, _ in halving.values()], ":", color="0.3", label="successive halving"
    )
    for name, (cost, landings) in one_shot.items():
        regret = best - np.array(landings)
        error = regret.std(ddof=1) / math.sqrt(len(regret))
        axes.errorbar(cost, regret.mean(), yerr=error, marker="o", capsize=3, label=name, color=COLOURS[name])
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("cost, in trainings")
    axes.set_ylabel("regret on the test split, points")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False, ncols=2)
    write_svg(figure, path, "regret")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument("--file", type=Path, default=FILE, help="the table (benchmarks/tabular.csv)")
    parser.add_argument("--study", type=Path, default=study.FILE, help="the study (benchmarks/study.csv)")
    parser.add_argument("--figure", type=Path, default=Path("docs/regret.svg"))
    args = parser.parse_args()
    table = Table.load(args.settings, args.file)
    missing = table.space.size() - len(by_architecture(table.trainings))
    if missing:
        parser.error(
            f"{args.file}: {missing} of {table.space.size()} architectures are missing; benchmarks.tabular trains them"
        )
    # TPE tells of each search that it draws what it has drawn before.
    logging.getLogger("nni").setLevel(logging.WARNING)
    summary = Summary([run for run in study.read(args.study) if run.job.space == args.settings.stem])
    best = max(table.accuracy(training.choices, split="test") for training in table.trainings)
    found, one_shot = curves(table, SEARCHES), landed(table, summary)
    halving = {budget: halvings(table, budget) for budget in BUDGETS}
    console = Console(width=160)
    console.print(f"best of the table: {best:.1f} % (test split); {SEARCHES} searches by each strategy")
    for each in tables(best, found, halving, one_shot):
        console.print(each)
    draw(best, found, halving, one_shot, args.figure)
    console.print(f"{args.figure}: the figure")


if __name__ == "__main__":
    main()
