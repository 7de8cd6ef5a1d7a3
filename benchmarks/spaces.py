"""What the spaces hold: random architectures of each, beside MCAN of their size.

    python -m benchmarks.spaces            # trains what is missing, which takes hours, and sums up
    python -m benchmarks.spaces --limit 0  # sums up what is there

The random architectures of the spaces of the study are the study's (``benchmarks/study.csv``); those of the others are
trained here, as the study does it, and kept in ``benchmarks/spaces.csv``. Of each space there is MCAN with about as
many weights as its random architectures have in the median. A space is worth a search if its best tenth is better.
"""

import argparse
import math
import os
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import study
from benchmarks.figures import write_svg
from benchmarks.study import Job, Run, Summary, Weights, difference, evenly, expected, in_points, read, with_missing
from experiment.settings import read_settings

FILE = Path(__file__).with_suffix(".csv")
"""The runs that are kept with the code; the accuracies at each question lie beside it."""
SPACES = (Path("settings/stacked_all_edges.yml"), Path("settings/stacked_two_cells.yml"), Path("settings/paired.yml"))
"""The settings files of the spaces that the study does not search."""
QUANTILES = (0, 0.1, 0.5, 0.9, 1)


def jobs(spaces: Sequence[str]) -> list[Job]:
    """Returns the trainings of some spaces. Stopped on the way, there are about as many of each."""
    wanted = [
        [Job(space, "mcan", seed) for seed in study.SEEDS] + [Job(space, "random", i) for i in range(study.RANDOM)]
        for space in spaces
    ]
    return [job for job in chain.from_iterable(zip_longest(*wanted)) if job]


def best_tenth(runs: Sequence[Run]) -> Weights:
    """Returns the weights of the mean over the best tenth by validation."""
    n = math.ceil(len(runs) / 10)
    order = np.argsort([-each.val[-1] for each in runs], kind="stable")
    return np.isin(np.arange(len(runs)), order[:n]) / n


def table(spaces: dict[str, Summary]) -> Table:
    """Returns how the accuracies are distributed in each space, with MCAN's."""
    quantiles = [f"{share:.0%}" for share in QUANTILES]
    made = Table(box=box.MARKDOWN, title="accuracy on the test split, %")
    made.add_column("space", no_wrap=True)
    for title in ("random", *quantiles, "mean ± deviation", "MCAN", "best tenth above MCAN"):
        made.add_column(title, justify="right")
    for name, space in spaces.items():
        drawn, mcan = space.random, space.mcan
        if len(drawn) < 2 or len(mcan) < 2:
            continue
        found = np.quantile([each.test for each in drawn], QUANTILES)
        spreads = ["{:.1f} ± {:.1f}".format(*expected((each, evenly))) for each in (drawn, mcan)]
        best = in_points(difference((drawn, best_tenth), (mcan, evenly)))
        made.add_row(name, str(len(drawn)), *(f"{each:.1f}" for each in found), *spreads, best)
    return made


def draw(spaces: dict[str, Summary], path: Path) -> None:
    """Draws every random architecture of each space as a point, with MCAN as a line across."""
    figure = Figure(figsize=(7.5, 1 + 0.8 * len(spaces)), dpi=120, layout="constrained")
    axes = figure.subplots()
    generator = np.random.default_rng(0)
    for row, space in enumerate(spaces.values()):
        drawn = [each.test for each in space.random]
        axes.plot(drawn, row + generator.uniform(-0.25, 0.25, len(drawn)), "o", color="C0", alpha=0.5, markersize=4)
        mcan = np.mean([each.test for each in space.mcan])
        axes.plot([mcan] * 2, [row - 0.35, row + 0.35], color="C1", label=None if row else "MCAN")
    axes.set_yticks(range(len(spaces)), list(spaces))
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy of a random architecture, %")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    write_svg(figure, path, "spaces")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=Path, nargs="+", default=SPACES, help="a settings file for each space")
    parser.add_argument("--file", type=Path, default=FILE, help="where the runs are kept (benchmarks/spaces.csv)")
    parser.add_argument("--study", type=Path, default=study.FILE, help="the study (benchmarks/study.csv)")
    parser.add_argument("--figure", type=Path, default=Path("docs/random.svg"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, help="only the first so many runs")
    args = parser.parse_args()
    settings = {path.stem: read_settings(path) for path in args.settings}
    runs = with_missing(jobs(list(settings))[: args.limit], settings, args.file, args.processes)
    runs = [*read(args.study), *runs]
    names = dict.fromkeys(each.job.space for each in runs)
    spaces = {name: Summary([each for each in runs if each.job.space == name]) for name in names}
    Console(width=160).print(table(spaces))
    draw(spaces, args.figure)
    print(f"{args.figure}: the figure")


if __name__ == "__main__":
    main()
