"""One one-shot search: from a space and data to the architecture that it finds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from nni.nas.evaluator.pytorch import Lightning, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from nni.nas.space import RawFormatModelSpace
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from model_space.architecture import Architecture, Space
from model_space.errors import InputError
from trainer.callbacks.checkpoint import CHECKPOINT, Checkpoints, WholeCheckpointIO
from trainer.callbacks.curve import Curve, Epoch
from trainer.callbacks.loss_monitor import LossMonitor
from trainer.callbacks.resume import Resume
from trainer.callbacks.run_folder import same_run
from trainer.callbacks.tensorboard import Pictures, TensorBoard
from trainer.data.splits import Data
from trainer.data.vectors import start_embedding
from trainer.data.vqa import VQADataset, loader, sampler_of
from trainer.derivation import derive, shares
from trainer.evaluation.evaluate import mean_soft_accuracy
from trainer.memory import refuse_too_large
from trainer.module import VQAModule
from trainer.processes import Processes, Unwrapped
from trainer.strategy import SearchSettings
from trainer.supernet.health import GradientSignal, health


def search(
    data: Data,
    space: Space,
    settings: SearchSettings,
    folder: Path,
    report: Callable[[Epoch], None],
    pictures: Pictures | None = None,
) -> Architecture:
    """Searches, with checkpoints; where ``folder`` holds the checkpoint of such a search, resumes it.

    One of several processes (those of ``torchrun``, or `search.processes` of a trial) has its share of every batch, and
    the first one validates, reports and writes. All return the same.

    Args:
        data: Training and validation split.
        space: What is searched; its data sizes are those of ``data``.
        settings: Settings of a strategy, for example :class:`~trainer.strategies.snas.SnasSettings`.
        folder: Where the checkpoint and the curve go; the curve has every candidate's probability.
        report: Is told each epoch: epoch, epochs, accuracy of the derived architecture on the validation split in
            percent, loss, temperature, the probability of every candidate, and the health of the search
            (:mod:`trainer.supernet.health`).
        pictures: Draw the curve for TensorBoard.

    Returns:
        The derived architecture. Its score is its accuracy on the validation split: with the supernet's weights, or
        with ``samples`` after a short training from them.

    Raises:
        InputError: The folder holds another search, the space has nothing to search, a batch cannot be divided, or a
            loss is not finite.

    Example:
        >>> from model_space.sizes import NetworkSettings
        >>> from model_space.spaces.stacked import StackedSettings
        >>> from trainer.data.settings import DataSettings
        >>> from trainer.data.splits import load_data
        >>> from trainer.strategies.snas import SnasSettings
        >>> digits = {"folder": "data/digits", "train_scenes": 40, "val_scenes": 4, "test_scenes": 4}
        >>> data = load_data(DataSettings(digits=digits))
        >>> backbone = StackedSettings(edges="one", cells=1, nodes=1)
        >>> space = Space(backbone=backbone, network=NetworkSettings(hidden=16, heads=2), data=data.sizes)
        >>> settings = SnasSettings(epochs=1, steps_per_epoch=2)
        >>> found = search(data, space, settings, Path("runs/search"), lambda epoch: print(epoch["epoch"]))
        1
        >>> sorted(found.choices)
        ['image_node1_input', 'image_node1_operation', 'question_node1_input', 'question_node1_operation']
    """

    def measure(module: Any) -> Epoch:
        probabilities, choices = module.export_probs(), module.export()
        if settings.samples and module.current_epoch + 1 == settings.epochs:
            choices, accuracy, shortlist = derive(module.model, choices, probabilities, space, data, settings)
            probabilities = shares(shortlist, space)
        else:
            with module.validated():
                accuracy = mean_soft_accuracy(module.model, data.val)
        return {
            "accuracy": accuracy,
            **health(probabilities, curve.epochs[-1]["probabilities"] if curve.epochs else None),
            **signal.measured(),
            **module.figures(),
            "probabilities": probabilities,
            "choices": choices,
        }

    signal, curve = GradientSignal(), Curve(folder, measure, report)
    run(data, space, settings, [signal, curve], folder, pictures)
    last = curve.epochs[-1]
    return Architecture(space=space, choices=last["choices"], score=last["accuracy"])


def run(
    data: Data,
    space: Space,
    settings: SearchSettings,
    watching: Sequence[Callback],
    folder: Path | None,
    pictures: Pictures | None = None,
) -> BaseOneShotLightningModule:
    """Runs the loop of a search with callbacks that see what it does.

    Args:
        data: Training and validation split.
        space: What is searched.
        settings: Settings of a strategy.
        watching: Callbacks of Lightning.
        folder: Where checkpoints go, from which the loop resumes; None keeps none.
        pictures: Draw the curve for TensorBoard.

    Returns:
        The Lightning module of the strategy, with the supernet.

    Raises:
        InputError: See :func:`search`; or a batch is larger than the data, or the supernet than the memory.
    """
    if not space.candidates():
        raise InputError(
            f"space.name: '{space.backbone.name}' is a fixed network and so is the encoder "
            f"'{space.encoder.name}': there is nothing to search"
        )
    refuse_too_large(space.parameters(), "the supernet")
    processes = Processes.of_torchrun()
    processes.micro_batches("search", settings.batch_size, settings.accumulate)
    torch.manual_seed(settings.seed)
    strategy = settings.build()
    weights, architecture = training_batches(data.train, settings)
    steps = min(len(weights), len(architecture))
    if not steps:
        raise InputError(f"search.batch_size: {settings.batch_size} is more than the questions there are to train on")
    if folder is not None:
        same_run(folder, describe(data, space, settings), processes.rank == 0)
    steps = min(steps, settings.steps_per_epoch or steps)
    for batches in (weights, architecture):  # whole: a step takes its questions at once, and divides them itself
        sampler_of(batches).divide(1, processes.rank, processes.world_size)
    used = [weights, architecture] if settings.bilevel else [weights]
    evaluator = Lightning(
        VQAModule(settings, steps),
        trainer_of(settings, steps, callbacks(settings, used, watching, folder, pictures), processes),
        train_dataloaders=weights,
        val_dataloaders=architecture,
        fit_kwargs={"ckpt_path": checkpoint_in(folder)},
    )
    model_space = space.build()
    if data.word_vectors:
        start_embedding(model_space, data.word_vectors)
    supernet = strategy.initialize(RawFormatModelSpace(model_space, evaluator), SequentialExecutionEngine())
    # Not run by the engine: that would take what the trial reports for its own, and NNI's manager would see nothing.
    supernet.execute()
    strategy.oneshot_module.set_model(strategy.supernet)  # NNI does not promise that it stays there
    return strategy.oneshot_module


def describe(data: Data, space: Space, settings: SearchSettings) -> dict[str, Any]:
    """Returns what makes a search this one and not another, by section."""
    search = settings.model_dump(mode="json", exclude={"checkpoint_minutes"})
    return {"space": space.model_dump(mode="json"), "search": search} | data.stated


def checkpoint_in(folder: Path | None) -> str | None:
    """Returns the checkpoint from which a search resumes; None where there is none."""
    return str(folder / CHECKPOINT) if folder is not None and (folder / CHECKPOINT).exists() else None


def trainer_of(settings: SearchSettings, steps: int, callbacks: list[Callback], processes: Processes) -> Trainer:
    """Returns Lightning's trainer for a search of so many steps an epoch."""
    return Trainer(
        max_epochs=settings.epochs,
        limit_train_batches=steps,
        callbacks=callbacks,
        plugins=[WholeCheckpointIO()],
        enable_checkpointing=any(isinstance(each, Checkpoints) for each in callbacks),
        precision=settings.precision,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **processes.trainer_options(Unwrapped),
    )


def training_batches(train: VQADataset, settings: SearchSettings) -> tuple[DataLoader, DataLoader]:
    """Returns the batches that train the weights, and those that train the architecture."""
    weights, architecture = (
        loader(questions, settings.batch_size, seed=settings.seed, drop_last=True)
        for questions in settings.split(train)
    )
    return weights, architecture


def callbacks(
    settings: SearchSettings,
    used: list[DataLoader],
    watching: Sequence[Callback],
    folder: Path | None,
    pictures: Pictures | None,
) -> list[Callback]:
    """Returns the callbacks of a search's loop; ``used`` are the batches that it reads."""
    monitor = LossMonitor(used, folder)
    if folder is None:
        return [monitor, *watching]
    boards = [TensorBoard(folder, monitor, each, pictures) for each in watching if isinstance(each, Curve)]
    resume = Resume([sampler_of(batches) for batches in used])
    return [resume, monitor, *watching, *boards, Checkpoints(folder, settings.checkpoint_minutes)]
