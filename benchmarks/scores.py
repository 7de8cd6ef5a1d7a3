"""How well each score tells what an architecture is worth: Kendall's τ with its test accuracy.

    python -m benchmarks.scores                                   # the space of settings/digits.yml
    python -m benchmarks.scores --settings settings/stacked.yml

The architectures are the random ones of the study (``benchmarks/study.csv``), which were trained from new weights. A
supernet is trained as the settings say, and each of them is scored: with its weights in the supernet, after short
trainings from them, by the number of its weights, and by its own training when that was not yet over. τ is 1 where a
score orders them as the test accuracy does, and 0 where it says nothing. The second column is of the better half alone,
among which a search has to choose.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torchmetrics.functional import kendall_rank_corrcoef

from benchmarks.study import FILE, Run, read
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture
from trainer.data.splits import Data, load_data
from trainer.derivation import FEW_QUESTIONS, MORE_QUESTIONS, RUNGS, ShortTraining, some_questions
from trainer.evaluation.evaluate import mean_soft_accuracy
from trainer.search import run as run_search
from trainer.supernet.choices import at_sample

SHARES = (0.25, 0.5, 0.75)
"""Shares of a training from new weights after which it is scored."""


def scores(runs: Sequence[Run], settings: Settings, data: Data) -> dict[str, list[float]]:
    """Returns the scores of the architectures of some runs, by name."""
    space, search = settings.space_for(data.sizes), settings.search
    supernet = run_search(data, space, search, [], None).model
    found: dict[str, list[float]] = {}

    def note(name: str, score: float) -> None:
        found.setdefault(name, []).append(score)

    some = {n: some_questions(data.val, n, search.seed) for n in (FEW_QUESTIONS, MORE_QUESTIONS)}
    for each in track(runs, f"{len(runs)} architectures"):
        note("number of weights", Architecture(space=space, choices=each.choices).parameters())
        with at_sample(supernet, each.choices):
            for n, questions in some.items():
                note(f"in the supernet, {n} questions", mean_soft_accuracy(supernet, questions))
            note(f"in the supernet, {len(data.val)} questions", mean_soft_accuracy(supernet, data.val))
        training = ShortTraining(supernet, each.choices, space, data, search)
        for rung in range(1, RUNGS + 1):
            training.run_until(steps := search.tuning_steps * rung // RUNGS)
            note(f"after {steps} steps from the supernet", mean_soft_accuracy(training.network, data.val))
        for share in SHARES:
            note(f"after {share:.0%} of a training", each.val[max(1, round(share * len(each.val))) - 1])
        note("after a training, validation", each.val[-1])
    return found


def tau(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Returns Kendall's τ-b."""
    return cast(Tensor, kendall_rank_corrcoef(torch.tensor(scores), torch.tensor(accuracies))).item()


def table(found: dict[str, list[float]], accuracies: Sequence[float]) -> Table:
    """Returns the table of τ by score, over all architectures and over the better half."""
    made = Table("score", box=box.MARKDOWN)
    half = sorted(range(len(accuracies)), key=lambda i: -accuracies[i])[: len(accuracies) // 2]
    made.add_column(f"τ, {len(accuracies)} architectures", justify="right")
    made.add_column(f"τ, the better {len(half)}", justify="right")
    for name, values in found.items():
        of_half = tau([values[i] for i in half], [accuracies[i] for i in half])
        made.add_row(name, f"{tau(values, accuracies):.2f}", f"{of_half:.2f}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=Path, default=Path("settings/digits.yml"))
    parser.add_argument("--file", type=Path, default=FILE, help="the runs of the study (benchmarks/study.csv)")
    parser.add_argument("--limit", type=int, help="only the first so many architectures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = read_settings(args.settings)
    runs = [each for each in read(args.file) if each.job.space == args.settings.stem and each.job.method == "random"]
    runs = runs[: args.limit]
    found = scores(runs, settings, load_data(settings.data))
    Console(width=120).print(table(found, [each.test for each in runs]))


if __name__ == "__main__":
    main()
