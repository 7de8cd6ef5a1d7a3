"""What this package adds to Lightning's loop: checkpoints that survive, random states, the curve of a run."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from model_space.architecture import write_text
from model_space.errors import InputError

CHECKPOINT = "last.ckpt"
CURVE = "curve.json"
RUN = "run.json"
"""What a folder's search was started with: it goes on only with the same."""

Epoch = dict[str, Any]
"""One point of a curve: epoch (from 1), epochs, accuracy, loss, and what a search adds"""


class WholeCheckpointIO(TorchCheckpointIO):
    """A checkpoint appears whole or not at all, and loading one runs no code of the file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with open(partial, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as a RuntimeError of its zip writer.
            partial.unlink(missing_ok=True)
            full = getattr(error, "errno", None) == errno.ENOSPC or isinstance(error, RuntimeError)
            reason = "the disk is full" if full else error.strerror
            raise InputError(f"{path}: checkpoint not written: {reason}; an earlier one is still whole") from error

    def load_checkpoint(self, path, map_location=None, weights_only: bool | None = True) -> dict[str, Any]:
        return load_checkpoint(Path(path))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU, tensors and plain values only.

    Raises:
        InputError: no such file, or not a whole checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch has no error of its own for a file that is not a checkpoint
        raise InputError(f"{path}: not a whole checkpoint ({type(error).__name__})") from None


def checkpoint_each_epoch(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder,
        filename=Path(CHECKPOINT).stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class RandomStates(Callback):
    """Carries the state of torch's random numbers in the checkpoint: a resumed run draws what it would have drawn."""

    def __init__(self):
        self.restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restored = state_dict

    def on_train_start(self, trainer, pl_module) -> None:
        # Not when the checkpoint is read: what is set up between there and here may draw.
        if self.restored is not None:
            torch.set_rng_state(self.restored["cpu"])
            torch.cuda.set_rng_state_all(self.restored["cuda"])


class Curve(Callback):
    """Measures each epoch, reports it, and keeps the curve as JSON beside the checkpoint.

    Args:
        folder: where ``curve.json`` is written.
        measure: gives what to record of the epoch that ended, from the trained module.
        report: is told each epoch.
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

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        epoch = {
            "epoch": trainer.current_epoch + 1,
            "epochs": trainer.max_epochs,
            "loss": float(trainer.callback_metrics["loss_epoch"]),
        }
        epoch |= self.measure(pl_module)
        self.epochs.append(epoch)
        write_text(self.path, json.dumps(self.epochs, indent=1) + "\n")
        self.report(epoch)


def read_curve(folder: Path) -> list[Epoch]:
    """The curve of a run so far; empty before its first epoch."""
    path = folder / CURVE
    return json.loads(path.read_text()) if path.exists() else []


def same_run(folder: Path, run: dict) -> None:
    """Notes what a folder is used for.

    Raises:
        InputError: it was used for something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN
    if not path.exists():
        write_text(path, json.dumps(run, indent=1) + "\n")
        return
    before = json.loads(path.read_text())
    for section, values in run.items():
        if before.get(section) != values:
            raise InputError(
                f"{folder}: holds a run with another '{section}' (see {RUN}); give another folder, or delete it"
            )
