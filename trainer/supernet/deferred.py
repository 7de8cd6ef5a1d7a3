"""The products of the exact step that are deferred to the end of a backward pass; see docs/search.md.

The gradient of a sample takes a product ``<g, f_k(x)>`` of each candidate that was not chosen. At the end of a backward
pass the gradient g of every choice's output is known. Nothing waits for the products but the architecture parameters,
and none needs another. So operations of one form are computed together, in a few large products: on a GPU a step of a
search is thousands of small kernels, and most of its time goes into launching them.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model_space.operations import Identity, Zero

TOGETHER = {"cuda": 2**28, "cpu": 0}
"""Number of elements of features on which operations are computed together, by device. Their memory is small beside
what the chosen candidates keep. On a CPU each operation is computed alone: together they are no faster, and leave its
cache."""


class DeferredProduct(NamedTuple):
    """One entry of the gradient of one sample: ``<g, f(x)>``."""

    place: tuple[int, int]
    """Position of the sample among all, and of the candidate."""
    gradient: tuple[Tensor, ...]
    """The gradient g of the output of the choice, one for each tensor of it."""
    operation: nn.Module | None
    """The candidate f; None where ``inputs`` are its output already."""
    inputs: tuple[Any, ...]
    """What the operation is called with."""


@dataclass
class DeferredProducts:
    """The products that the backward pass of one sample leaves to its end."""

    products: list[DeferredProduct] = field(default_factory=list)
    autocast: dict[str, Any] = field(default_factory=lambda: {"device_type": "cpu", "enabled": False})

    def defer(
        self, place: tuple[int, int], gradient: tuple[Tensor, ...], operation: nn.Module | None, inputs: tuple[Any, ...]
    ) -> None:
        """Remembers a product, unless it is zero."""
        if isinstance(operation, Identity):
            operation, inputs = None, inputs[:1]
        if not isinstance(operation, Zero):
            self.products.append(DeferredProduct(place, gradient, operation, inputs))

    def add_to(self, gradient: Tensor) -> None:
        """Computes the products, adds them to the samples' gradient ``(samples, candidates)``, and forgets them."""
        products, self.products = self.products, []
        if not products:
            return
        groups = grouped(products)
        # Before the products are launched, for which the copy to a GPU would wait.
        places = torch.tensor([each.place for group in groups for each in group], device=gradient.device)
        with torch.no_grad(), torch.autocast(**self.autocast):
            values = [inner_products_of(group).to(gradient.dtype) for group in groups]
        # The place of a sample that several layers share comes several times.
        gradient.index_put_(tuple(places.unbind(1)), torch.cat(values), accumulate=True)


class _Defer(torch.autograd.Function):
    """Passes the samples on. Its backward pass is the last of all that depend on them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, deferred: DeferredProducts) -> Tensor:
        ctx.deferred = deferred
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone()
        ctx.deferred.add_to(gradient)
        return gradient, None


def defer_products(values: Tensor, deferred: DeferredProducts) -> Tensor:
    """Returns the samples as they are; when their backward pass ends, the deferred products join their gradient."""
    return _Defer.apply(values, deferred)


_sizes: WeakKeyDictionary[nn.Module, tuple[torch.Size, ...]] = WeakKeyDictionary()


def form(product: DeferredProduct) -> Hashable:
    """Returns a value that products have in common when they can be computed together."""
    if product.operation is None:
        return tuple(output.shape for output in product.inputs)
    if "together" not in vars(type(product.operation)):  # an inherited one may compute something else
        return id(product)
    # Features are stacked, masks are the same.
    inputs = (each.shape if each.is_floating_point() else id(each) for each in product.inputs if each is not None)
    if product.operation not in _sizes:
        _sizes[product.operation] = tuple(parameter.shape for parameter in product.operation.parameters())
    return type(product.operation), product.operation.training, *inputs, _sizes[product.operation]


def grouped(products: Sequence[DeferredProduct]) -> list[Sequence[DeferredProduct]]:
    """Returns the products in groups that are computed together."""
    groups = defaultdict(list)
    for each in products:
        groups[form(each)].append(each)
    together: list[Sequence[DeferredProduct]] = []
    for group in groups.values():
        first = group[0].gradient[0]
        size = max(1, TOGETHER.get(first.device.type, 0) // first.numel())
        together += [group[start : start + size] for start in range(0, len(group), size)]
    return together


def inner_products_of(group: Sequence[DeferredProduct]) -> Tensor:
    """Returns ``<g, f(x)>`` of each of K products of one form, ``(K,)``; of several tensors the sum of theirs."""
    gradients = zip(*(each.gradient for each in group), strict=True)
    return cast(Tensor, sum(map(inner_products, outputs_of(group), gradients)))


def outputs_of(group: Sequence[DeferredProduct]) -> Iterable[tuple[Tensor, ...]]:
    """Returns, for each tensor that a candidate gives, those of all K candidates."""
    operations: list[Any] = [each.operation for each in group]
    inputs = list(zip(*(each.inputs for each in group), strict=True))
    if operations[0] is None:
        return inputs
    if len(group) == 1:
        output = operations[0](*group[0].inputs)
        return [(tensor,) for tensor in ((output,) if isinstance(output, Tensor) else output)]
    stacked = (torch.stack(k) if k[0] is not None and k[0].is_floating_point() else k[0] for k in inputs)
    return [operations[0].together(operations, *stacked).unbind()]


def inner_products(outputs: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> Tensor:
    """Returns the inner products of K pairs of tensors, ``(K,)``."""
    if len(outputs) == 1:
        g, f = gradients[0].flatten(), outputs[0].flatten()
        return torch.vdot(g, f.to(g.dtype)).unsqueeze(0)
    return (torch.stack(outputs) * torch.stack(gradients)).flatten(1).sum(1)
