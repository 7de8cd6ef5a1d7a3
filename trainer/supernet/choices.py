"""The choices of a supernet: what strategies have in common, and all that is known here of NNI's mixed layers.

NNI replaces every `LayerChoice` and `InputChoice` of a space by a mixed layer. A mixed layer has an architecture
parameter, which layers of one label share, and a weighting, which makes of that parameter the weights of the
candidates: a softmax, or a sample. NNI keeps both under private names; :func:`architecture_parameter`,
:func:`weighting` and :func:`set_weighting` are the only places that use these names.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput, DifferentiableMixedLayer
from torch import Tensor, nn

from model_space.contracts import Choices
from trainer.supernet.deferred import DeferredProducts, defer_products

MixedModule: TypeAlias = DifferentiableMixedLayer | DifferentiableMixedInput

PARAMETER_SUFFIX = "_arch_alpha"
"""End of the name of an architecture parameter among the named parameters of a supernet."""


def mixed_modules(supernet: nn.Module) -> list[MixedModule]:
    """Returns every mixed layer and mixed input, in the order of the network."""
    return [module for module in supernet.modules() if isinstance(module, MixedModule)]


def architecture_parameter(module: MixedModule) -> nn.Parameter:
    """Returns the architecture parameter of a mixed layer, ``(candidates,)``."""
    return module._arch_alpha


def weighting(module: MixedModule) -> nn.Module:
    """Returns the module that makes the weights of the candidates of an architecture parameter."""
    return module._softmax


def set_weighting(module: MixedModule, weighting: nn.Module) -> None:
    """Gives a mixed layer another weighting."""
    module._softmax = weighting


def architecture_parameters(supernet: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the architecture parameter of every label, in the order of the network: the same in every process."""
    return {str(module.label): architecture_parameter(module) for module in mixed_modules(supernet)}


def candidate_names(module: MixedModule) -> list[str]:
    """Returns the names of the candidates of a mixed layer; of an input they are positions."""
    if isinstance(module, DifferentiableMixedLayer):
        return list(module.names)
    return [str(i) for i in range(module.n_candidates)]


def distribution(supernet: nn.Module) -> dict[str, dict[str, float]]:
    """Returns the probability of each candidate by label: the softmax of the parameters, without noise."""
    # NNI's labels are of a class of their own, which a checkpoint must not hold.
    modules = {str(module.label): module for module in mixed_modules(supernet)}
    return {
        label: dict(
            zip(candidate_names(module), architecture_parameter(module).detach().softmax(-1).tolist(), strict=True)
        )
        for label, module in modules.items()
    }


def derive(supernet: nn.Module) -> Choices:
    """Returns the most probable candidate of every choice, as NNI exports it."""
    choices: Choices = {}
    for module in mixed_modules(supernet):
        choices.update(module.export(choices))
    return {str(label): chosen for label, chosen in choices.items()}


class OneHot(nn.Module):
    """A weighting by a sample: the one-hot vector of one candidate, in place of the distribution.

    Args:
        each_call: Whether every call of the layer takes a new sample, at the temperature of the last one. In a search
            the n-th call of a step then takes the same sample in every micro-batch and on every process, see
            :class:`~trainer.supernet.micro_batches.CallNoise`.
    """

    value: Tensor
    """The one-hot vector, ``(candidates,)``."""
    index: int
    """Position of the one in the vector."""
    place: int
    """Position of this sample among those that were taken together."""
    deferred: DeferredProducts
    """The products that the backward pass leaves to its end."""
    temperature: float

    def __init__(self, each_call: bool = False):
        super().__init__()
        self.each_call = each_call
        self.noise = gumbel

    def forward(self, architecture_parameter: Tensor) -> Tensor:
        if self.each_call:
            sample([self], [architecture_parameter], self.temperature, self.noise)
        return self.value


def gumbel(logits: Tensor) -> Tensor:
    """Returns noise of the standard Gumbel distribution, in the shape of ``logits``."""
    return -torch.empty_like(logits).exponential_().log()


def sample(
    one_hots: list[OneHot],
    architecture_parameters: Sequence[Tensor],
    temperature: float,
    noise: Callable[[Tensor], Tensor] = gumbel,
) -> None:
    """Takes a sample of each choice and sets it, with its gradient to the architecture parameters."""
    values, indices = hard_samples(architecture_parameters, temperature, noise)
    set_samples(one_hots, values, [len(parameter) for parameter in architecture_parameters], indices)
    for one_hot in one_hots:
        one_hot.temperature = temperature


def hard_samples(
    architecture_parameters: Sequence[Tensor], temperature: float, noise: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list]:
    """Takes hard Gumbel-softmax samples with the straight-through gradient (Jang et al., arXiv 1611.01144).

    All are taken at once and their indices are read at once: a GPU is waited for once.

    Returns:
        The samples, ``(samples, candidates)``, padded with zeros, and the positions of their ones.
    """
    rows = nn.utils.rnn.pad_sequence(list(architecture_parameters), batch_first=True, padding_value=-math.inf)
    soft = ((rows + noise(rows)) / temperature).softmax(-1)
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    values = hard - soft.detach() + soft
    return values, values.argmax(-1).tolist()


def set_samples(one_hots: list[OneHot], values: Tensor, lengths: list[int], indices: list) -> None:
    """Sets samples that were taken together.

    Args:
        one_hots: What is set.
        values: A row for each, ``(samples, candidates)``, padded.
        lengths: Number of candidates of each.
        indices: Position of the one in each row.
    """
    deferred = DeferredProducts()
    values = defer_products(values, deferred)
    for place, (one_hot, value, length) in enumerate(zip(one_hots, values.unbind(), lengths, strict=True)):
        one_hot.value, one_hot.index, one_hot.place, one_hot.deferred = value[:length], indices[place], place, deferred


@contextmanager
def at_sample(supernet: nn.Module, choices: Choices) -> Iterator[dict[str, Tensor]]:
    """Makes the supernet of any strategy compute the network of the given choices, as long as the block lasts.

    Yields:
        The one-hot vector of every label, which has a gradient after a backward pass.
    """
    modules = mixed_modules(supernet)
    before = [weighting(module) for module in modules]
    by_label = {module.label: module for module in modules}
    samples = {label: OneHot() for label in by_label}
    indices, vectors = [], []
    for label, module in by_label.items():
        chosen, parameter = choices[label], architecture_parameter(module)
        indices.append(chosen[0] if isinstance(chosen, list) else module.names.index(chosen))
        vectors.append(torch.eye(len(parameter)).to(parameter)[indices[-1]].requires_grad_())
    values = nn.utils.rnn.pad_sequence(vectors, batch_first=True)
    set_samples(list(samples.values()), values, [len(vector) for vector in vectors], indices)
    for module in modules:
        set_weighting(module, samples[module.label])
    try:
        yield dict(zip(samples, vectors, strict=True))
    finally:
        for module, one in zip(modules, before, strict=True):
            set_weighting(module, one)


def weights_at(supernet: nn.Module, choices: Choices) -> dict[str, Tensor]:
    """Returns the weights of a supernet under the names that they have in the network of the given choices."""
    layers = [(name, m) for name, m in supernet.named_modules() if isinstance(m, DifferentiableMixedLayer)]
    weights = {}
    for name, weight in supernet.state_dict().items():
        for prefix, layer in layers:
            if name.startswith(f"{prefix}."):
                candidate, _, rest = name.removeprefix(f"{prefix}.").partition(".")
                name = f"{prefix}.{rest}" if candidate == choices[layer.label] else ""
                break
        if name and not name.endswith(PARAMETER_SUFFIX):
            weights[name] = weight
    return weights
