"""What all differentiable strategies share: the mixed layers of a supernet and its architecture parameters."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput, DifferentiableMixedLayer
from torch import Tensor, nn

from model_space.contracts import Choices
from trainer.supernet.deferred import Leave, Unchosen

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

    ``value`` is the one-hot vector, ``index`` where its one is, as a number of Python's; ``place`` is the sample's
    among those that were drawn together, and ``unchosen`` what their backward pass leaves to its end.

    Args:
        each_call: every call of the layer takes a new draw, at the temperature of the last :func:`draw`; in a search
            call n takes the same one in every part of a step and on every process (:class:`~.micro_batches.CallNoise`).
    """

    value: Tensor
    index: int
    place: int
    unchosen: Unchosen
    temperature: float

    def __init__(self, each_call: bool = False):
        super().__init__()
        self.each_call = each_call
        self.noise = gumbel

    def forward(self, architecture_parameter: Tensor) -> Tensor:
        if self.each_call:
            draw([self], [architecture_parameter], self.temperature, self.noise)
        return self.value


def gumbel(logits: Tensor) -> Tensor:
    """Noise of the standard Gumbel distribution, in the shape of ``logits``."""
    return -torch.empty_like(logits).exponential_().log()


def draw(
    samples: list[OneHot],
    architecture_parameters: list[Tensor],
    temperature: float,
    noise: Callable[[Tensor], Tensor] = gumbel,
) -> None:
    """Draws a sample of each and sets it, with its gradient to the architecture parameters."""
    values, indices = hard_samples(architecture_parameters, temperature, noise)
    set_samples(samples, values, [len(parameter) for parameter in architecture_parameters], indices)
    for sample in samples:
        sample.temperature = temperature


def hard_samples(
    architecture_parameters: list[Tensor], temperature: float, noise: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list]:
    """Hard Gumbel-softmax samples with the straight-through gradient (Jang et al., arXiv 1611.01144).

    All at once and the indices read at once: a GPU is waited for once.

    Returns:
        ``(samples, candidates)``, padded, and where the ones are.
    """
    rows = nn.utils.rnn.pad_sequence(architecture_parameters, batch_first=True, padding_value=-math.inf)
    soft = ((rows + noise(rows)) / temperature).softmax(-1)
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    values = hard - soft.detach() + soft
    return values, values.argmax(-1).tolist()


def set_samples(samples: list[OneHot], values: Tensor, lengths: list[int], indices: list) -> None:
    """Gives every sample its one-hot, a row of ``values``; ``lengths`` of it are the choice's."""
    unchosen = Unchosen()
    values = Leave.apply(values, unchosen)
    for place, (sample, value, length) in enumerate(zip(samples, values.unbind(), lengths, strict=True)):
        sample.value, sample.index, sample.place, sample.unchosen = value[:length], indices[place], place, unchosen


@contextmanager
def at_sample(supernet: nn.Module, choices: Choices) -> Iterator[dict[str, Tensor]]:
    """Inside, the supernet of any strategy is the network of the given choices. Gives the one-hot of every label, which
    has a gradient after a backward pass."""
    modules = mixed_modules(supernet)
    before = [module._softmax for module in modules]
    by_label = {module.label: module for module in modules}
    samples = {label: OneHot() for label in by_label}
    indices, one_hots = [], []
    for label, module in by_label.items():
        chosen, parameter = choices[label], module._arch_alpha
        indices.append(chosen[0] if isinstance(chosen, list) else module.names.index(chosen))
        one_hots.append(torch.eye(len(parameter)).to(parameter)[indices[-1]].requires_grad_())
    values = nn.utils.rnn.pad_sequence(one_hots, batch_first=True)
    set_samples(list(samples.values()), values, [len(one_hot) for one_hot in one_hots], indices)
    for module in modules:
        module._softmax = samples[module.label]
    try:
        yield dict(zip(samples, one_hots, strict=True))
    finally:
        for module, softmax in zip(modules, before, strict=True):
            module._softmax = softmax
