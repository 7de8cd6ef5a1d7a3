"""What a file of ``trainer/strategies`` declares.

A strategy is a class of settings that derives from :class:`SearchSettings`. It says what the strategy is called, which
settings it has, whether it is bi-level, and how it is built. Nothing else has to know it.
"""

from abc import abstractmethod
from typing import Self

import torch
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
from pydantic import BaseModel, Field, model_validator
from torch.utils.data import Subset

from trainer.data.vqa import VQADataset
from trainer.settings import Epochs, LoopSettings, Rate

Questions = VQADataset | Subset


class SearchSettings(LoopSettings):
    """Settings of one search: the section `search` of a settings file. The defaults are those of NAS-VQA."""

    strategy: str
    """Name of the strategy. A subclass declares it as a `Literal` with its default."""
    epochs: Epochs = 9
    """Number of epochs."""
    processes: int = Field(1, ge=1, le=1_024)
    """Number of processes by which a trial of NNI searches. Each computes its share of every batch, on GPUs each on
    one of its own."""
    architecture_lr: Rate = 3e-4
    """Learning rate of the architecture parameters."""

    samples: int = Field(0, ge=0, le=10_000)
    """Number of architectures that are sampled and validated with the supernet's weights when the last epoch is over,
    to derive one of them. 0 derives the most probable one."""
    shortlist: int = Field(12, ge=1, le=1_000)
    """Number of the best samples that are trained on, each on its own, before the best one is derived."""
    tuning_steps: int = Field(100, ge=0, le=1_000_000)
    """Number of steps for which each of the shortlist is trained on."""

    @abstractmethod
    def build(self) -> OneShotStrategy:
        """Returns the strategy, as NNI runs it."""

    @property
    def bilevel(self) -> bool:
        """Whether the architecture is trained on other questions than the weights, by a batch of its own."""
        return False

    def split(self, train: VQADataset) -> tuple[Questions, Questions]:
        """Returns the questions that train the weights, and those that train the architecture."""
        return train, train


HOTTEST = 1_000_000
"""The largest temperature: samples are as good as uniform long before."""


class Temperature(BaseModel):
    """A setting of strategies that sample by a Gumbel-softmax."""

    temperature: tuple[float, float] = (1.0, 1.0)
    """Temperature of the Gumbel-softmax at the start and towards the end; linear in between."""

    @model_validator(mode="after")
    def _cooling(self) -> Self:
        start, end = self.temperature
        if not HOTTEST >= start >= end > 0:
            raise ValueError(
                f"temperature is [{start}, {end}], expected [start, end] with {HOTTEST:,} >= start >= end > 0"
            )
        return self


class BiLevelSettings(SearchSettings):
    """Settings of strategies that train the weights on one part of the questions and the architecture on another."""

    architecture_share: float = Field(0.5, gt=0, lt=1)
    """Share of the training questions that trains the architecture."""

    @property
    def bilevel(self) -> bool:
        """Whether the architecture is trained on other questions than the weights, by a batch of its own."""
        return True

    def split(self, train: VQADataset) -> tuple[Questions, Questions]:
        """Returns the questions that train the weights, and those that train the architecture: two random parts."""
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed)).tolist()
        held_out = round(len(train) * self.architecture_share)
        return Subset(train, order[held_out:]), Subset(train, order[:held_out])
