"""Reads the figures of a run now and then, and stops it where a loss is not finite.

A figure is on the device, and to read one waits for the device. So figures are read every so many batches or seconds,
all at once.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from model_space.errors import InputError
from trainer.callbacks.checkpoint import CHECKPOINT
from trainer.data.vqa import sampler_of
from trainer.module import VQAModule, training_module

EVERY = {"cpu": 10, "cuda": 50}
"""Batches between two readings, by device: a CPU need not be waited for."""
SECONDS = 5.0
"""Seconds after which figures are read where batches are slow. Several processes read by batches alone: each has its
own clock, and all have to read at once."""


class LossMonitor(Callback):
    """Reads the sums of the steps, and stops the run where one is not finite, before anything more is written.

    Args:
        loaders: The loaders of the run, which know the questions of a batch.
        folder: Where the checkpoint is; None where none is written.
    """

    def __init__(self, loaders: Sequence[DataLoader], folder: Path | None):
        self.loaders = loaders
        self.folder = folder
        self.figures: dict[str, float] = {}
        """What the last reading found: the loss of a question since the reading before, the running_accuracy of the
        epoch so far in percent, questions_per_second, and memory_GB."""
        self.unread: list[tuple[int, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.every = EVERY.get(pl_module.device.type, 1)
        self.start(training_module(pl_module))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = training_module(pl_module)
        module.restart_sums()
        self.start(module)

    def start(self, module: VQAModule) -> None:
        self.before = module.sums[0].item(), module.questions, perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.unread.append((batch_idx, training_module(pl_module).sums))
        slow = trainer.world_size == 1 and perf_counter() - self.before[-1] >= SECONDS
        if slow or (batch_idx + 1) % self.every == 0:
            self.read(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.read(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        last = self.unread[-1][0] if self.unread else trainer.fit_loop.batch_idx
        self.read(trainer, pl_module)
        if not all(weight.isfinite().all() for weight in pl_module.parameters()):
            self.stop(trainer, last, "a weight is not finite after")

    def read(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reads what is unread. All of several processes do, and have the same figures.

        Raises:
            InputError: The loss of a step was not finite.
        """
        if not self.unread:
            return
        places = [place for place, _ in self.unread]
        sums = trainer.strategy.reduce(torch.stack([each for _, each in self.unread]), reduce_op="sum").tolist()
        self.unread.clear()
        for place, (loss, _) in zip(places, sums, strict=True):
            if not math.isfinite(loss):
                self.stop(trainer, place, f"the loss is {loss} at")
        loss, accuracy = (each / trainer.world_size for each in sums[-1])
        questions, now = training_module(pl_module).questions, perf_counter()
        loss_before, questions_before, then = self.before
        self.before = loss, questions, now
        self.figures = {
            "loss": (loss - loss_before) / (questions - questions_before),
            "running_accuracy": 100 * accuracy / questions,
            "questions_per_second": trainer.world_size * (questions - questions_before) / (now - then),
            "memory_GB": memory(pl_module.device) / 1e9,
        }

    def stop(self, trainer: pl.Trainer, place: int, what: str) -> None:
        ids = [i for loader in self.loaders for i in question_ids(loader, trainer.current_epoch, place)]
        checkpoint = self.folder and self.folder / CHECKPOINT
        raise InputError(
            f"epoch {trainer.current_epoch + 1}, step {place // trainer.accumulate_grad_batches + 1}: {what} the "
            f"questions {', '.join(map(str, ids))}; "
            + (f"{checkpoint} is from before; " if checkpoint and checkpoint.exists() else "")
            + "look at their features, or take a smaller lr or a clip"
        )


def question_ids(loader: DataLoader, epoch: int, place: int) -> list[int]:
    """Returns the ids of the questions of a batch of an epoch."""
    dataset: Any = loader.dataset
    rows = sampler_of(loader).micro_batch(epoch, place)
    if isinstance(dataset, Subset):
        dataset, rows = dataset.dataset, [dataset.indices[row] for row in rows]
    return [dataset.question_ids[row] for row in rows]


def memory(device: torch.device) -> int:
    """Returns bytes of memory: on a GPU the most that tensors took so far, on a CPU what the process takes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss
