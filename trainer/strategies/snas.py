"""SNAS, stochastic neural architecture search (Xie et al., 2018, arXiv 1812.09926).

Single-level: one batch, one loss, both optimisers. Each forward pass takes one hard Gumbel-softmax sample a label, and
the straight-through estimator carries the gradient of the loss to the architecture parameters. Layers that share a
label share the sample. A layer with a true attribute ``resample_each_call`` takes a new sample at each call instead: a
recurrent cell at every time step.

The mixed layers here compute ``y = Σ_k z_k f_k(x)`` for a one-hot ``z`` without computing every ``f_k`` under autograd.
With ``g = ∂L/∂y``, the plain form gives ``∂L/∂z_k = <g, f_k(x)>`` to the sample, ``z_k · g`` to ``f_k``: only the
chosen candidate's weights and input have a gradient. So the chosen one runs as usual, the others once, without a graph,
when the backward pass is over and every ``g`` is known. The gradients are those of the plain form; with dropout the
masks of the candidates that were not chosen are other samples of the same distribution.

The paper's penalty on resources (its section 2.3) is the cost C(z) of the sampled architecture, which is linear in the
sample, z_k c_k summed over all choices. So it adds its c_k to the gradient of z_k, and through it has one to the
architecture.

A weight that took no part in a step has the gradient None, not zero: its moments in Adam stay as they are. (NAS-VQA
gives it a zero, with which Adam goes on moving it by its old moments.)
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from nni.nas.oneshot.pytorch.differentiable import LinearTemperatureScheduler
from nni.nas.oneshot.pytorch.strategy import DARTS, no_default_hook
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput, DifferentiableMixedLayer
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model_space.functional.dropout import dropout_sampled_ahead
from trainer.data.vqa import Batch
from trainer.module import VQAModule
from trainer.strategy import SearchSettings, Temperature
from trainer.supernet.choices import (
    MixedModule,
    OneHot,
    architecture_parameter,
    at_sample,
    hard_samples,
    mixed_modules,
    set_samples,
    weighting,
)
from trainer.supernet.micro_batches import MicroBatches
from trainer.supernet.ordered import OrderedArchitecture
from trainer.supernet.recurrent import read_mixed_layers
from trainer.supernet.resources import Resource, candidate_costs

Candidate = tuple[nn.Module | None, tuple[Any, ...]]
"""An operation and what it is called with, or None and its output."""


class _SampledSum(torch.autograd.Function):
    """Computes ``Σ_k z_k f_k`` for a one-hot ``z``; the others wait for the end of the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, one_hot: Tensor, sample: OneHot, others: Callable[[int], Candidate] | None, *output: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.chosen, ctx.place, ctx.deferred = sample.index, sample.place, sample.deferred
        ctx.others, ctx.candidates = others, len(one_hot)
        # Autocast is a state of the thread, and on a GPU the backward pass has a thread of its own.
        device = output[0].device.type
        ctx.deferred.autocast = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        ctx.save_for_backward(*output)
        return tuple(tensor.view_as(tensor) for tensor in output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        for k in range(ctx.candidates):
            if k == ctx.chosen:
                ctx.deferred.defer((ctx.place, k), gradient, None, ctx.saved_tensors)
            elif ctx.others is not None:
                ctx.deferred.defer((ctx.place, k), gradient, *ctx.others(k))
        return None, None, None, *gradient


def sampled_sum(mixed: MixedModule, candidate: Callable[[int], Candidate]) -> Tensor | Sequence[Tensor]:
    """Returns the output of the chosen candidate, with the gradient of the whole sum to the sample.

    Where the mixed layer does not compute the others, their entries of that gradient are zero.
    """
    sample = cast(OneHot, weighting(mixed))
    one_hot = sample(architecture_parameter(mixed))
    operation, inputs = candidate(sample.index)
    output = inputs if operation is None else operation(*inputs)
    if operation is None and len(inputs) == 1:
        (output,) = inputs
    if not (one_hot.requires_grad and torch.is_grad_enabled()):
        return output
    others = candidate if mixed.computes_others else None
    if isinstance(output, Tensor):
        return _SampledSum.apply(one_hot, sample, others, output)[0]
    return _SampledSum.apply(one_hot, sample, others, *output)


def shared_sample(module: nn.Module, memo: dict[str, Any]) -> OneHot | None:
    """Returns the sample of a label, which all layers of the label share."""
    if not hasattr(module, "label"):
        return None
    return memo.setdefault(f"sample {module.label}", OneHot(getattr(module, "resample_each_call", False)))


class SampledLayer(DifferentiableMixedLayer):
    """A `LayerChoice` at a hard sample; its candidates give a tensor or a tuple of tensors."""

    computes_others = True
    """Whether the candidates that are not chosen are computed, for their entries of the sample's gradient."""
    shared_weighting: Callable[[nn.Module, dict[str, Any]], nn.Module | None] = staticmethod(shared_sample)
    """Makes the weighting of a label, which all its layers share."""

    @classmethod
    def mutate(cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]) -> Any:
        return super().mutate(module, name, memo, {"softmax": cls.shared_weighting(module, memo)})

    def forward(self, *inputs: Any) -> Tensor | Sequence[Tensor]:
        return sampled_sum(self, lambda k: (self[self.names[k]], inputs))


class SampledInput(DifferentiableMixedInput):
    """An `InputChoice` of one candidate, a tensor or a tuple of tensors, at a hard sample."""

    computes_others = True
    shared_weighting: Callable[[nn.Module, dict[str, Any]], nn.Module | None] = staticmethod(shared_sample)

    @classmethod
    def mutate(cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]) -> Any:
        return super().mutate(module, name, memo, {"softmax": cls.shared_weighting(module, memo)})

    def forward(self, candidates: Sequence[Tensor | tuple[Tensor, ...]]) -> Tensor | Sequence[Tensor]:
        # A tuple: later nodes may append to a list, which would keep the graph alive.
        outputs = tuple(each if isinstance(each, tuple) else (each,) for each in candidates)
        return sampled_sum(self, lambda k: (None, outputs[k]))


