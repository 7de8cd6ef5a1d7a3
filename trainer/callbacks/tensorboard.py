"""The figures of a training for TensorBoard."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from trainer.callbacks.curve import Curve, epoch_numbers
from trainer.callbacks.loss_monitor import LossMonitor

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Callback):
    """Writes the figures as scalars by optimiser step, for ``tensorboard --logdir FOLDER``.

    Those of a training or search are the ones of :class:`LossMonitor`, and the numbers of each epoch of the curve; a
    search has the entropy of each choice among them.

    Lightning's logger is told from which step on old scalars are taken back when it is made: that is before the
    checkpoint is read, which knows the step.
    """

    def __init__(self, folder: Path, monitor: LossMonitor, curve: Curve):
        self.folder = folder / "tensorboard"
        self.monitor = monitor
        self.curve = curve
        self.writer: SummaryWriter | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # What came after the checkpoint from which the run resumes is to come again.
        self.purge_step = trainer.global_step or None
        self.seen = self.monitor.figures

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.monitor.figures is not self.seen:
            self.seen = self.monitor.figures
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.write(trainer, {f"train/{name}": value for name, value in (self.seen | {"lr": rate}).items()})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        numbers = {f"epoch/{name}": value for name, value in epoch_numbers(self.curve.epochs[-1]).items()}
        self.write(trainer, numbers)
        if self.writer:
            self.writer.flush()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.writer:
            self.writer.close()

    def write(self, trainer: pl.Trainer, scalars: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # late: a trial starts sooner

            self.writer = SummaryWriter(self.folder, purge_step=self.purge_step)
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, trainer.global_step)
