"""ProxylessNAS (Cai et al., 2018, arXiv 1812.00332), by which MMnasNet was searched (Yu et al., 2020, 2004.12070).

A binary gate g, one-hot, is sampled of the softmax p of each choice. A step of the weights computes the path of
those gates alone. A step of the architecture, on questions that are held out for it, leaves the weights as they are and
takes as its gradient, as the paper does (equation 4),

    ∂L/∂αₖ = Σⱼ ∂L/∂gⱼ ∂pⱼ/∂αₖ

The paper computes ∂L/∂gⱼ for two sampled candidates at a time, to save memory. Here it is computed for all of them as
for SNAS, see :mod:`trainer.strategies.snas`, which costs no memory.

As in MMnas, the architecture begins to move after some epochs, and has a step every so many of the weights.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from nni.nas.oneshot.pytorch.strategy import DARTS, no_default_hook
from pydantic import Field
from torch import Tensor, nn

from model_space.functional.dropout import dropout_sampled_ahead
from trainer.data.vqa import Batch
from trainer.module import VQAModule
from trainer.strategies.snas import SampledInput, SampledLayer
from trainer.strategy import BiLevelSettings
from trainer.supernet.choices import OneHot, architecture_parameter, mixed_modules, set_samples, weighting
from trainer.supernet.micro_batches import MicroBatches, moved_by
from trainer.supernet.ordered import OrderedArchitecture
from trainer.supernet.recurrent import read_mixed_layers


def binary_gates(
    architecture_parameters: Sequence[Tensor], noise: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list[int]]:
    """Samples a gate of each choice, with the gradient of its softmax.

    Returns:
        The gates, ``(choices, candidates)``, padded with zeros, and the positions of their ones.
    """
    rows = nn.utils.rnn.pad_sequence(list(architecture_parameters), batch_first=True, padding_value=-torch.inf)
    sampled = (rows + noise(rows)).argmax(-1, keepdim=True)  # by Gumbel noise: the position k with probability p_k
    soft = rows.softmax(-1)
    hard = torch.zeros_like(soft).scatter_(-1, sampled, 1.0)
    return hard - soft.detach() + soft, sampled.flatten().tolist()


class ProxylessModule(MicroBatches, OrderedArchitecture):
    """The search loop around the training module."""

    def __init__(self, training_module: VQAModule, still_epochs: int, architecture_every: int, **kwargs: Any):
        super().__init__(training_module, **kwargs)
        self.still_epochs, self.architecture_every = still_epochs, architecture_every

    def on_train_epoch_start(self) -> None:
        modules = {module.label: module for module in mixed_modules(self)}.values()
        self.gates = [cast(OneHot, weighting(module)) for module in modules]
        self.architecture = [architecture_parameter(module) for module in modules]
        for gate in self.gates:
            gate.temperature = 1.0  # of labels that sample at each call
        super().on_train_epoch_start()

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        weights, architecture = self.optimizers()
        moves = self.current_epoch >= self.still_epochs and batch_idx % self.architecture_every == 0
        if moves:
            architecture.zero_grad()
            for parameter in self.architecture:
                parameter.grad = torch.zeros_like(parameter)
            self.backward_at_gates(batch["val"], batch_idx, of_architecture=True)
            self.all_reduce(self.architecture)
            architecture.step()
        weights.zero_grad()
        self.backward_at_gates(batch["train"], batch_idx, of_architecture=False)
        self.all_reduce(moved_by(weights))
        weights.step()
        self.advance_lr_schedulers(batch_idx)

    def backward_at_gates(self, questions: Batch, batch_idx: int, of_architecture: bool) -> None:
        """Samples the gates and adds the gradients of the loss of some questions.

        Args:
            questions: The questions.
            batch_idx: Number of the step in the epoch.
            of_architecture: Whether the gates have a gradient, for which all candidates are computed.
        """
        sampled, indices = binary_gates(self.architecture, self.noise)
        gates = sampled.detach().requires_grad_(of_architecture)
        gates.grad = torch.zeros_like(gates) if of_architecture else None
        with dropout_sampled_ahead():
            for micro_batch in self.micro_batches(questions):
                set_samples(self.gates, gates, [len(each) for each in self.architecture], indices)
                self.manual_backward(self.training_module.training_step(micro_batch, batch_idx))
        if of_architecture:
            sampled.backward(gates.grad)


class Proxyless(DARTS):
    """Searches any NNI model space of `LayerChoice` and `InputChoice` (of one).

    Args:
        architecture_lr: Learning rate of the architecture's Adam (0.5, 0.999), with a weight decay of 1e-3.
        still_epochs: Number of epochs before the architecture begins to move.
        architecture_every: Number of steps of the weights for one of the architecture.
    """

    def __init__(self, *, architecture_lr: float, still_epochs: int, architecture_every: int):
        super().__init__(arc_learning_rate=architecture_lr)
        self.still_epochs, self.architecture_every = still_epochs, architecture_every

    def configure_oneshot_module(self, training_module: VQAModule) -> ProxylessModule:
        return ProxylessModule(
            training_module, self.still_epochs, self.architecture_every, arc_learning_rate=self.arc_learning_rate
        )

    def default_mutation_hooks(self) -> list[Callable]:
        return [read_mixed_layers, SampledLayer.mutate, SampledInput.mutate, no_default_hook]


class ProxylessSettings(BiLevelSettings):
    """Settings of a search by ProxylessNAS."""

    strategy: Literal["proxyless"] = "proxyless"
    still_epochs: int = Field(0, ge=0, le=100_000)
    """Number of epochs in which the weights alone are trained, before the architecture begins to move."""
    architecture_every: int = Field(1, ge=1, le=1_000_000)
    """Number of steps of the weights for one of the architecture."""

    def build(self) -> Proxyless:
        """Returns the strategy."""
        return Proxyless(
            architecture_lr=self.architecture_lr,
            still_epochs=self.still_epochs,
            architecture_every=self.architecture_every,
        )