class SnasModule(MicroBatches, OrderedArchitecture):
    """The search loop of SNAS around the training module."""

    costs: Tensor
    """The cost of every candidate, ``(labels, candidates)``, if it is penalised; measured in the first step."""

    def __init__(
        self,
        training_module: VQAModule,
        temperature: LinearTemperatureScheduler,
        penalty: tuple[Resource, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(training_module, **kwargs)
        self.temperature_schedule = temperature
        self.penalty = penalty

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.penalty:  # in the checkpoint: a resumed search goes on with what was measured
            lengths = [len(parameter) for parameter in self.arch_parameters()]
            self.register_buffer("costs", torch.zeros(len(lengths), max(lengths), dtype=torch.float64))

    def on_train_epoch_start(self) -> None:
        self.temperature = self.temperature_schedule.step(self.trainer.current_epoch, self.trainer.max_epochs)
        # Not at every step: a supernet has thousands of modules.
        modules = {module.label: module for module in mixed_modules(self)}.values()
        self.samples = [cast(OneHot, weighting(module)) for module in modules]
        self.architecture = [architecture_parameter(module) for module in modules]
        self.lengths = [len(parameter) for parameter in self.architecture]
        for sample in self.samples:
            sample.temperature = self.temperature
        super().on_train_epoch_start()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        for parameter in self.architecture:
            # Zero and not None: a choice that a sampled `none` cut off has no gradient, but decays like the others.
            parameter.grad = torch.zeros_like(parameter)
        sampled, indices = hard_samples(self.architecture, self.temperature, self.noise)
        samples = sampled.detach().requires_grad_()  # where gradients of micro-batches add up, to go back once
        samples.grad = torch.zeros_like(samples)
        with dropout_sampled_ahead():  # of the backward pass too, where the other candidates are computed
            for micro_batch in self.micro_batches(batch):
                set_samples(self.samples, samples, self.lengths, indices)
                self.manual_backward(self.training_module.training_step(micro_batch, batch_idx))
        if self.penalty:
            samples.grad += self.gradient_of_penalty(self.penalty, batch).to(samples)
        sampled.backward(samples.grad)
        self.all_reduce(self.parameters())
        for optimizer in optimizers:
            optimizer.step()
        self.advance_lr_schedulers(batch_idx)

    def gradient_of_penalty(self, penalty: tuple[Resource, float], batch: Batch) -> Tensor:
        """Returns this process's share of the gradient of the penalty to the samples, ``(labels, candidates)``."""
        resource, weight = penalty
        if not self.costs.any():
            with at_sample(self, self.export()):
                costs = candidate_costs(self.training_module.model, batch, resource).to(self.costs)
            if self.trainer.world_size > 1:  # what was measured differs from process to process
                torch.distributed.broadcast(costs, 0)
            self.costs.copy_(costs)
        return weight * len(batch.targets) * self.costs  # the loss is a sum over questions

    def figures(self) -> dict[str, float]:
        """Returns the temperature. With a penalty, also the mean cost of the architectures that are sampled, as a share
        of the most expensive one's."""
        told = {"temperature": self.temperature}
        if self.penalty:
            probabilities = [parameter.detach().softmax(-1) for parameter in self.arch_parameters()]
            rows = nn.utils.rnn.pad_sequence(probabilities, batch_first=True)
            told["expected_cost"] = (rows.double() * self.costs).sum().item()
        return told


class Snas(DARTS):
    """Searches any NNI model space of `LayerChoice` and `InputChoice` (of one).

    Args:
        architecture_lr: Learning rate of the architecture's Adam (0.5, 0.999), with a weight decay of 1e-3.
        temperature: Temperature of the Gumbel-softmax at the first epoch and towards the last, linear in between.
        penalty: On which resource there is a penalty, and its weight.
    """

    mixed_layer = SampledLayer
    mixed_input = SampledInput

    def __init__(
        self,
        *,
        architecture_lr: float,
        temperature: tuple[float, float],
        penalty: tuple[Resource, float] | None = None,
    ):
        super().__init__(arc_learning_rate=architecture_lr)
        self.temperature = LinearTemperatureScheduler(*temperature)
        self.penalty = penalty

    def configure_oneshot_module(self, training_module: VQAModule) -> SnasModule:
        return SnasModule(training_module, self.temperature, self.penalty, arc_learning_rate=self.arc_learning_rate)

    def default_mutation_hooks(self) -> list[Callable]:
        return [read_mixed_layers, self.mixed_layer.mutate, self.mixed_input.mutate, no_default_hook]

    def train_dataloader(self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]) -> Any:
        return train_dataloader_fn()


class SnasSettings(Temperature, SearchSettings):
    """Settings of a search by SNAS."""

    strategy: Literal["snas"] = "snas"
    resource: Resource = "multiply_adds"
    """What the penalty counts: weights, multiply-adds, or seconds of each candidate as they are measured here."""
    resource_weight: float = Field(0.0, ge=0, le=1_000_000, allow_inf_nan=False)
    """Weight η of the penalty: what the most expensive architecture adds to the loss of a question, and others in
    proportion. 0 is no penalty."""

    def build(self) -> Snas:
        """Returns the strategy."""
        penalty = (self.resource, self.resource_weight) if self.resource_weight else None
        return Snas(architecture_lr=self.architecture_lr, temperature=self.temperature, penalty=penalty)
