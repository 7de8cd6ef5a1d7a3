"""What is seen of a run while it goes on: its figures read now and then, a bar, TensorBoard; and that a loss is finite.

A figure is on the device, and reading one waits for the device. So they are read every so many batches, or seconds, all
at once.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from model_space.errors import InputError
from trainer.callbacks import CHECKPOINT, Curve
from trainer.data.vqa import sampler_of
from trainer.module import VQAModule, training_module

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVERY = {"cpu": 10, "cuda": 50}
"""batches between two readings, by device: a CPU need not be waited for"""
SECONDS = 5.0
"""after which is read where batches are slow; of several processes each has a clock, and all have to read at once"""
BAR_SECONDS = 0.5
"""between two looks of the bar"""


class LossMonitor(Callback):
    """Reads the sums of the steps, and stops the run where one is not finite, before anything more is written.

    Args:
        loaders: of the run, to say which questions it was.
        folder: that of the checkpoint, if it writes one.
    """

    def __init__(self, loaders: Sequence[DataLoader], folder: Path | None):
        self.loaders = loaders
        self.folder = folder
        self.figures: dict[str, float] = {}
        """of the last reading: loss of a question since the one before, running_accuracy of the epoch so far in
        percent, questions_per_second, and memory in GB"""
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
        """Reads what is unread; of several processes all do, and have the same figures.

        Raises:
            InputError: the loss of a step was not finite.
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
    """The questions of a batch of an epoch."""
    dataset: Any = loader.dataset
    rows = sampler_of(loader).micro_batch(epoch, place)
    if isinstance(dataset, Subset):
        dataset, rows = dataset.dataset, [dataset.indices[row] for row in rows]
    return [dataset.question_ids[row] for row in rows]


def memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a GPU so far; on a CPU what the process takes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss


class Bar(TQDMProgressBar):
    """A bar an epoch, with the figures as they were last read."""

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


class Board(Callback):
    """The figures as scalars of TensorBoard, by optimiser step: ``tensorboard --logdir FOLDER``."""

    def __init__(self, folder: Path, monitor: LossMonitor, curve: Curve):
        self.folder = folder / "tensorboard"
        self.monitor = monitor
        self.curve = curve
        self.writer: SummaryWriter | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter  # not where it is not used: a trial starts sooner

            # What came after the checkpoint that the run goes on from is to come again.
            self.writer = SummaryWriter(self.folder, purge_step=trainer.global_step or None)
            self.seen = self.monitor.figures

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.writer and self.monitor.figures is not self.seen:
            self.seen = self.monitor.figures
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            scalars = {f"train/{name}": value for name, value in (self.seen | {"lr": rate}).items()}
            self.write(self.writer, scalars, trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.writer:
            numbers = {f"epoch/{name}": self.curve.epochs[-1][name] for name in ("loss", "accuracy")}
            self.write(self.writer, numbers, trainer.global_step)
            self.writer.flush()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.writer:
            self.writer.close()

    @staticmethod
    def write(writer: "SummaryWriter", scalars: dict[str, float], step: int) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)
