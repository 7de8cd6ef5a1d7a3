"""What a sample's gradient takes from candidates that were not chosen, computed at the end of a backward pass.

By then the gradient g of every choice's output is known, and so which products ``<g, f_k(x)>`` are wanted. Nothing
waits for them but the architecture parameters, and none needs another: operations of one form are computed together, in
a few large products. On a GPU a step of a search is thousands of small kernels, and what it costs is to launch them.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model_space.operations import Identity, Zero

TOGETHER = {"cuda": 2**28, "cpu": 0}
"""elements of features that operations are computed on together, in memory that is small beside what the chosen
candidates keep; on a CPU each alone, since together they are no faster and leave its cache"""


class Wanted(NamedTuple):
    """One entry of one sample's gradient: ``<g, f(x)>``."""

    place: tuple[int, int]
    """of the sample among all, and of the candidate"""
    gradient: tuple[Tensor, ...]
    operation: nn.Module | None
    inputs: tuple[Any, ...]
    """what the operation is called with; without one, its output"""


@dataclass
class Unchosen:
    """What the backward pass of one draw has left to its end."""

    wanted: list[Wanted] = field(default_factory=list)
    autocast: dict[str, Any] = field(default_factory=lambda: {"device_type": "cpu", "enabled": False})

    def want(self, place: tuple[int, int], gradient: tuple[Tensor, ...], operation, inputs: tuple[Any, ...]) -> None:
        if isinstance(operation, Identity):
            operation, inputs = None, inputs[:1]
        if not isinstance(operation, Zero):
            self.wanted.append(Wanted(place, gradient, operation, inputs))

    def add_to(self, gradient: Tensor) -> None:
        """Adds the products to the samples' gradient, ``(samples, candidates)``, and is empty then."""
        wanted, self.wanted = self.wanted, []
        if not wanted:
            return
        groups = grouped(wanted)
        # Before the products are launched, for which the copy to a GPU would wait.
        places = torch.tensor([each.place for group in groups for each in group], device=gradient.device)
        with torch.no_grad(), torch.autocast(**self.autocast):
            products = [products_of(group).to(gradient.dtype) for group in groups]
        # The place of a sample that several layers share comes several times.
        gradient.index_put_(tuple(places.unbind(1)), torch.cat(products), accumulate=True)


class Leave(torch.autograd.Function):
    """Passes the samples on. Its backward pass is the last of all that depend on them."""

    @staticmethod
    def forward(ctx, values: Tensor, unchosen: Unchosen) -> Tensor:
        ctx.unchosen = unchosen
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        gradient = gradient.clone()
        ctx.unchosen.add_to(gradient)
        return gradient, None


_sizes = WeakKeyDictionary()


def form(wanted: Wanted) -> Hashable:
    """The same for those that can be computed together."""
    if wanted.operation is None:
        return tuple(output.shape for output in wanted.inputs)
    if "together" not in vars(type(wanted.operation)):  # nor that of a class from which it inherits: it may differ
        return id(wanted)
    # Features are stacked, masks are the same.
    inputs = (each.shape if each.is_floating_point() else id(each) for each in wanted.inputs if each is not None)
    if wanted.operation not in _sizes:
        _sizes[wanted.operation] = tuple(parameter.shape for parameter in wanted.operation.parameters())
    return type(wanted.operation), wanted.operation.training, *inputs, _sizes[wanted.operation]


def grouped(wanted: Sequence[Wanted]) -> list[Sequence[Wanted]]:
    groups = defaultdict(list)
    for each in wanted:
        groups[form(each)].append(each)
    parts = []
    for group in groups.values():
        first = group[0].gradient[0]
        size = max(1, TOGETHER.get(first.device.type, 0) // first.numel())
        parts += [group[start : start + size] for start in range(0, len(group), size)]
    return parts


def products_of(group: Sequence[Wanted]) -> Tensor:
    """``<g, f(x)>`` of each of those of one form, ``(K,)``; of several tensors the sum of theirs."""
    gradients = zip(*(each.gradient for each in group), strict=True)
    return sum(map(inner_products, outputs_of(group), gradients))


def outputs_of(group: Sequence[Wanted]) -> Iterable[Sequence[Tensor]]:
    """Of each tensor that a candidate gives, those of all K."""
    operations = [each.operation for each in group]
    inputs = list(zip(*(each.inputs for each in group), strict=True))
    if operations[0] is None:
        return inputs
    if len(group) == 1:
        output = operations[0](*group[0].inputs)
        return [(tensor,) for tensor in ((output,) if isinstance(output, Tensor) else output)]
    stacked = (torch.stack(k) if k[0] is not None and k[0].is_floating_point() else k[0] for k in inputs)
    return [operations[0].together(operations, *stacked).unbind()]


def inner_products(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """``(K,)``"""
    if len(outputs) == 1:
        g, f = gradients[0].flatten(), outputs[0].flatten()
        return torch.vdot(g, f.to(g.dtype)).unsqueeze(0)
    return (torch.stack(outputs) * torch.stack(gradients)).flatten(1).sum(1)
