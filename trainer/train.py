"""Trains the network of one architecture from new weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import Field
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from torch import nn

from model_space.architecture import Architecture
from model_space.errors import InputError
from trainer.callbacks import (
    CHECKPOINT,
    Curve,
    Epoch,
    RandomStates,
    WholeCheckpointIO,
    checkpoint_each_epoch,
    load_checkpoint,
    same_run,
)
from trainer.data.splits import Data
from trainer.data.vocabulary import Vocabulary
from trainer.data.vqa import loader
from trainer.evaluate import mean_soft_accuracy
from trainer.module import OptimizerSettings, VQAModule


class TrainSettings(OptimizerSettings):
    """Training of a found or fixed network; the defaults are those of MCAN small, but for its warm-up of three epochs,
    which `warmup_steps` gives in steps."""

    seed: int = Field(0, ge=0)
    epochs: int = Field(13, ge=1)
    decay_epochs: tuple[int, ...] = (10, 12)
    steps_per_epoch: int | None = Field(None, ge=1)
    """an epoch ends after so many steps; null: when all training questions were seen"""
    batch_size: int = Field(64, ge=1)
    clip: float | None = Field(None, gt=0)
    """largest norm of the gradient of all weights; null: not clipped"""


class SelfContained(Callback):
    """Puts into each checkpoint what it takes to use it: the architecture and the vocabulary."""

    def __init__(self, architecture: Architecture, vocabulary: Vocabulary):
        self.contents = {"architecture": architecture.to_json(), "vocabulary": vocabulary.to_dict()}

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        checkpoint.update(self.contents)


def train(
    data: Data,
    architecture: Architecture,
    settings: TrainSettings,
    folder: Path,
    report: Callable[[Epoch], None] = lambda epoch: None,
    progress_bar: bool = False,
) -> Path:
    """Trains, with a checkpoint each epoch; where ``folder`` holds the checkpoint of such a run, goes on from it.

    The architecture is taken as it is; what the data fixes (feature width, words, answers) is taken from the data.

    Returns:
        The checkpoint of the last epoch.

    Raises:
        InputError: the folder holds another run.
    """
    architecture = architecture.for_data(data.sizes)
    run = {"space": architecture.space.model_dump(mode="json"), "choices": architecture.choices}
    same_run(folder, {**run, "train": settings.model_dump(mode="json")})
    torch.manual_seed(settings.seed)
    batches = loader(data.train, settings.batch_size, seed=settings.seed, drop_last=True)
    if not len(batches):
        raise InputError(
            f"train.batch_size: {settings.batch_size} is more than the {len(data.train)} training questions"
        )
    steps = min(len(batches), settings.steps_per_epoch or len(batches))
    module = VQAModule(settings, steps)
    module.set_model(architecture.network())
    callbacks = [
        Curve(folder, lambda module: {"accuracy": mean_soft_accuracy(module.model, data.val)}, report),
        RandomStates(),
        SelfContained(architecture, data.vocabulary),
        checkpoint_each_epoch(folder),
    ]
    trainer = pl.Trainer(
        max_epochs=settings.epochs,
        limit_train_batches=steps,
        callbacks=[*callbacks, TQDMProgressBar(refresh_rate=10)] if progress_bar else callbacks,
        plugins=[WholeCheckpointIO()],
        devices=1,
        precision=settings.precision,
        gradient_clip_val=settings.clip,
        logger=False,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    checkpoint = folder / CHECKPOINT
    try:
        trainer.fit(module, batches, ckpt_path=checkpoint if checkpoint.exists() else None)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    return checkpoint


def load_trained(path: Path) -> tuple[nn.Module, Vocabulary, Architecture]:
    """The network of a checkpoint, with the words and answers that it knows.

    Raises:
        InputError: not a checkpoint of a trained architecture.
    """
    return trained_network(load_checkpoint(path), str(path))


def trained_network(content: dict[str, Any], where: str) -> tuple[nn.Module, Vocabulary, Architecture]:
    """The same of what a checkpoint holds; ``where`` names the file in errors."""
    if not isinstance(content, dict) or "architecture" not in content:
        raise InputError(f"{where}: not the checkpoint of a trained architecture (a search's, perhaps)")
    architecture = Architecture.from_json(content["architecture"], where)
    module = VQAModule(OptimizerSettings(), steps_per_epoch=1)
    module.set_model(architecture.network())
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError:
        raise InputError(f"{where}: its weights do not fit its architecture") from None
    return module.model, Vocabulary.from_dict(content["vocabulary"], where), architecture
