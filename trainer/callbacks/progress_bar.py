"""The progress bar of a training."""

from time import monotonic
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from trainer.callbacks.loss_monitor import LossMonitor

BAR_SECONDS = 0.5
"""Seconds between two updates of the bar."""


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, with the figures as they were last read.

    It is Lightning's default, by tqdm, which Lightning brings with it.
    """

    def __init__(self, monitor: LossMonitor):
        super().__init__()
        self.monitor = monitor
        self.shown = -BAR_SECONDS

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if monotonic() - self.shown >= BAR_SECONDS or batch_idx + 1 == trainer.num_training_batches:
            self.shown = monotonic()
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        if not (figures := self.monitor.figures):
            return {}
        return {
            "loss": f"{figures['loss']:.3f}",
            "accuracy": f"{figures['running_accuracy']:.1f} %",
            "questions/s": f"{figures['questions_per_second']:.0f}",
            "memory": f"{figures['memory_GB']:.1f} GB",
        }
