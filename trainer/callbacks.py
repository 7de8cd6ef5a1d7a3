"""What this package adds to Lightning's loop: checkpoints that survive, random states, the curve of a run."""

import errno
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint

from model_space.errors import InputError
from model_space.files import write_text, write_whole
from trainer.data.batches import ShuffledBatches
from trainer.module import training_module

CHECKPOINT = "last.ckpt"
CURVE = "curve.json"
RUN = "run.json"
"""What a folder's search was started with: it goes on only with the same."""

Epoch = dict[str, Any]
"""One point of a curve: epoch (from 1), epochs, accuracy, loss, and what a search adds"""


class WholeCheckpointIO(TorchCheckpointIO):
    """A checkpoint appears whole or not at all, and loading one runs no code of the file."""

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
                raise InputError(f"{path}: checkpoint not written: {reason}; an earlier one is still whole") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
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


class Checkpoints(Checkpoint):
    """Writes the checkpoint at the end of each epoch, and within one whenever so many minutes have passed.

    Lightning calls a callback of this kind after all others.
    """

    def __init__(self, folder: Path, minutes: float):
        self.path = folder / CHECKPOINT
        self.seconds = 60 * minutes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.written = monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Not between the parts of a step, whose gradients a checkpoint does not hold; nor where the epoch ends anyway.
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


class Resume(Callback):
    """Carries in the checkpoint what Lightning does not: a run that goes on from it ends as if it had not been cut.

    That is the place in the order of the questions, the sums of the epoch so far, and torch's random numbers; of
    several processes those of each, which differ from the first epoch on, or all would drop the same out.

    Args:
        samplers: of the loaders of the run.
    """

    KEY = "resume"

    def __init__(self, samplers: Sequence[ShuffledBatches]):
        self.samplers = samplers
        self.place = 0, 0
        self.restored: dict[str, Any] | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.place = trainer.current_epoch, batch_idx + 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.place = trainer.current_epoch + 1, 0

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        module = training_module(pl_module)
        own = {
            "sums": module.sums.cpu(),
            "questions": module.questions,
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
        }
        processes: list[Any] = [own]
        if trainer.world_size > 1:
            processes = [None] * trainer.world_size
            torch.distributed.all_gather_object(processes, own)
        checkpoint[self.KEY] = {"place": self.place, "processes": processes}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint[self.KEY]
        if len(state["processes"]) != trainer.world_size:
            raise InputError(
                f"the checkpoint is of a run of {len(state['processes'])} processes, and these are "
                f"{trainer.world_size}: go on with as many"
            )
        self.place = epoch, start = state["place"]
        self.restored = state["processes"][trainer.global_rank]
        for sampler in self.samplers:  # before their loaders are asked for a batch
            sampler.set_epoch(epoch, start)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not when the checkpoint is read: what is set up between there and here may draw.
        if self.restored is None:
            if trainer.global_rank:
                torch.manual_seed(torch.initial_seed() + trainer.global_rank)
            return
        if self.place[1]:
            # Lightning does not begin an epoch a second time, but a strategy is to know that it is in one.
            pl_module.on_train_epoch_start()
        module = training_module(pl_module)
        module.sums, module.questions = self.restored["sums"], self.restored["questions"]
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


def mean_loss_and_accuracy(trainer: pl.Trainer, pl_module: pl.LightningModule) -> tuple[float, float]:
    """Of the epoch so far, over the questions of all processes; the accuracy in percent. Waits for the device."""
    module = training_module(pl_module)
    loss, accuracy = trainer.strategy.reduce(module.sums.clone(), reduce_op="sum").tolist()
    questions = module.questions * trainer.world_size
    return loss / questions, 100 * accuracy / questions


def read_curve(folder: Path) -> list[Epoch]:
    """The curve of a run so far; empty before its first epoch."""
    path = folder / CURVE
    return json.loads(path.read_text()) if path.exists() else []


def same_run(folder: Path, run: dict, note: bool) -> None:
    """Makes sure that a folder is used for one run alone.

    Args:
        folder: The folder of the run. It is made if it is not there.
        run: What the run is started with, by section.
        note: Whether this process notes it in the folder, as the first of several does.

    Raises:
        InputError: The folder was used for another run, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: no folder can be made there: {error.strerror}") from None
    path = folder / RUN
    if not path.exists():
        if note:
            write_text(path, json.dumps(run, indent=1) + "\n")
        return
    before = json.loads(path.read_text())
    for section, values in run.items():
        if before.get(section) != values:
            raise InputError(
                f"{folder}: holds a run with another '{section}' (see {RUN}); give another folder, or delete it"
            )
