"""DARTS (Liu et al., 2018, arXiv 1806.09055), first order, by NNI: every candidate, weighted by a softmax; bi-level."""

from collections.abc import Callable
from typing import Literal

from nni.nas.oneshot.pytorch.strategy import DARTS
from torch.optim import Optimizer

from trainer.data.vqa import Batch
from trainer.module import VQAModule
from trainer.strategy import BiLevelSettings
from trainer.supernet.micro_batches import MicroBatches
from trainer.supernet.ordered import OrderedArchitecture
from trainer.supernet.recurrent import read_mixed_layers


class DartsModule(MicroBatches, OrderedArchitecture):
    """NNI's search loop of DARTS, with the two batches of a step in micro-batches."""

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        weights, architecture = self.optimizers()
        architecture.zero_grad()
        self.architecture_backward(batch, batch_idx, architecture)
        architecture.step()
        weights.zero_grad()
        self.backward_of(batch["train"], batch_idx, weights)
        weights.step()
        self.advance_lr_schedulers(batch_idx)

    def architecture_backward(self, batch: dict[str, Batch], batch_idx: int, optimizer: Optimizer) -> None:
        """Computes the gradient of the architecture, by the questions that are held out for it."""
        self.backward_of(batch["val"], batch_idx, optimizer)

    def backward_of(self, questions: Batch, batch_idx: int, optimizer: Optimizer) -> None:
        """Adds the gradient of the loss of some questions to the parameters of an optimiser."""
        for micro_batch in self.micro_batches(questions):
            self.manual_backward(self.training_module.training_step(micro_batch, batch_idx))
        self.all_reduce(optimizer.param_groups[0]["params"])


class Darts(DARTS):
    """NNI's strategy of DARTS.

    Args:
        architecture_lr: Learning rate of the architecture's Adam (0.5, 0.999), with a weight decay of 1e-3.
    """

    def __init__(self, *, architecture_lr: float):
        super().__init__(arc_learning_rate=architecture_lr)

    def configure_oneshot_module(self, training_module: VQAModule) -> DartsModule:
        return DartsModule(training_module, arc_learning_rate=self.arc_learning_rate)

    def default_mutation_hooks(self) -> list[Callable]:
        return [read_mixed_layers, *super().default_mutation_hooks()]


class DartsSettings(BiLevelSettings):
    """Settings of a search by DARTS."""

    strategy: Literal["darts"] = "darts"

    def build(self) -> Darts:
        """Returns the strategy."""
        return Darts(architecture_lr=self.architecture_lr)
