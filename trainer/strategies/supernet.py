"""What all differentiable strategies share: the mixed layers of a supernet and its architecture parameters."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput, DifferentiableMixedLayer
from torch import Tensor, nn

from model_space.architecture import Choices

MixedModule = DifferentiableMixedLayer | DifferentiableMixedInput


def mixed_modules(supernet: nn.Module) -> list[MixedModule]:
    """Every mixed layer and mixed input, in the order of the network."""
    return [module for module in supernet.modules() if isinstance(module, MixedModule)]


def architecture_parameters(supernet: nn.Module) -> dict[str, nn.Parameter]:
    """The architecture parameter of every label, in the order of the network: the same in every process."""
    return {str(module.label): module._arch_alpha for module in mixed_modules(supernet)}


def candidate_names(module: MixedModule) -> list[str]:
    if isinstance(module, DifferentiableMixedLayer):
        return list(module.names)
    return [str(i) for i in range(module.n_candidates)]


def distribution(supernet: nn.Module) -> dict[str, dict[str, float]]:
    """The probability of each candidate by label: the softmax of the architecture parameters, without noise."""
    # NNI's labels are of a class of their own, which a checkpoint must not hold.
    modules = {str(module.label): module for module in mixed_modules(supernet)}
    return {
        label: dict(zip(candidate_names(module), module._arch_alpha.detach().softmax(-1).tolist(), strict=True))
        for label, module in modules.items()
    }


def entropy(probabilities: dict[str, dict[str, float]]) -> float:
    """Mean entropy of the choices, each as a fraction of its largest: 1 is undecided, 0 is decided."""
    shares = [
        -sum(p * math.log(p) for p in candidates.values() if p > 0) / math.log(len(candidates))
        for candidates in probabilities.values()
        if len(candidates) > 1
    ]
    return sum(shares) / len(shares) if shares else 0.0


def derive(supernet: nn.Module) -> Choices:
    """The most probable candidate of every choice, as NNI exports it."""
    choices: Choices = {}
    for module in mixed_modules(supernet):
        choices.update(module.export(choices))
    return {str(label): chosen for label, chosen in choices.items()}


class OneHot(nn.Module):
    """Stands where NNI's mixed layers have their softmax: gives the sample in place of the distribution.

    ``value`` is the one-hot vector, ``index`` where its one is, as a number of Python's.

    Args:
        each_call: every call of the layer takes a new draw, at the temperature of the last :func:`draw`.
    """

    value: Tensor
    index: int
    temperature: float

    def __init__(self, each_call: bool = False):
        super().__init__()
        self.each_call = each_call

    def forward(self, architecture_parameter: Tensor) -> Tensor:
        if self.each_call:
            draw([self], [architecture_parameter], self.temperature)
        return self.value


def draw(samples: list[OneHot], architecture_parameters: list[Tensor], temperature: float) -> None:
    """Draws hard Gumbel-softmax samples with the straight-through gradient (Jang et al., arXiv 1611.01144).

    All at once and the indices read at once: a GPU is waited for once.
    """
    lengths = [len(parameter) for parameter in architecture_parameters]
    rows = nn.utils.rnn.pad_sequence(architecture_parameters, batch_first=True, padding_value=-math.inf)
    values = nn.functional.gumbel_softmax(rows, tau=temperature, hard=True)
    for sample, value, length, index in zip(samples, values.unbind(), lengths, values.argmax(-1).tolist(), strict=True):
        sample.temperature, sample.value, sample.index = temperature, value[:length], index


def set_sample(sample: OneHot, index: int, like: Tensor) -> None:
    sample.value = nn.functional.one_hot(torch.tensor(index, device=like.device), len(like)).to(like.dtype)
    sample.index = index


@contextmanager
def at_sample(supernet: nn.Module, choices: Choices) -> Iterator[dict[str, OneHot]]:
    """Inside, the supernet of any strategy is the network of the given choices. Gives the one-hot of every label."""
    modules = mixed_modules(supernet)
    before = [module._softmax for module in modules]
    samples: dict[str, OneHot] = {}
    for module in modules:
        if module.label not in samples:
            samples[module.label] = OneHot()
            chosen = choices[module.label]
            index = chosen[0] if isinstance(chosen, list) else module.names.index(chosen)
            set_sample(samples[module.label], index, module._arch_alpha)
        module._softmax = samples[module.label]
    try:
        yield samples
    finally:
        for module, softmax in zip(modules, before, strict=True):
            module._softmax = softmax
