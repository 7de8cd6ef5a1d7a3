"""What a search and a training will take, measured on a few steps of made-up batches of the sizes that the data has.

Memory and time of a step are taken as a + b × questions, from steps of two sizes: on a CPU of a part of the batch,
which is quicker. Numbers of regions are drawn as bottom-up features have them, and within a batch they are the same, as
in the batches of a training they nearly are. The memory is that of images with as many regions as there may be.
"""

import ctypes
import gc
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, Dataset

from model_space.architecture import Architecture, Space
from model_space.errors import InputError
from model_space.network import parameter_count
from model_space.sizes import DataSizes
from trainer.data.batches import longest_first
from trainer.data.splits import Data
from trainer.data.vqa import Batch, VQADataset
from trainer.memory import refuse_too_large
from trainer.module import LoopSettings, VQAModule, answer_logits, training_module
from trainer.search import run
from trainer.strategy import SearchSettings
from trainer.supernet.choices import at_sample
from trainer.train import TrainSettings

LONGEST, USUAL, TIMES = 2, 3, 2
"""Number of steps of the longest images, of which the second is measured for its memory; numbers of regions of the
steps that are timed; and how often each is timed. The fastest counts, since a machine may have other things to do."""
STEPS = LONGEST + USUAL * TIMES


@dataclass(frozen=True)
class Shape:
    """The sizes of questions and images."""

    sizes: DataSizes
    max_tokens: int = 14
    max_regions: int = 100
    trim: bool = True

    def regions(self) -> list[int]:
        """The number of regions of the images of each step: that of the longest image."""
        usual = self.usual_regions if self.trim else [self.max_regions] * USUAL
        return [self.max_regions] * LONGEST + usual * TIMES

    @cached_property
    def usual_regions(self) -> list[int]:
        """Numbers of regions: of the shortest third of images, of the middle third and of the longest.

        They are 10 to 100, with a mean of 37, if the settings allow as many.
        """
        drawn = 10 + np.random.default_rng(0).gamma(1.8, 16.0, 10_000)
        drawn = np.minimum(drawn[drawn < 101], self.max_regions)
        return [round(value) for value in np.quantile(drawn, [1 / 6, 1 / 2, 5 / 6])]


