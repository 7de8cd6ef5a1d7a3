"""Progressive shrinking: a supernet that is trained whole first, and then at smaller and smaller parts of itself.

As in Once-for-all (Cai et al., 2020, arXiv 1908.09791) the largest network is trained first, and smaller ones follow,
which begin with its weights. Here the largest is the supernet in which every choice gives the mean of its candidates,
but for those without weights: `none` and `identity` have nothing to learn, and would dilute what the others say. The
mean is weighted by a softmax of the architecture parameters, as in DARTS (Liu et al., 2018, arXiv 1806.09055), which
are trained with the same loss as the weights: else what an operation says is diluted by the others for good, and
operations that are of use only one after the other are found late.

After a share ``whole`` of the steps each candidate is kept with a probability p, anew at each step and at least one of
a choice, and those that are kept share out the softmax. p falls linearly from 1 to 0 over the share ``shrinking``.
From then on a step trains one path, sampled uniformly, as in single-path one-shot search (Guo et al., 2019, arXiv
1904.00420), and nothing more is learned of the choices.

A whole supernet learns as fast as one network, where paths that are trained in turn from the start disturb each other.
The architecture is derived by validation of samples from the distribution that was learned, and of their children, see
:mod:`trainer.derivation`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self

import torch
from nni.nas.oneshot.pytorch.strategy import DARTS, no_default_hook
from pydantic import Field, model_validator
from torch import Tensor, nn

from model_space.functional.dropout import dropout_sampled_ahead
from trainer.data.vqa import Batch
from trainer.module import VQAModule
from trainer.strategies.single_path import SinglePathInput, SinglePathLayer
from trainer.strategy import SearchSettings
from trainer.supernet.choices import MixedModule, architecture_parameter, mixed_modules, weighting
from trainer.supernet.micro_batches import MicroBatches
from trainer.supernet.ordered import OrderedArchitecture
from trainer.supernet.recurrent import read_mixed_layers


class Subset(nn.Module):
    """A weighting by the candidates that are kept: they share out the softmax, and the others have no weight."""

    kept: list[int] | None = None
    """Positions of the candidates that are kept; None for those of the whole supernet."""
    whole: list[int] | None = None
    """Positions of the candidates of the whole supernet; None for all."""

    def positions(self, candidates: int) -> list[int]:
        """Returns the positions that are kept, of so many candidates."""
        kept = self.whole if self.kept is None else self.kept
        return list(range(candidates)) if kept is None else kept

    def weights(self, architecture_parameter: Tensor) -> Tensor:
        """Returns the weights of the candidates that are kept, ``(…, kept)``, of a parameter ``(…, candidates)``."""
        return architecture_parameter[..., self.positions(architecture_parameter.size(-1))].softmax(-1)

    def forward(self, architecture_parameter: Tensor) -> Tensor:
        kept, weights = self.positions(architecture_parameter.size(-1)), self.weights(architecture_parameter)
        if len(kept) == 1:
            weights = weights.detach()  # with a gradient of zeros Adam would move on
        places = torch.tensor(kept, device=weights.device)
        return torch.zeros_like(architecture_parameter).index_copy(-1, places, weights)


def shared_subset(module: nn.Module, memo: dict[str, Any]) -> Subset | None:
    """Returns the subset of a label, which all layers of the label share."""
    return memo.setdefault(f"subset {module.label}", Subset()) if hasattr(module, "label") else None


def with_weights(module: nn.Module) -> list[int] | None:
    """Returns the positions of the candidates of a mixed layer that have weights; None if none has, as of an input."""
    layers = [module[name] for name in module.names] if isinstance(module, ShrinkingLayer) else []
    return [k for k, layer in enumerate(layers) if any(True for _ in layer.parameters())] or None


def mixed(module: MixedModule, subset: Subset, outputs: list[Any]) -> Any:
    """Returns what a choice gives, of the outputs of its candidates that are kept: their sum by weights, as NNI's."""
    return module._reduction(outputs, subset.weights(architecture_parameter(module))) if outputs[1:] else outputs[0]


class ShrinkingLayer(SinglePathLayer):
    """A `LayerChoice` that gives the weighted mean of the candidates that are kept; the others are not computed."""

    shared_weighting = staticmethod(shared_subset)

    def forward(self, *inputs: Any) -> Tensor | Sequence[Tensor]:
        subset = weighting(self)
        if not isinstance(subset, Subset):  # at a sample
            return super().forward(*inputs)
        return mixed(self, subset, [self[self.names[k]](*inputs) for k in subset.positions(len(self.names))])


class ShrinkingInput(SinglePathInput):
    """An `InputChoice` of one candidate that gives the weighted mean of the candidates that are kept."""

    shared_weighting = staticmethod(shared_subset)

    def forward(self, candidates: Sequence[Tensor | tuple[Tensor, ...]]) -> Tensor | Sequence[Tensor]:
        subset = weighting(self)
        if not isinstance(subset, Subset):
            return super().forward(candidates)
        return mixed(self, subset, [candidates[k] for k in subset.positions(len(candidates))])


