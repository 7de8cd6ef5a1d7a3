"""Trains the network of one architecture from new weights."""

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import Field
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.network import Network
from trainer.callbacks.checkpoint import CHECKPOINT, Checkpoints, WholeCheckpointIO, load_checkpoint
from trainer.callbacks.curve import Curve, Epoch
from trainer.callbacks.loss_monitor import LossMonitor
from trainer.callbacks.progress_bar import ProgressBar
from trainer.callbacks.resume import Resume
from trainer.callbacks.run_folder import same_run
from trainer.callbacks.tensorboard import TensorBoard
from trainer.data.splits import Data
from trainer.data.vectors import start_embedding
from trainer.data.vocabulary import Vocabulary
from trainer.data.vqa import loader, sampler_of
from trainer.evaluation.evaluate import mean_soft_accuracy
from trainer.memory import refuse_too_large
from trainer.module import VQAModule
from trainer.processes import Processes
from trainer.settings import WARMUP, Epochs, LoopSettings

PACKAGES = ("torch", "pytorch-lightning")
"""The packages whose versions a checkpoint names."""


class TrainSettings(LoopSettings):
    """Settings of the training of a found or fixed network. The defaults are those of MCAN small."""

    warmup: str | None = Field("3 epochs", pattern=f"^{WARMUP}$")
    """How the learning rate rises at the start, see :class:`~trainer.settings.LoopSettings`."""
    decay_epochs: tuple[Epochs, ...] = (10, 12)
    """Epochs after each of which the learning rate is multiplied by `decay`."""
    clip: float | None = Field(None, gt=0, le=1_000_000)
    """Largest norm of the gradient of all weights. Null means that it is not clipped."""


EXTRACTOR = "extractor"
"""The key under which a checkpoint says what made the features that it was trained on, if that is known."""


class SelfContained(Callback):
    """Puts into each checkpoint what is needed to use it, the architecture and the vocabulary, and what it is of."""

    def __init__(self, architecture: Architecture, data: Data, settings: TrainSettings):
        self.contents = {
            "architecture": architecture.to_json(),
            "vocabulary": data.vocabulary.to_dict(),
            EXTRACTOR: data.extractor,
            "trained": {
                "data": data.described,
                "settings": settings.model_dump(mode="json", exclude={"checkpoint_minutes"}),
                "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            },
        }

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint.update(self.contents)


def train(
    data: Data,
    architecture: Architecture,
    settings: TrainSettings,
    folder: Path,
    report: Callable[[Epoch], None] = lambda epoch: None,
    progress_bar: bool = False,
) -> Path:
    """Trains, with checkpoints; where ``folder`` holds the checkpoint of such a run, resumes it.

    The architecture is taken as it is; what the data fixes (feature width, words, answers) is taken from the data.
    Started by ``torchrun``, each process has its share of every batch, and the first one validates and writes.

    Returns:
        The checkpoint of the last epoch.

    Raises:
        InputError: The folder holds another run, a batch cannot be divided, the network is larger than the memory, or a
            loss is not finite.
    """
    architecture = architecture.for_data(data.sizes)
    refuse_too_large(architecture.parameters(), "the network")
    run = {"space": architecture.space.model_dump(mode="json"), "choices": architecture.choices}
    run["train"] = settings.model_dump(mode="json", exclude={"checkpoint_minutes"})
    processes = Processes.of_torchrun()
    micro_batches = processes.micro_batches("train", settings.batch_size, settings.accumulate)
    torch.manual_seed(settings.seed)
    batches = loader(data.train, settings.batch_size, seed=settings.seed, drop_last=True)
    if not len(batches):
        raise InputError(
            f"train.batch_size: {settings.batch_size} is more than the {len(data.train)} training questions"
        )
    same_run(folder, run | data.stated, processes.rank == 0)
    steps = min(len(batches), settings.steps_per_epoch or len(batches))
    sampler_of(batches).divide(settings.accumulate, processes.rank, processes.world_size)
    module = VQAModule(settings, steps, micro_batches)
    network = architecture.network()
    module.set_model(network)
    if data.word_vectors:
        start_embedding(network, data.word_vectors)
    monitor = LossMonitor([batches], folder)
    callbacks = callbacks_of(data, architecture, network, settings, folder, batches, monitor, report)
    if progress_bar:
        callbacks.append(ProgressBar(monitor))
    trainer = pl.Trainer(
        max_epochs=settings.epochs,
        limit_train_batches=steps * settings.accumulate,
        accumulate_grad_batches=settings.accumulate,
        callbacks=callbacks,
        plugins=[WholeCheckpointIO()],
        precision=settings.precision,
        gradient_clip_val=settings.clip,
        logger=False,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **processes.trainer_options(),
    )
    checkpoint = folder / CHECKPOINT
    try:
        trainer.fit(module, batches, ckpt_path=checkpoint if checkpoint.exists() else None)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    return checkpoint


def callbacks_of(
    data: Data,
    architecture: Architecture,
    network: Network,
    settings: TrainSettings,
    folder: Path,
    batches: DataLoader,
    monitor: LossMonitor,
    report: Callable[[Epoch], None],
) -> list[Callback]:
    """Returns the callbacks of a training's loop, in the order in which Lightning calls them."""
    curve = Curve(folder, lambda module: {"accuracy": mean_soft_accuracy(network, data.val)}, report)
    return [
        Resume([sampler_of(batches)]),
        monitor,
        curve,
        TensorBoard(folder, monitor, curve),
        SelfContained(architecture, data, settings),
        Checkpoints(folder, settings.checkpoint_minutes),
    ]


def load_trained(path: Path) -> tuple[Network, Vocabulary, Architecture]:
    """Returns the network of a checkpoint, the words and answers that it knows, and its architecture.

    Raises:
        InputError: The file is not a checkpoint of a trained architecture.
    """
    return trained_network(load_checkpoint(path), str(path))


def trained_network(content: dict[str, Any], where: str) -> tuple[Network, Vocabulary, Architecture]:
    """Returns the network, the vocabulary and the architecture of a checkpoint that was trained here.

    Args:
        content: What the file holds.
        where: Names the file in an error.

    Raises:
        InputError: The file is no such checkpoint, or its parts do not fit each other.
    """
    if not isinstance(content, dict) or "architecture" not in content:
        raise InputError(f"{where}: not the checkpoint of a trained architecture (a search's, perhaps)")
    architecture = Architecture.from_json(content["architecture"], where)
    module = VQAModule(LoopSettings(), steps_per_epoch=1)
    network = architecture.network()
    module.set_model(network)
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError:
        raise InputError(f"{where}: its weights do not fit its architecture") from None
    vocabulary = Vocabulary.from_dict(content["vocabulary"], where)
    sizes = architecture.space.data
    if (len(vocabulary.words), len(vocabulary.answers)) != (sizes.vocabulary_size, sizes.answers):
        raise InputError(
            f"{where}: vocabulary: {len(vocabulary.words)} words and {len(vocabulary.answers)} answers, where its "
            f"network has {sizes.vocabulary_size} and {sizes.answers}"
        )
    return network, vocabulary, architecture
