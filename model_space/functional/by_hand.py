"""When an operation is computed by hand, and when in its plain form.

An operation of this room has two forms. By hand its forward and its backward pass are written out: on a CPU they take
fewer passes over memory than torch's operations one after the other, on a GPU fewer launches. The plain form is the few
lines that a reader of the paper expects. It is what tests and benchmarks compare with, and what runs on other devices
and in an ONNX export. The numbers of both are the same but for rounding.

Under autocast, products and what stays inside between them are in its type, sums with a residual in that of ``x``. What
is computed by hand cannot be differentiated twice, and its backward pass runs once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_plain = False


def by_hand(x: Tensor) -> bool:
    """Returns whether an operation on ``x`` is computed by hand."""
    return x.device.type in ("cpu", "cuda") and not torch.compiler.is_exporting() and not _plain


@contextmanager
def plain_forms() -> Iterator[None]:
    """Makes all operations be computed in their plain form, as long as the block lasts."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


@contextmanager
def without_autocast(device: str) -> Iterator[None]:
    """Switches autocast off, as long as the block lasts.

    ``torch.autocast(device, enabled=False)`` does so too, but asks the driver what there is each time, which takes
    longer than to launch ten kernels.
    """
    if device == "meta":  # which has no autocast
        yield
        return
    enabled = torch.is_autocast_enabled(device)
    torch.set_autocast_enabled(device, False)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, enabled)


def product_type(x: Tensor) -> torch.dtype:
    """Returns the type of products with ``x``: that of autocast where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def run(function: type[torch.autograd.Function], x: Tensor, *inputs: Any) -> Tensor:
    """Applies an autograd function.

    Where no gradient is asked for, that is its forward pass alone, with None for its context.
    """

    def compute() -> Tensor:
        return function.apply(x, *inputs) if torch.is_grad_enabled() else function.forward(None, x, *inputs)

    with without_autocast(x.device.type):  # the functions say themselves what is in which type
        return compute()
