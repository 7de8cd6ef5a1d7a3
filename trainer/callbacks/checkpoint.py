"""Checkpoints of a run, written whole and read without running code of theirs."""

import errno
import zipfile
from pathlib import Path
from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from model_space.errors import InputError
from model_space.files import write_whole

CHECKPOINT = "last.ckpt"


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads one without running code of the file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        with write_whole(path) as partial:
            try:
                with open(partial, "wb") as file:
                    torch.save(checkpoint, file)
            except (OSError, RuntimeError) as error:
                reason = "the disk is full"  # torch says so by a RuntimeError of its zip writer
                if isinstance(error, OSError) and error.errno != errno.ENOSPC:
                    reason = error.strerror or str(error)
                kept = "; the earlier one is still whole" if path.exists() else ""
                raise InputError(f"{path}: checkpoint not written: {reason}{kept}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU, tensors and plain values only.

    torch's archive has the checksum of each of its parts, and torch does not look at them. Here they are compared, once
    a run: that takes about a second a gigabyte.

    Raises:
        InputError: There is no such file, it is not a whole checkpoint, or a byte of it is no longer what was written.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        damaged = None
        if zipfile.is_zipfile(path):  # a `.pkl` of old has no checksums
            with zipfile.ZipFile(path) as parts:
                damaged = parts.testzip()
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch has no error of its own for a file that is not a checkpoint
        raise InputError(f"{path}: not a whole checkpoint ({type(error).__name__})") from None
    if damaged:
        raise InputError(f"{path}: damaged: the checksum of its part '{damaged}' is not the one that was written")
    return content


class Checkpoints(Checkpoint):
    """Writes the checkpoint at the end of each epoch, and within one whenever so many minutes have passed.

    Lightning calls a callback of this kind after all others. Its own `ModelCheckpoint` writes at the end of epochs or
    by the clock, and not both to one file.

    Args:
        folder: Where the checkpoint goes.
        minutes: Minutes between two checkpoints within an epoch.
    """

    def __init__(self, folder: Path, minutes: float):
        self.path = folder / CHECKPOINT
        self.seconds = 60 * minutes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.written = monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Not between micro-batches, whose gradients a checkpoint does not hold; nor where the epoch ends anyway.
        if (batch_idx + 1) % trainer.accumulate_grad_batches or batch_idx + 1 >= trainer.num_training_batches:
            return
        due = monotonic() - self.written >= self.seconds
        if trainer.strategy.broadcast(due):  # all processes have a part in writing it, and each has a clock
            self.write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.write(trainer)

    def write(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.written = monotonic()
