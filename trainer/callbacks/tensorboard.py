"""The figures of a training for TensorBoard, and the pictures of a search."""

import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from model_space.errors import one_line
from trainer.callbacks.curve import Curve, Epoch, epoch_numbers
from trainer.callbacks.loss_monitor import LossMonitor

VERSION = "brain.Event:2"
"""What a file of TensorBoard's events begins with."""

Pictures = Mapping[str, Callable[[Sequence[Epoch]], bytes | None]]
"""What draws a run: for each tag of TensorBoard, what makes a PNG of the curve so far, or None where there is no new
one."""


class TensorBoard(Callback):
    """Writes the figures as scalars by optimiser step, for ``tensorboard --logdir FOLDER``.

    Those of a training or search are the ones of :class:`LossMonitor`, and the numbers of each epoch of the curve; a
    search has the entropy of each choice among them, and pictures after each epoch. They are no reason to lose a run:
    where they cannot be written that is said once, and the run goes on.

    Lightning's logger is told from which step on old scalars are taken back when it is made: that is before the
    checkpoint is read, which knows the step. torch's writer has a thread of its own, which on a full disk dies with a
    trace; what is written here is little.

    Args:
        folder: The folder of the run.
        monitor: Reads the figures of the steps.
        curve: Has those of the epochs.
        pictures: Draw the curve.
    """

    def __init__(self, folder: Path, monitor: LossMonitor, curve: Curve, pictures: Pictures | None = None):
        self.folder = folder / "tensorboard"
        self.monitor = monitor
        self.curve = curve
        self.pictures = pictures or {}
        self.path: Path | None = None
        self.failed = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # What came after the checkpoint from which the run resumes is to come again; what came at its step is not.
        self.purge_step = trainer.global_step + 1 if trainer.global_step else None
        self.seen = self.monitor.figures

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.monitor.figures is not self.seen:
            self.seen = self.monitor.figures
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.write(trainer, {f"train/{name}": value for name, value in (self.seen | {"lr": rate}).items()})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        figures = epoch_numbers(self.curve.epochs[-1])
        self.write(trainer, {f"epoch/{name}": value for name, value in figures.items()}, self.pictures)

    def write(self, trainer: pl.Trainer, scalars: Mapping[str, float], pictures: Pictures | None = None) -> None:
        if not trainer.is_global_zero or self.failed:
            return
        try:
            drawn = {tag: draw(self.curve.epochs) for tag, draw in (pictures or {}).items()}
        except Exception as error:  # a picture is no reason to lose a search
            drawn, self.pictures = {}, {}
            print(f"{self.folder}: no more pictures for TensorBoard: {one_line(error)}", file=sys.stderr)
        try:
            self._append(trainer.global_step, scalars, {tag: png for tag, png in drawn.items() if png})
        except OSError as error:
            self.failed = True
            print(f"{self.folder}: no more figures for TensorBoard: {error.strerror or error}", file=sys.stderr)

    def _append(self, step: int, scalars: Mapping[str, float], images: Mapping[str, bytes]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # late: a trial starts sooner
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        for tag, png in images.items():
            width, height = struct.unpack(">II", png[16:24])  # of the first part of a PNG, its header
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
            values.append(Summary.Value(tag=tag, image=image))
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
