"""Dropout of elements and of whole channels.

On a CPU torch samples a random number for every element. Here one is sampled for every element that is dropped: the
distribution is the same.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model_space.functional.by_hand import by_hand, run

aten = torch.ops.aten


def _bernoulli_process(p: float, count: int) -> Tensor:
    """Returns the successes, with probability ``p`` each, among ``count`` places: ascending, int64, on the CPU.

    From one success to the next it is a geometrically distributed number of places, which a uniform number u gives as
    ``1 + floor(log(u) / log(1 - p))``.
    """
    expected = count * p
    draws = int(expected + 8 * math.sqrt(expected)) + 16  # more successes come once in 10^15 calls
    gaps = torch.rand(draws).neg_().add_(1).log_().mul_(1 / math.log1p(-p)).long().add_(1)
    gaps[0] -= 1
    places = gaps.cumsum_(0)
    return places[: int(torch.searchsorted(places, count))]


class _Ahead:
    """A Bernoulli process, sampled in blocks that tensors use up in turn.

    Each block is twice as long as the one before.
    """

    SHORTEST, LONGEST = 1 << 16, 1 << 22

    def __init__(self) -> None:
        self.length = self.used = 0

    def next(self, p: float, count: int) -> Tensor:
        if self.used + count > self.length:
            self.length = max(count, min(max(2 * self.length, self.SHORTEST), self.LONGEST))
            self.used, self.places = 0, _bernoulli_process(p, self.length).numpy()
        first, last = np.searchsorted(self.places, (self.used, self.used + count))
        places = self.places[first:last] - self.used
        self.used += count
        return torch.from_numpy(places)


class _NoiseAhead:
    """What channels of features on a GPU are multiplied with, 0 or 1 / (1 - p), sampled in blocks."""

    LENGTH = 1 << 22

    def __init__(self) -> None:
        self.noise, self.used = torch.empty(0), 0

    def next(self, x: Tensor, shape: Sequence[int], p: float) -> Tensor:
        count = math.prod(shape)
        if self.used + count > len(self.noise):
            self.noise, self.used = x.new_empty(max(count, self.LENGTH)).bernoulli_(1 - p).div_(1 - p), 0
        noise = self.noise[self.used : self.used + count].view(shape)
        self.used += count
        return noise


_ahead: dict[Any, Any] | None = None


@contextmanager
def dropout_sampled_ahead() -> Iterator[None]:
    """Samples the random numbers of all dropouts in large blocks, as long as the block of code lasts.

    A step of a search has hundreds of dropouts. On a GPU this concerns the dropout of whole channels alone. Numbers
    that are left at the end are thrown away, so that nothing is carried from one step to the next.
    """
    global _ahead
    outer = _ahead
    _ahead = {} if outer is None else outer
    try:
        yield
    finally:
        _ahead = outer


def dropped(p: float, count: int) -> Tensor:
    """Returns the places among ``count`` that a dropout sets to zero: ascending, int64, on the CPU.

    Args:
        p: Probability of each place to be dropped, above 0.
        count: Number of places.
    """
    if _ahead is None:
        return _bernoulli_process(p, count)
    return _ahead.setdefault(p, _Ahead()).next(p, count)


def dropped_of(x: Tensor, p: float, operations: int = 1) -> Tensor:
    """Returns the places of ``x`` that its dropout sets to zero.

    Args:
        x: What is dropped from.
        p: Probability of each place to be dropped.
        operations: Number of operations that have a part of ``x`` each, one after the other. Each samples as it would
            alone.
    """
    count = x.numel() // operations
    if operations == 1:
        return dropped(p, count)
    return torch.cat([dropped(p, count) + operation * count for operation in range(operations)])


def drop(x: Tensor, places: Tensor) -> Tensor:
    """Sets the elements at these places of a contiguous tensor to zero, in place."""
    x.view(-1).index_fill_(0, places, 0)
    return x


def drop_out(x: Tensor, p: float, operations: int = 1) -> tuple[Tensor, list[Tensor], float]:
    """Drops elements of a tensor that is not needed any more.

    Returns:
        What is left of the tensor; what was dropped, as :func:`through_dropout` takes it; and the scale that is still
        to be applied. On a CPU a product that follows applies it.
    """
    if not p:
        return x, [], 1.0
    if x.is_cuda:
        x, kept = torch.native_dropout(x, p, True)
        return x, [kept], 1.0
    places = dropped_of(x, p, operations)
    return drop(x, places), [places], 1 / (1 - p)


def through_dropout(gradient: Tensor, places: list[Tensor], scale: float) -> Tensor:
    """Returns the gradient of what went into :func:`drop_out`, from that of what came out, its scale applied."""
    if not places:
        return gradient
    if gradient.is_cuda:
        return aten.native_dropout_backward(gradient, *places, scale)
    return drop(gradient * scale, *places)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        output = x.contiguous() / (1 - p)
        places = dropped_of(output, p)
        if ctx:
            ctx.keep = 1 / (1 - p)
            ctx.save_for_backward(places)
        return drop(output, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return drop(gradient.contiguous() * ctx.keep, *ctx.saved_tensors), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Sets each element to zero with probability ``p`` and divides the others by ``1 - p``.

    Its plain form is torch's, which a GPU has as one kernel.
    """
    if p and x.device.type == "cpu" and by_hand(x):
        return run(_Dropout, x, p)
    return functional.dropout(x, p)


def channel_dropout(x: Tensor, p: float) -> Tensor:
    """Drops whole channels: one mask ``(B, 1, hidden)`` for all positions.

    Args:
        x: Features, ``(B, N, hidden)``; or those of K operations, ``(K, B, N, hidden)``.
        p: Probability with which a channel is dropped.
    """
    if not p:
        return x
    shape = *x.shape[:-2], 1, x.size(-1)
    if not by_hand(x):
        return plain_channel_dropout(x, p)
    if x.is_cuda and _ahead is not None:
        return x * _ahead.setdefault((p, x.dtype), _NoiseAhead()).next(x, shape, p)
    if x.is_cuda:
        return plain_channel_dropout(x, p)
    mask = x.new_full(shape, 1 / (1 - p))
    return x * drop(mask, dropped_of(mask, p, len(x) if x.dim() == 4 else 1))


def plain_channel_dropout(x: Tensor, p: float) -> Tensor:
    """Computes :func:`channel_dropout` in its plain form."""
    return x * functional.dropout(x.new_ones(*x.shape[:-2], 1, x.size(-1)), p)
