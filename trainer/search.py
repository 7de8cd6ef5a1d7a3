"""One one-shot search: from a space and data to the architecture that it finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from nni.nas.evaluator.pytorch import Lightning, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.oneshot.pytorch.strategy import DARTS
from nni.nas.space import RawFormatModelSpace
from pydantic import Field, model_validator
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import Subset

from model_space.architecture import Architecture, Space
from model_space.errors import InputError
from trainer.callbacks import CHECKPOINT, Checkpoints, Curve, Epoch, Resume, WholeCheckpointIO, same_run
from trainer.data.splits import Data
from trainer.data.vectors import start_embedding
from trainer.data.vqa import VQADataset, loader
from trainer.evaluation.evaluate import mean_soft_accuracy
from trainer.module import LoopSettings, VQAModule
from trainer.processes import Processes, Unwrapped
from trainer.progress import LossMonitor
from trainer.strategies.darts import Darts
from trainer.strategies.gumbel_darts import GumbelDarts
from trainer.strategies.single_path import SinglePath
from trainer.strategies.snas import Snas
from trainer.supernet.choices import at_sample, derive, distribution, entropy

STRATEGIES = {"snas": Snas, "single_path": SinglePath, "darts": Darts, "gumbel_darts": GumbelDarts}
BILEVEL = ("darts", "gumbel_darts")


class SearchSettings(LoopSettings):
    """One search; the defaults are those of NAS-VQA."""

    strategy: Literal["snas", "single_path", "darts", "gumbel_darts"] = "snas"
    seed: int = Field(0, ge=0)
    epochs: int = Field(9, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    """an epoch ends after so many steps; null: when all training questions were seen"""
    batch_size: int = Field(64, ge=1)
    """questions of a step, those of all processes together"""
    processes: int = Field(1, ge=1)
    """a trial of NNI searches by so many processes, each of which computes its share of every batch: on GPUs each on
    one of its own"""
    architecture_lr: float = Field(3e-4, gt=0)
    temperature: tuple[float, float] = (1.0, 1.0)
    """of the Gumbel-softmax, at the start and towards the end; linear in between"""
    architecture_share: float = Field(0.5, gt=0, lt=1)
    """part of the training questions that trains the architecture where a strategy is bi-level (darts, gumbel_darts)"""

    @model_validator(mode="after")
    def _cooling(self):
        if not self.temperature[0] >= self.temperature[1] > 0:
            raise ValueError(f"temperature is {list(self.temperature)}, expected [start, end] with start >= end > 0")
        return self


def search(
    data: Data,
    space: Space,
    settings: SearchSettings,
    folder: Path,
    report: Callable[[Epoch], None],
) -> Architecture:
    """Searches, with checkpoints; where ``folder`` holds the checkpoint of such a search, goes on from it.

    One of several processes (those of ``torchrun``, or `search.processes` of a trial) has its share of every batch, and
    the first one validates, reports and writes. All return the same.

    Args:
        folder: for the checkpoint and the curve with every candidate's probability.
        report: is told each epoch: epoch, epochs, accuracy of the derived architecture on the validation split in
            percent, loss, temperature, entropy.

    Returns:
        The derived architecture; its score is its accuracy on the validation split, with the supernet's weights.

    Raises:
        InputError: the folder holds another search, the space has nothing to search, a batch cannot be divided, or a
            loss is not finite.
    """

    def measure(module) -> Epoch:
        probabilities = distribution(module)
        with at_sample(module, derive(module)):
            accuracy = mean_soft_accuracy(module.model, data.val)
        temperature = {"temperature": module.temperature} if hasattr(module, "temperature") else {}
        return {
            "accuracy": accuracy,
            "entropy": entropy(probabilities),
            **temperature,
            "probabilities": probabilities,
        }

    curve = Curve(folder, measure, report)
    supernet = run(data, space, settings, curve, folder)
    return Architecture(space=space, choices=derive(supernet), score=curve.epochs[-1]["accuracy"])


def run(data: Data, space: Space, settings: SearchSettings, callback: Callback, folder: Path | None) -> nn.Module:
    """Runs the loop of a search with one callback, which sees what it does.

    Args:
        folder: for checkpoints, from which the loop goes on; None: it keeps none.

    Returns:
        The supernet.

    Raises:
        InputError: see :func:`search`; or a batch is more than the data.
    """
    if not space.candidates():
        raise InputError(
            f"space.name: '{space.backbone.name}' is a fixed network and so is the encoder "
            f"'{space.encoder.name}': there is nothing to search"
        )
    processes = Processes.of_torchrun()
    processes.parts("search", settings.batch_size, settings.accumulate)
    torch.manual_seed(settings.seed)
    strategy = build_strategy(settings)
    bilevel = settings.strategy in BILEVEL
    batches = training_batches(data.train, settings, bilevel)
    steps = min(len(loader) for loader in batches.values())
    if not steps:
        raise InputError(f"search.batch_size: {settings.batch_size} is more than the questions there are to train on")
    if folder is not None:
        described = settings.model_dump(mode="json", exclude={"checkpoint_minutes"})
        same_run(folder, {"space": space.model_dump(mode="json"), "search": described} | data.stated)
    steps = min(steps, settings.steps_per_epoch or steps)
    for batch in batches.values():  # in one part: a step takes its questions at once, and computes them in parts
        batch.sampler.divide(1, processes.rank, processes.world_size)
    checkpoint = None
    used = list(batches.values()) if bilevel else [batches["train"]]
    callbacks = [LossMonitor(used, folder), callback]
    if folder is not None:
        callbacks = [Resume([loader.sampler for loader in used]), *callbacks]
        callbacks.append(Checkpoints(folder, settings.checkpoint_minutes))
        checkpoint = str(folder / CHECKPOINT) if (folder / CHECKPOINT).exists() else None
    trainer = Trainer(
        max_epochs=settings.epochs,
        limit_train_batches=steps,
        callbacks=callbacks,
        plugins=[WholeCheckpointIO()],
        enable_checkpointing=folder is not None,
        precision=settings.precision,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **processes.trainer_options(Unwrapped),
    )
    evaluator = Lightning(
        VQAModule(settings, steps),
        trainer,
        train_dataloaders=batches["train"],
        val_dataloaders=batches["architecture"],
        fit_kwargs={"ckpt_path": checkpoint},
    )
    model_space = space.build()
    if data.word_vectors:
        start_embedding(model_space, data.word_vectors)
    supernet = strategy.initialize(RawFormatModelSpace(model_space, evaluator), SequentialExecutionEngine())
    # Not run by the engine: that would take what the trial reports for its own, and NNI's manager would see nothing.
    supernet.execute()
    return strategy.supernet


def build_strategy(settings: SearchSettings) -> DARTS:
    options = {"architecture_lr": settings.architecture_lr}
    if settings.strategy != "darts":
        options["temperature"] = settings.temperature
    return STRATEGIES[settings.strategy](**options)


def training_batches(train: VQADataset, settings: SearchSettings, bilevel: bool) -> dict:
    """Loaders for the weights and for the architecture: of parts of the split that have no question in common where
    the search is bi-level, else the same."""
    parts = {"train": train, "architecture": train}
    if bilevel:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(settings.seed)).tolist()
        held_out = round(len(train) * settings.architecture_share)
        parts = {"train": Subset(train, order[held_out:]), "architecture": Subset(train, order[:held_out])}
    return {name: loader(part, settings.batch_size, seed=settings.seed, drop_last=True) for name, part in parts.items()}
