"""The figures of a training for TensorBoard."""

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from trainer.callbacks.curve import Curve, epoch_numbers
from trainer.callbacks.loss_monitor import LossMonitor

VERSION = "brain.Event:2"
"""What a file of TensorBoard's events begins with."""


class TensorBoard(Callback):
    """Writes the figures as scalars by optimiser step, for ``tensorboard --logdir FOLDER``.

    Those of a training or search are the ones of :class:`LossMonitor`, and the numbers of each epoch of the curve; a
    search has the entropy of each choice among them. They are no reason to lose a run: where they cannot be written
    that is said once, and the run goes on.

    Lightning's logger is told from which step on old scalars are taken back when it is made: that is before the
    checkpoint is read, which knows the step. torch's writer has a thread of its own, which on a full disk dies with a
    trace; what is written here is little.
    """

    def __init__(self, folder: Path, monitor: LossMonitor, curve: Curve):
        self.folder = folder / "tensorboard"
        self.monitor = monitor
        self.curve = curve
        self.path: Path | None = None
        self.failed = False

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
        self.write(trainer, {f"epoch/{name}": value for name, value in epoch_numbers(self.curve.epochs[-1]).items()})

    def write(self, trainer: pl.Trainer, scalars: dict[str, float]) -> None:
        if not trainer.is_global_zero or self.failed:
            return
        try:
            self._append(trainer.global_step, scalars)
        except OSError as error:
            self.failed = True
            print(f"{self.folder}: no more figures for TensorBoard: {error.strerror or error}", file=sys.stderr)

    def _append(self, step: int, scalars: dict[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # late: a trial starts sooner
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        values = (Summary.Value(tag=name, simple_value=value) for name, value in scalars.items())
        events = [Event(step=step, summary=Summary(value=[value])) for value in values]
        if self.path is None or not self.path.exists():  # it may have been deleted
            if self.path is None and self.purge_step is not None:
                events.insert(0, Event(step=self.purge_step, session_log=SessionLog(status=SessionLog.START)))
            events.insert(0, Event(file_version=VERSION))
            self.folder.mkdir(parents=True, exist_ok=True)
            self.path = self.folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        with self.path.open("ab") as file:
            records = RecordWriter(file)
            for event in events:
                event.wall_time = time.time()
                records.write(event.SerializeToString())
