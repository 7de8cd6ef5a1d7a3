"""DARTS (Liu et al., 2018, arXiv 1806.09055), by NNI: every candidate, weighted by a softmax; bi-level.

With ξ = 0 it is of first order: the gradient of the architecture is ∇_α L_val(w, α). With ξ > 0 it is of second order,
∇_α L_val(w', α) at the weights w' = w − ξ ∇_w L_train(w, α) that a step would give. As in the paper (equations 7 and 8)
the product with the second derivative is the difference of two gradients, at w ± ε ∇_w' L_val(w', α).
"""

from collections.abc import Callable
from typing import Literal

import torch
from nni.nas.oneshot.pytorch.strategy import DARTS
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from trainer.data.vqa import Batch
from trainer.module import VQAModule
from trainer.strategy import BiLevelSettings
from trainer.supernet.micro_batches import MicroBatches, moved_by
from trainer.supernet.ordered import OrderedArchitecture
from trainer.supernet.recurrent import read_mixed_layers

FINITE = 0.01
"""The norm of the step ε ∇_w' L_val by which the second derivative is approximated, as the paper has it."""


class DartsModule(MicroBatches, OrderedArchitecture):
    """NNI's search loop of DARTS, with the two batches of a step in micro-batches."""

    xi = 0.0

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
        if self.xi:
            self.unrolled_backward(batch, batch_idx, optimizer)
        else:
            self.backward_of(batch["val"], batch_idx, optimizer)

    def backward_of(self, questions: Batch, batch_idx: int, optimizer: Optimizer) -> None:
        """Adds the gradient of the loss of some questions to the parameters of an optimiser."""
        for micro_batch in self.micro_batches(questions):
            self.manual_backward(self.training_module.training_step(micro_batch, batch_idx))
        self.all_reduce(moved_by(optimizer))

    def unrolled_backward(self, batch: dict[str, Batch], batch_idx: int, optimizer: Optimizer) -> None:
        """Computes the gradient of the architecture of second order. The weights end as they were."""
        parameters = moved_by(optimizer)
        weights = moved_by(self.optimizers()[0])
        before = [weight.detach().clone() for weight in weights]

        def gradients(questions: Batch) -> tuple[list[Tensor], list[Tensor]]:
            for each in (*parameters, *weights):
                each.grad = None
            for micro_batch in self.micro_batches(questions):
                self.manual_backward(self.training_module.training_step(micro_batch, batch_idx))
            self.all_reduce([*parameters, *weights])
            of_parameters, of_weights = (
                [torch.zeros_like(each) if each.grad is None else each.grad for each in group]
                for group in (parameters, weights)
            )
            return of_parameters, of_weights

        @torch.no_grad()
        def move(direction: list[Tensor], by: float) -> None:
            for weight, start, step in zip(weights, before, direction, strict=True):
                torch.add(start, step, alpha=by, out=weight)

        move(gradients(batch["train"])[1], -self.xi)
        first_order, of_val = gradients(batch["val"])
        norm = torch.stack([each.norm() for each in of_val]).norm().item()
        second: list[list[Tensor]] = []
        for sign in (1, -1):
            move(of_val, sign * FINITE / norm)
            second.append(gradients(batch["train"])[0])
        move(before, 0.0)
        for parameter, first, above, below in zip(parameters, first_order, *second, strict=True):
            parameter.grad = first - self.xi * norm / (2 * FINITE) * (above - below)


class Darts(DARTS):
    """NNI's strategy of DARTS.

    Args:
        architecture_lr: Learning rate of the architecture's Adam (0.5, 0.999), with a weight decay of 1e-3.
        xi: Size ξ of the step of the weights that the architecture's gradient looks ahead; 0 is first order.
    """

    def __init__(self, *, architecture_lr: float, xi: float = 0.0):
        super().__init__(arc_learning_rate=architecture_lr)
        self.xi = xi

    def configure_oneshot_module(self, training_module: VQAModule) -> DartsModule:
        module = DartsModule(training_module, arc_learning_rate=self.arc_learning_rate)
        module.xi = self.xi
        return module

    def default_mutation_hooks(self) -> list[Callable]:
        return [read_mixed_layers, *super().default_mutation_hooks()]


class DartsSettings(BiLevelSettings):
    """Settings of a search by DARTS."""

    strategy: Literal["darts"] = "darts"
    xi: float = Field(0.0, ge=0, le=1_000, allow_inf_nan=False)
    """Size ξ of the step of the weights that the architecture's gradient looks ahead, down the gradient of the loss of
    a batch, which is a sum over its questions. 0 is first order. Above 0 it is second order: a step then costs five
    passes in place of two."""

    def build(self) -> Darts:
        """Returns the strategy."""
        return Darts(architecture_lr=self.architecture_lr, xi=self.xi)
