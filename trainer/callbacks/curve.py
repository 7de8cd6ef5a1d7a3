"""The curve of a run: what is measured after each epoch."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from model_space.files import write_text
from trainer.module import training_module

CURVE = "curve.json"


Epoch = dict[str, Any]
"""One point of a curve: epoch (from 1), epochs, accuracy in percent, loss, and what a search adds."""


class Curve(Callback):
    """Measures each epoch, reports it, and keeps the curve as JSON beside the checkpoint.

    Args:
        folder: Where ``curve.json`` is written.
        measure: Returns what is recorded of the epoch that ended, given the trained module.
        report: Is told each epoch.
    """

    def __init__(self, folder: Path, measure: Callable[[pl.LightningModule], Epoch], report: Callable[[Epoch], None]):
        self.path = folder / CURVE
        self.measure = measure
        self.report = report
        self.epochs: list[Epoch] = []

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = mean_loss_and_accuracy(trainer, pl_module)[0]
        epoch = {"epoch": trainer.current_epoch + 1, "epochs": trainer.max_epochs, "loss": loss}
        if trainer.is_global_zero:
            epoch |= self.measure(pl_module)
        epoch = trainer.strategy.broadcast(epoch)
        self.epochs.append(epoch)
        if trainer.is_global_zero:
            write_text(self.path, json.dumps(self.epochs, indent=1) + "\n")
            self.report(epoch)


def epoch_numbers(epoch: Epoch) -> dict[str, float]:
    """Returns the figures of an epoch that are finite numbers; the entropy of a choice is named by its label."""
    by_label = {f"entropy {label}": value for label, value in epoch.get("entropy_by_label", {}).items()}
    numbers = {name: value for name, value in epoch.items() if isinstance(value, int | float) and math.isfinite(value)}
    del numbers["epoch"], numbers["epochs"]
    return numbers | by_label


def mean_loss_and_accuracy(trainer: pl.Trainer, pl_module: pl.LightningModule) -> tuple[float, float]:
    """Returns the mean loss and the accuracy in percent of the epoch so far, over the questions of all processes.

    This waits for the device.
    """
    module = training_module(pl_module)
    loss, accuracy = trainer.strategy.reduce(module.sums.clone(), reduce_op="sum").tolist()
    questions = module.questions * trainer.world_size
    return loss / questions, 100 * accuracy / questions


def read_curve(folder: Path) -> list[Epoch]:
    """Returns the curve of a run so far; it is empty before the first epoch has ended."""
    path = folder / CURVE
    return json.loads(path.read_text()) if path.exists() else []