class ProgressiveShrinkingModule(MicroBatches, OrderedArchitecture):
    """The search loop around the training module."""

    def __init__(self, training_module: VQAModule, whole: float, shrinking: float, **kwargs: Any):
        super().__init__(training_module, **kwargs)
        self.whole, self.shrinking = whole, shrinking

    def on_train_epoch_start(self) -> None:
        modules = {module.label: module for module in mixed_modules(self)}.values()
        self.subsets: list[Any] = [weighting(module) for module in modules]
        self.candidates = [architecture_parameter(module) for module in modules]
        for subset, module in zip(self.subsets, modules, strict=True):
            subset.whole = with_weights(module)
        super().on_train_epoch_start()

    def keep_probability(self, epoch: int, step: int) -> float:
        """Returns the probability with which a candidate is kept at a step of an epoch, both from 0."""
        settings = self.training_module.settings
        done = (epoch + step / self.training_module.steps_per_epoch) / settings.epochs - self.whole
        return min(1.0, max(0.0, 1 - done / self.shrinking)) if self.shrinking else float(done < 0)

    def noises(self) -> tuple[Tensor, ...]:
        """Returns Gumbel noise of the candidates of each choice, the same on every process."""
        return self.noise(torch.cat(tuple(self.candidates)).detach()).split([len(each) for each in self.candidates])

    def passes(self, batch_idx: int) -> list[list[list[int] | None]]:
        """Samples what each pass of a step keeps of each choice; None is the whole supernet. A step adds its passes."""
        probability = self.keep_probability(self.current_epoch, batch_idx)
        if probability == 1:
            return [[None] * len(self.subsets)]
        # exp(-exp(-noise)), the distribution function of the noise, is uniform.
        return [
            [
                ((-(-noise).exp()).exp() < probability).nonzero().flatten().tolist() or [int(noise.argmax())]
                for noise in self.noises()
            ]
        ]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        weights, architecture = self.optimizers()
        weights.zero_grad()
        architecture.zero_grad()
        for kept_of_each in self.passes(batch_idx):
            for subset, kept in zip(self.subsets, kept_of_each, strict=True):
                subset.kept = kept
            with dropout_sampled_ahead():
                for micro_batch in self.micro_batches(batch):
                    self.manual_backward(self.training_module.training_step(micro_batch, batch_idx))
        for subset in self.subsets:
            subset.kept = None
        self.all_reduce(self.parameters())
        weights.step()
        architecture.step()
        self.advance_lr_schedulers(batch_idx)

    def validated(self) -> AbstractContextManager:
        """Makes the supernet compute what an epoch validates: here the whole of it."""
        return nullcontext()


class ProgressiveShrinking(DARTS):
    """Trains any NNI model space of `LayerChoice` and `InputChoice` (of one), whole first and then in parts.

    Args:
        whole: Share of the steps in which all candidates are kept.
        shrinking: Share of the steps after them in which fewer and fewer are.
        architecture_lr: Learning rate of the weights of the mean.
    """

    def __init__(self, *, whole: float, shrinking: float, architecture_lr: float):
        super().__init__(arc_learning_rate=architecture_lr)
        self.whole, self.shrinking = whole, shrinking

    def configure_oneshot_module(self, training_module: VQAModule) -> ProgressiveShrinkingModule:
        return ProgressiveShrinkingModule(
            training_module, self.whole, self.shrinking, arc_learning_rate=self.arc_learning_rate
        )

    def default_mutation_hooks(self) -> list[Callable]:
        return [read_mixed_layers, ShrinkingLayer.mutate, ShrinkingInput.mutate, no_default_hook]

    def train_dataloader(self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]) -> Any:
        return train_dataloader_fn()


class ProgressiveShrinkingSettings(SearchSettings):
    """Settings of a search by progressive shrinking."""

    strategy: Literal["progressive_shrinking"] = "progressive_shrinking"
    whole: float = Field(0.45, ge=0, le=1)
    """Share of the steps in which the whole supernet is trained."""
    shrinking: float = Field(0.35, ge=0, le=1)
    """Share of the steps after them in which it shrinks. The steps that are left train single paths."""
    samples: int = Field(256, ge=1, le=10_000)
    """Number of architectures that are validated with the supernet's weights, see :mod:`trainer.derivation`."""

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.whole + self.shrinking > 1:
            raise ValueError(f"whole + shrinking is {self.whole + self.shrinking:g}, expected at most 1")
        return self

    def build(self) -> ProgressiveShrinking:
        """Returns the strategy."""
        return ProgressiveShrinking(whole=self.whole, shrinking=self.shrinking, architecture_lr=self.architecture_lr)