class MadeUp(Dataset):
    """Batches of a shape; each time the next number of regions, whichever questions are asked for.

    Args:
        calls: Number of batches that a step takes.
    """

    def __init__(self, shape: Shape, questions: int, calls: int):
        self.shape, self.calls, self.called, self.workers = shape, calls, 0, 0
        self.question_ids = list(range(questions))
        self.lengths = torch.ones(questions, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.question_ids)

    def __getitem__(self, rows: list[int]) -> Batch:
        regions = self.shape.regions()[self.called // self.calls % STEPS]
        self.called += 1
        return made_up(self.shape, len(rows), regions)


def made_up(shape: Shape, questions: int, regions: int) -> Batch:
    sizes, tokens = shape.sizes, shape.max_tokens
    token_mask = torch.arange(tokens) < torch.randint(min(5, tokens), tokens + 1, (questions, 1))
    return Batch(
        regions=torch.randn(questions, regions, sizes.feature_size),
        boxes=(torch.rand(questions, regions, 4) * 100).cumsum(-1),
        region_mask=torch.ones(questions, regions, dtype=torch.bool),
        tokens=torch.randint(1, sizes.vocabulary_size, (questions, tokens)) * token_mask,
        token_mask=token_mask,
        targets=(torch.rand(questions, sizes.answers) < 2 / sizes.answers).float(),
    )


@dataclass(frozen=True)
class Measured:
    """What steps of a number of questions cost."""

    questions: int
    bytes: float
    """Bytes of memory at the peak: on a GPU those of tensors, else those of the whole process."""
    seconds: float
    forward_seconds: float
    """Seconds of a forward pass without gradients, as in a validation."""


@dataclass(frozen=True)
class StepCost:
    """What a step costs, by a line through what was measured of two sizes."""

    parameters: int
    small: Measured
    large: Measured

    def bytes(self, questions: float) -> float:
        return self._line("bytes", questions)

    def seconds(self, questions: float) -> float:
        return self._line("seconds", questions)

    def forward_seconds(self, questions: float) -> float:
        return self._line("forward_seconds", questions)

    def _line(self, name: str, questions: float) -> float:
        low, high = getattr(self.small, name), getattr(self.large, name)
        slope = max(0.0, (high - low) / (self.large.questions - self.small.questions))
        return high + slope * (questions - self.large.questions)


class Meter(Callback):
    """A callback that measures the steps of a loop."""

    def __init__(self, shape: Shape, questions: int):
        self.shape, self.questions = shape, questions
        self.steps = 0
        self.times: list[float] = []
        self.validating: Callable[[Any], AbstractContextManager[object]] = lambda module: nullcontext()
        """Within this block the trained module is the network of a validation: a supernet is its derived network."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.steps == LONGEST - 1:
            restart_peak()
        self.start = now()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps += 1
        if self.steps > LONGEST:
            self.times.append(now() - self.start)
        elif self.steps == LONGEST:
            self.bytes = peak()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        device, times = pl_module.device, []
        with self.validating(pl_module), torch.inference_mode():
            pl_module.eval()
            for regions in self.shape.regions()[LONGEST:]:
                batch = Batch(*(each.to(device) for each in made_up(self.shape, self.questions, regions)))
                start = now()
                answer_logits(training_module(pl_module).model, batch)
                times.append(now() - start)
        seconds, forward_seconds = (
            np.min(np.reshape(each, (TIMES, USUAL)), axis=0).mean() for each in (self.times, times)
        )
        self.measured = Measured(self.questions, self.bytes, float(seconds), float(forward_seconds))


def restart_peak() -> None:
    """Forgets how much memory was needed so far."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
        Path("/proc/self/clear_refs").write_text("5")  # see man 5 proc


def peak() -> int:
    """Returns the bytes that were needed at most since :func:`forget_peak`."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])


def now() -> float:
    """Returns the time in seconds, once the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(shape: Shape, questions: int, steps: Callable[[Shape, int, Meter], nn.Module]) -> StepCost:
    """Measures steps of two sizes, the larger a quarter of ``questions`` on a CPU and all that fit on a GPU.

    Raises:
        InputError: Not even two questions fit.
    """
    whole = max(2, questions) if torch.cuda.is_available() else max(4, questions // 4)
    network: nn.Module | None
    meter: Meter | None
    while True:
        try:
            measured = []
            for size in (max(1, whole // 4), whole):
                gc.collect()
                meter = Meter(shape, size)
                network = steps(shape, size, meter)
                measured.append(meter.measured)
                parameters = parameter_count(network)
            return StepCost(parameters, *measured)
        except torch.OutOfMemoryError:
            if whole == 2:
                raise InputError(
                    "network: not even a step of two questions fits into the memory of the device; make it smaller"
                ) from None
            whole = max(2, whole // 4)
            network = meter = None
            torch.cuda.empty_cache()


def search_steps(space: Space, settings: SearchSettings) -> Callable[[Shape, int, Meter], nn.Module]:
    """Returns a function that takes a few steps of a search; with accumulated gradients, of one micro-batch."""

    def steps(shape: Shape, questions: int, meter: Meter) -> nn.Module:
        loaders = 2 if settings.bilevel else 1
        few: dict[str, float] = {"epochs": 1, "steps_per_epoch": STEPS, "batch_size": questions, "accumulate": 1}
        if settings.bilevel:
            few["architecture_share"] = 0.5
        split = MadeUp(shape, loaders * questions * STEPS, loaders)
        data = Data(cast(VQADataset, split), cast(VQADataset, split), shape.sizes)
        meter.validating = lambda module: at_sample(module, module.export())
        return run(data, space, settings.model_copy(update=few), [meter], folder=None)

    return steps


def training_steps(architecture: Architecture, settings: TrainSettings) -> Callable[[Shape, int, Meter], nn.Module]:
    """Returns a function that takes a few steps of a training; with accumulated gradients, of one micro-batch."""

    def steps(shape: Shape, questions: int, meter: Meter) -> nn.Module:
        sized = architecture.for_data(shape.sizes)
        refuse_too_large(sized.parameters(), "the network")
        module = VQAModule(LoopSettings(tf32=settings.tf32), steps_per_epoch=1)
        module.set_model(sized.network())
        split = MadeUp(shape, questions * STEPS, calls=1)
        trainer = pl.Trainer(
            max_epochs=1,
            callbacks=[meter],
            devices=1,
            precision=settings.precision,
            gradient_clip_val=settings.clip,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(split, batch_size=None, sampler=longest_first(split.lengths, questions)))
        return module.model

    return steps
