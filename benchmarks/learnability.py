"""How far the embedded data tells networks apart: baselines, blind networks, MCAN, and MCAN without each operation.

    python -m benchmarks.learnability --seeds 5

Each network is trained on the training split of the settings, as their section ``train`` says. The tables have its
accuracy on the validation split: mean and standard deviation over the seeds, and what it is above MCAN, with the 95 %
interval of a bootstrap over seeds and questions.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.study import difference, evenly, in_points
from experiment.manager.lifeline import pool
from experiment.settings import Settings, read_settings
from model_space.architecture import Architecture, Space
from model_space.spaces.mcan import Decoder, Encoder, MCANSettings
from trainer.data.splits import Data, load_data
from trainer.data.vocabulary import UNKNOWN
from trainer.data.vqa import Batch, VQADataset
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.vqa_accuracy import Accuracy, Evaluator, most_frequent_answer, most_frequent_answer_of_form
from trainer.train import load_trained, train

ABLATIONS: dict[str, list[tuple[type[nn.Module], str]]] = {
    "MCAN without guided attention": [(Decoder, "guided_attention")],
    "MCAN without self-attention over regions": [(Decoder, "self_attention")],
    "MCAN without feed-forward": [(Encoder, "feed_forward"), (Decoder, "feed_forward")],
}


class Skip(nn.Module):
    """Takes the place of an operation that is left out."""

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return x


def question_alone(batch: Batch) -> Batch:
    """Replaces the image of each question by one region of zeros."""
    regions, mask = torch.zeros_like(batch.regions[:, :1]), torch.ones_like(batch.region_mask[:, :1])
    return batch._replace(regions=regions, region_mask=mask)


def image_alone(batch: Batch) -> Batch:
    """Replaces each question by one unknown word."""
    return batch._replace(
        tokens=torch.full_like(batch.tokens[:, :1], UNKNOWN), token_mask=torch.ones_like(batch.token_mask[:, :1])
    )


BLIND = {"question alone": question_alone, "image alone": image_alone}
LONGER = "MCAN, twice the steps"
BY_ADAM = "MCAN, by Adam alone"
NETWORKS = [*BLIND, "MCAN", LONGER, BY_ADAM, *ABLATIONS]


@dataclass(frozen=True)
class Measured:
    """What became of a training."""

    accuracy: Accuracy

    @property
    def test(self) -> float:
        """Accuracy in percent."""
        return self.accuracy.overall

    @property
    def right(self) -> np.ndarray:
        """Accuracy at each question in percent, ``(questions,)``."""
        return np.array(list(self.accuracy.per_question.values()))


def changed(stack: ExitStack, name: str) -> None:
    """Changes every network, or every batch, of this process into the one of that name."""
    for unit, operation in ABLATIONS.get(name, []):

        def build(self: Any, sizes: Any, whole: Any = unit.__init__, operation: str = operation) -> None:
            whole(self, sizes)
            setattr(self, operation, Skip())

        stack.enter_context(patch.object(unit, "__init__", build))
    if name in BLIND:
        whole = VQADataset.__getitem__
        stack.enter_context(patch.object(VQADataset, "__getitem__", lambda self, i: BLIND[name](whole(self, i))))


def measure(name: str, seed: int, settings: Settings, layers: int) -> Measured:
    """Trains the network of a name and returns its accuracy."""
    data = load_data(settings.data)
    space = Space(backbone=MCANSettings(layers=layers), network=settings.network, data=data.sizes)
    options = settings.train.model_copy(update={"seed": seed})
    if name == LONGER:
        decay = tuple(2 * epoch for epoch in options.decay_epochs)
        options = options.model_copy(update={"epochs": 2 * options.epochs, "decay_epochs": decay})
    if name == BY_ADAM:
        options = options.model_copy(update={"matrix_lr": None})
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        changed(stack, name)
        checkpoint = train(data, Architecture(space=space, choices={}), options, Path(folder))
        return Measured(evaluate(load_trained(checkpoint)[0], data.val))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=Path, default=Path("settings/digits.yml"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=1, help="of MCAN")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    settings = read_settings(args.settings)
    data = load_data(settings.data)
    results = baselines(data)
    with pool(args.processes, torch.set_num_threads, 1) as processes:
        runs = {
            (name, seed): processes.submit(measure, name, seed, settings, args.layers)
            for seed in range(args.seeds)
            for name in NETWORKS
        }
        for (name, _), run in runs.items():
            results.setdefault(name, []).append(run.result())
            print(f"{name}: {results[name][-1].test:.1f}", flush=True)
    steps = settings.train.epochs * (settings.train.steps_per_epoch or len(data.train) // settings.train.batch_size)
    console = Console(width=200)
    console.print(f"{args.seeds} seeds, {steps} steps, MCAN of {args.layers} layers, {len(data.val)} questions")
    console.print(*tables(results))


def baselines(data: Data) -> dict[str, list[Measured]]:
    """Returns the accuracies of the answers that no network is needed for."""
    training, validation = data.train.annotations, data.val.annotations
    assert training is not None and validation is not None  # load_data refuses splits without
    evaluator = Evaluator(validation)
    return {
        "baseline: most frequent answer": [Measured(evaluator(most_frequent_answer(training, validation)))],
        "baseline: most frequent of form": [Measured(evaluator(most_frequent_answer_of_form(training, validation)))],
    }


def tables(results: dict[str, list[Measured]]) -> tuple[Table, Table]:
    """Returns the accuracies by type of answer, and those by form of question."""
    overall, forms = Table(box=box.MARKDOWN), Table(box=box.MARKDOWN)
    mcan = results["MCAN"]
    kinds_of_answer = list(mcan[0].accuracy.per_answer_type)
    for title in ("", "overall, %", "above MCAN (95 % interval)", *kinds_of_answer):
        overall.add_column(title, justify="right" if title else "left", no_wrap=True)
    forms.add_column("", no_wrap=True)
    for form in mcan[0].accuracy.per_question_type:
        forms.add_column(form, justify="right")
    for name, measured in results.items():
        values = [each.test for each in measured]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        kinds = [each.accuracy.per_answer_type | each.accuracy.per_question_type for each in measured]
        means = {kind: f"{statistics.fmean(each[kind] for each in kinds):.1f}" for kind in kinds[0]}
        cells = [f"{statistics.fmean(values):.1f}{spread}", above(measured, mcan)]
        overall.add_row(name, *cells, *(means[kind] for kind in kinds_of_answer))
        forms.add_row(name, *(means[form] for form in mcan[0].accuracy.per_question_type))
    return overall, forms


def above(measured: Sequence[Measured], mcan: Sequence[Measured]) -> str:
    """Returns how much better some trainings are than MCAN's, where there are several of each."""
    if measured is mcan or min(len(measured), len(mcan)) < 2:
        return ""
    return in_points(difference((measured, evenly), (mcan, evenly)))


if __name__ == "__main__":
    main()
