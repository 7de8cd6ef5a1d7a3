"""The figures of a training for TensorBoard."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from trainer.callbacks.curve import Curve
from trainer.callbacks.loss_monitor import LossMonitor

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Callback):
    """Writes the figures as scalars by optimiser step, for ``tensorboard --logdir FOLDER``.

    Lightning's logger is told from which step on old scalars are taken back when it is made: that is before the
    checkpoint is read, which knows the step.
    """

    def __init__(self, folder: Path, monitor: LossMonitor, curve: Curve):
        self.folder = folder / "tensorboard"
        self.monitor = monitor
        self.curve = curve
        self.writer: SummaryWriter | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter  # not where it is not used: a trial starts sooner

            # What came after the checkpoint from which the run resumes is to come again.
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
