"""The functions of which the operations are made, forward and backward by hand.

On a CPU they take fewer passes over memory than torch's operations one after the other, on a GPU fewer launches. The
numbers are the same but for rounding; under autocast products, and what stays inside between them, are in its type,
sums of the residual in that of ``x``. Dropout has the same distribution: on a CPU torch draws a random number for every
element, where here one is drawn for every element that is dropped. What is computed by hand cannot be differentiated
twice, and its backward pass runs once.
"""

import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten

MASKED = -1e9
"""added to the score of a key that is not there; not -inf, so that a row that is masked throughout stays finite"""


ONEDNN_FROM = 2**20 if torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64") else math.inf
"""multiplications from which a product of float32 on a CPU is left to oneDNN, where torch takes MKL: on AMD's CPUs MKL
does without AVX-512, and takes twice as long"""


def by_hand(x: Tensor) -> bool:
    return x.device.type in ("cpu", "cuda") and not torch.compiler.is_exporting()


@contextmanager
def without_autocast(device: str) -> Iterator[None]:
    """As ``torch.autocast(device, enabled=False)``, which asks the driver what there is each time: that takes longer
    than to launch ten kernels."""
    if device == "meta":  # which has no autocast
        yield
        return
    enabled = torch.is_autocast_enabled(device)
    torch.set_autocast_enabled(device, False)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, enabled)


def _product_type(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _bernoulli_process(p: float, count: int) -> Tensor:
    """The successes, with probability ``p`` each, among ``count`` places: ascending, int64, on the CPU.

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
    """A Bernoulli process drawn in blocks, each twice as long as the one before, which tensors use up in turn."""

    SHORTEST, LONGEST = 1 << 16, 1 << 22

    def __init__(self):
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
    """What channels of a GPU's features are multiplied with, 0 or 1 / (1 - p), drawn in blocks."""

    LENGTH = 1 << 22

    def __init__(self):
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
def dropout_drawn_ahead() -> Iterator[None]:
    """Inside, random numbers of all dropouts on the CPU, and of whole channels on a GPU, are drawn in large blocks: a
    step of a search has hundreds.

    What is left of them is thrown away at the end, so that nothing is carried from one step to the next.
    """
    global _ahead
    outer = _ahead
    _ahead = {} if outer is None else outer
    try:
        yield
    finally:
        _ahead = outer


def dropped(p: float, count: int) -> Tensor:
    """The places among ``count`` that a dropout sets to zero: ascending, int64, on the CPU.

    Args:
        p: probability of each place to be dropped, above 0.
    """
    if _ahead is None:
        return _bernoulli_process(p, count)
    return _ahead.setdefault(p, _Ahead()).next(p, count)


def _dropped_of(x: Tensor, p: float, operations: int = 1) -> Tensor:
    """The places of ``x`` that its dropout sets to zero.

    Args:
        operations: as many have a part of ``x`` each, one after the other, and draw as they would alone.
    """
    count = x.numel() // operations
    if operations == 1:
        return dropped(p, count)
    return torch.cat([dropped(p, count) + operation * count for operation in range(operations)])


def _drop(x: Tensor, places: Tensor) -> Tensor:
    """Sets the elements at these places of a contiguous tensor to zero, in place."""
    x.view(-1).index_fill_(0, places, 0)
    return x


def _drop_out(x: Tensor, p: float, operations: int = 1) -> tuple[Tensor, list[Tensor], float]:
    """Dropout of what is not needed any more: what is left of it, what was dropped, and the scale that is still to be
    applied to it (on a CPU, where a product after it takes that along)."""
    if not p:
        return x, [], 1.0
    if x.is_cuda:
        x, kept = torch.native_dropout(x, p, True)
        return x, [kept], 1.0
    places = _dropped_of(x, p, operations)
    return _drop(x, places), [places], 1 / (1 - p)


def _through_dropout(gradient: Tensor, places: list[Tensor], scale: float) -> Tensor:
    """The gradient of what went into the dropout that :func:`_drop_out` and its scale make."""
    if not places:
        return gradient
    if gradient.is_cuda:
        return aten.native_dropout_backward(gradient, *places, scale)
    return _drop(gradient * scale, *places)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:
        output = x.contiguous() / (1 - p)
        places = _dropped_of(output, p)
        if ctx:
            ctx.keep = 1 / (1 - p)
            ctx.save_for_backward(places)
        return _drop(output, places)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        return _drop(gradient.contiguous() * ctx.keep, *ctx.saved_tensors), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Sets each element to zero with probability ``p`` and divides the others by ``1 - p``."""
    if p and x.device.type == "cpu" and by_hand(x):
        return _run(_Dropout, x, p)
    return functional.dropout(x, p)


def channel_dropout(x: Tensor, p: float) -> Tensor:
    """Drops whole channels: one mask ``(B, 1, hidden)`` for all positions of ``(B, N, hidden)``; or of K operations at
    once."""
    if not p:
        return x
    shape = *x.shape[:-2], 1, x.size(-1)
    if x.is_cuda and _ahead is not None:
        return x * _ahead.setdefault((p, x.dtype), _NoiseAhead()).next(x, shape, p)
    if x.is_cuda or not by_hand(x):
        return x * functional.dropout(x.new_ones(shape), p)
    mask = x.new_full(shape, 1 / (1 - p))
    return x * _drop(mask, _dropped_of(mask, p, len(x) if x.dim() == 4 else 1))


def _run(function: type[torch.autograd.Function], x: Tensor, *inputs) -> Tensor:
    """The forward pass alone, with None for its context, where no gradient will be asked for."""

    def run() -> Tensor:
        return function.apply(x, *inputs) if torch.is_grad_enabled() else function.forward(None, x, *inputs)

    with without_autocast(x.device.type):  # the functions say themselves what is in which type
        return run()


def _joined(low: torch.dtype, *groups: Sequence[Tensor]) -> list[Tensor]:
    """Each group's tensors of one shape one below the other, in a type: one copy of all where they are in another."""
    if groups[0][0].dtype == low:
        return [group[0] if len(group) == 1 else torch.cat(tuple(group)) for group in groups]
    joined, parts = [], []
    for group in groups:
        if len(group) == 1:
            joined.append(torch.empty_like(group[0], dtype=low))
            parts.append(joined[-1])
        else:
            rows = group[0].new_empty((len(group), *group[0].shape), dtype=low)
            joined.append(rows.flatten(0, 1))
            parts += rows.unbind()
    torch._foreach_copy_(parts, [tensor for group in groups for tensor in group])
    return joined


def _product(
    left: Tensor, right: Tensor, bias: Tensor | None = None, base: Tensor | None = None, scale: float = 1.0
) -> Tensor:
    """``scale * left rightᵀ``, ``(rows, in)`` by ``(out, in)`` as a linear layer has it, and to that a bias ``(out,)``
    or a base ``(rows, out)``, which may be of a wider type."""
    if left.is_cpu and left.dtype == torch.float32 and left.numel() * len(right) >= ONEDNN_FROM:
        if scale != 1:
            right = right * scale
        if base is None:
            return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
        return torch.ops.mkldnn._linear_pointwise.binary(left, base, right, bias, "add")
    if base is not None and base.dtype != left.dtype:
        return torch.add(base, left @ right.t(), alpha=scale)
    added = bias if base is None else base
    if added is None and scale == 1:
        return left @ right.t()
    if added is None:
        return torch.addmm(left.new_empty(1), left, right.t(), beta=0, alpha=scale)
    return torch.addmm(added, left, right.t(), alpha=scale)


def _weight_gradient(of_output: Tensor, entered: Tensor, weight_type: torch.dtype) -> Tensor:
    """``(rows, out)`` and ``(rows, in)`` to ``(out, in)``, in the type of the weight."""
    if of_output.dtype == weight_type or not of_output.is_cuda:
        return _product(of_output.t(), entered.t()).to(weight_type)
    return torch.mm(of_output.t(), entered, out_dtype=weight_type)


def _plus_residual(x: Tensor, output: Tensor, scale: float) -> Tensor:
    """``x + scale * output``, where it can be in the place of the output."""
    return torch.add(x, output, alpha=scale, out=output if x.dtype == output.dtype else None)


class _FeedForward(torch.autograd.Function):
    """One hidden layer; where the dropout of the output has a residual, that is added."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        low: torch.dtype,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        p: float,
        residual: bool,
    ) -> Tensor:
        scale, wide = 1 / (1 - p), weight1.dtype
        x_rows = x.reshape(-1, x.size(-1))
        rows = x_rows.to(low)
        weight1, bias1, weight2, bias2 = _joined(low, (weight1,), (bias1,), (weight2,), (bias2,))
        inner, _, inner_scale = _drop_out(_product(rows, weight1, bias1).relu_(), p)
        output = _product(inner, weight2, bias2, scale=inner_scale)
        places = []
        if residual:
            output, places, output_scale = _drop_out(output, p)
            output = _plus_residual(x_rows, output, output_scale)
        if ctx:
            ctx.scale, ctx.inner_scale, ctx.residual, ctx.wide = scale, inner_scale, residual, wide
            # No mask of the inner dropout: an element that is zero was dropped or cut off by the ReLU, and has no
            # gradient either way.
            ctx.save_for_backward(rows, inner, weight1, weight2, *places)
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        rows, inner, weight1, weight2, *places = ctx.saved_tensors
        shape = gradient.shape
        gradient = gradient.reshape(-1, shape[-1])
        outer = _through_dropout(gradient.to(rows.dtype), places, ctx.scale)
        scaled = outer * ctx.inner_scale if ctx.inner_scale != 1 else outer  # where `inner` is not yet scaled
        if ctx.inner_scale == ctx.scale:
            inner_gradient = _product(scaled, weight2.t())
        else:
            inner_gradient = _product(outer, weight2.t(), scale=ctx.scale)
        aten.threshold_backward.grad_input(inner_gradient, inner, 0, grad_input=inner_gradient)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            if ctx.residual:
                x_gradient = _product(inner_gradient, weight1.t(), base=gradient).view(*shape[:-1], -1)
            else:
                x_gradient = _product(inner_gradient, weight1.t()).view(*shape[:-1], -1)
        return (
            x_gradient,
            None,
            _weight_gradient(inner_gradient, rows, ctx.wide),
            inner_gradient.sum(0, dtype=ctx.wide),
            _weight_gradient(scaled, inner, ctx.wide),
            outer.sum(0, dtype=ctx.wide),
            None,
            None,
        )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, low: torch.dtype, weight: Tensor, bias: Tensor) -> Tensor:
        rows, wide = x.reshape(-1, x.size(-1)).to(low), weight.dtype
        weight, bias = weight.to(low), bias.to(low)
        if ctx:
            ctx.wide = wide
            ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        rows, weight = ctx.saved_tensors
        of_output = gradient.reshape(-1, gradient.size(-1))
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = _product(of_output, weight.t()).view(*gradient.shape[:-1], -1)
        return x_gradient, None, _weight_gradient(of_output, rows, ctx.wide), of_output.sum(0, dtype=ctx.wide)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """What the layer, which has a bias, gives for ``(..., in)``."""
    if x.device.type == "cpu" and by_hand(x):
        return _run(_Linear, x, _product_type(x), layer.weight, layer.bias)
    return functional.linear(x, layer.weight, layer.bias)


def feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear, p: float, residual: bool) -> Tensor:
    """``f(x) = second(dropout(relu(first(x))))`` or, with a residual, ``x + dropout(f(x))``."""
    if by_hand(x):
        weights = first.weight, first.bias, second.weight, second.bias
        return _run(_FeedForward, x, _product_type(x), *weights, p, residual)
    output = second(functional.dropout(first(x).relu(), p))
    return x + functional.dropout(output, p) if residual else output


def _project(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """``(B, N, hidden)`` by P projections at once, ``(P hidden, hidden)``, to ``(P, B heads, N, hidden / heads)``."""
    batch, positions, hidden = x.shape
    projected = _product(x.reshape(-1, hidden), weight, bias).view(batch, positions, -1, heads, hidden // heads)
    return projected.permute(2, 0, 3, 1, 4).reshape(-1, batch * heads, positions, hidden // heads)


def _heads_joined(heads: Tensor, batch: int) -> Tensor:
    """``(P, B heads, N, hidden / heads)`` to ``(B N, P hidden)``."""
    parts, rows, positions, size = heads.shape
    split = heads.view(parts, batch, rows // batch, positions, size)
    return split.permute(1, 3, 0, 2, 4).reshape(batch * positions, -1)


def _projections(x: Tensor, y: Tensor | None, low: torch.dtype, parameters: Sequence[Tensor | None]) -> tuple:
    """What is projected, by which weights and biases, and those of the merge: one of each, of query, key and value, or,
    where ``y`` is attended to, two, of the query and of key and value."""
    inputs, parts = ([x], [slice(0, 3)]) if y is None else ([x, y], [slice(0, 1), slice(1, 3)])
    weights, biases = parameters[:4], parameters[4:]
    groups = [*(weights[part] for part in parts), weights[3:]]
    if biases[0] is not None:
        groups += [*(biases[part] for part in parts), biases[3:]]
    joined = _joined(low, *groups) + [None] * len(groups) * (biases[0] is None)
    *weights, merge = joined[: len(parts) + 1]
    *biases, merge_bias = joined[len(parts) + 1 :]
    return [each.to(low) for each in inputs], weights, biases, merge, merge_bias


_paddings = WeakTensorKeyDictionary()
"""of each mask that is in use: hundreds of attentions of one step have the same"""


def _padding(mask: Tensor, kind: torch.dtype, multiple: int) -> Tensor | None:
    """What is added to the scores of keys for a mask ``(B, M)``: ``(B, 1, 1, M)``, with room behind each row up to a
    multiple of elements; None, on a CPU, where all keys are real (a GPU would have to be waited for)."""
    known = _paddings.setdefault(mask, {})
    key = kind, multiple, 0 if mask.is_inference() else mask._version  # a mask may be changed in place
    if key not in known:
        padding = None
        if mask.is_cuda or not mask.all():
            batch, keys = mask.shape
            padding = torch.zeros(batch, keys + -keys % multiple, dtype=kind, device=mask.device)[:, :keys]
            padding = padding.masked_fill_(~mask, MASKED)[:, None, None]
        known[key] = padding
    return known[key]


class _Attention(torch.autograd.Function):
    """All projections of one input are one product; the scale of the dropout of the map is applied in the merge."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        low: torch.dtype,
        y: Tensor | None,
        mask: Tensor,
        score_bias: Tensor | None,
        heads: int,
        p: float,
        *parameters,
    ) -> Tensor:
        wide = parameters[0].dtype
        batch, positions, hidden = x.shape
        keep = 1 / (1 - p)
        inputs, weights, biases, merge, merge_bias = _projections(x, y, low, parameters)
        projected = [_project(*each, heads) for each in zip(inputs, weights, biases, strict=True)]

        query, key, value = (part for group in projected for part in group)
        keys = key.size(1)
        # torch's softmax is vectorised from 16 elements on, and takes ten times as long for 15.
        short = max(16 - keys, 0)
        if short:
            key, value = (functional.pad(part, (0, 0, 0, short)) for part in (key, value))
        scale = query.size(-1) ** -0.5
        attention = torch.baddbmm(query.new_empty(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scale)
        scores = attention.view(batch, heads, positions, -1)
        if score_bias is not None:
            scores[..., :keys] += score_bias
        padding = _padding(mask, low, 1)
        if padding is not None:
            scores[..., :keys] += padding
        if short:
            scores[..., keys:] = -math.inf
        torch.softmax(attention, -1, out=attention)
        saved = []
        if p:
            map_places = dropped(p, len(attention) * positions * keys)
            if short:  # places of the rows that are longer
                map_places = map_places.add_(map_places // keys, alpha=short)
            if ctx:
                saved = [map_places, attention.view(-1).index_select(0, map_places)]
            _drop(attention, map_places)
        attended = torch.bmm(attention, value).view(batch, heads, positions, -1).transpose(1, 2).reshape(-1, hidden)
        output = _product(attended, merge, merge_bias, scale=keep)
        output, places, scale_left = _drop_out(output, p)
        output = _plus_residual(x.reshape(-1, hidden), output, scale_left)
        saved += places
        if ctx:
            ctx.heads, ctx.groups, ctx.keep, ctx.scale, ctx.wide = heads, len(inputs), keep, scale, wide
            ctx.biased, ctx.score_biased = merge_bias is not None, score_bias is not None
            ctx.save_for_backward(attention, attended, merge, *projected, *inputs, *weights, *saved)
        return output.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        groups, wide = ctx.groups, ctx.wide
        attention, attended, merge, *saved = ctx.saved_tensors
        projected, inputs, weights = (saved[i * groups : (i + 1) * groups] for i in range(3))
        saved = saved[3 * groups :]
        query, key, value = (part for group in projected for part in group)
        batch, positions, hidden = gradient.shape
        keys = key.size(1)

        gradient = gradient.reshape(-1, hidden)
        outer = _through_dropout(gradient.to(merge.dtype), saved[-1:], ctx.keep)
        merge_bias_gradient = outer.sum(0, dtype=wide) if ctx.biased else None
        if saved:
            outer = outer * ctx.keep
        merge_gradient = _weight_gradient(outer, attended, wide)
        outer = _product(outer, merge.t()).view(batch, positions, ctx.heads, -1).transpose(1, 2).reshape(query.shape)

        heads_gradients = [torch.empty_like(group) for group in projected]
        query_gradient, key_gradient, value_gradient = (part for group in heads_gradients for part in group)
        torch.bmm(attention[..., :keys].transpose(1, 2), outer, out=value_gradient)
        scores_gradient = torch.zeros_like(attention) if attention.size(2) > keys else torch.empty_like(attention)
        torch.bmm(outer, value.transpose(1, 2), out=scores_gradient[..., :keys])
        if saved:
            places, undropped, _ = saved
            _drop(scores_gradient, places)
            # Back to what it was before the dropout. In place: a second backward pass is refused by torch.
            attention.view(-1).index_copy_(0, places, undropped)
        aten._softmax_backward_data.out(scores_gradient, attention, -1, attention.dtype, grad_input=scores_gradient)
        scores_gradient = scores_gradient[..., :keys]
        for result, factors in ((query_gradient, (scores_gradient, key)), (key_gradient, (scores_gradient.mT, query))):
            torch.baddbmm(result, *factors, beta=0, alpha=ctx.scale, out=result)

        rows = [_heads_joined(each, batch) for each in heads_gradients]
        input_gradients = [_product(rows[0], weights[0].t(), base=gradient).view_as(inputs[0])]
        if groups == 2:
            input_gradients.append(_product(rows[1], weights[1].t()).view_as(inputs[1]))
        weight_gradients = [
            part
            for row, source in zip(rows, inputs, strict=True)
            for part in _weight_gradient(row, source.reshape(-1, hidden), wide).split(hidden)
        ]
        bias_gradients = [part if ctx.biased else None for row in rows for part in row.sum(0, dtype=wide).split(hidden)]
        return (
            input_gradients[0],
            None,
            input_gradients[1] if groups == 2 else None,
            None,
            scores_gradient.view(batch, ctx.heads, positions, keys) if ctx.score_biased else None,
            None,
            None,
            *weight_gradients,
            merge_gradient,
            *bias_gradients,
            merge_bias_gradient,
        )


class _FusedAttention(torch.autograd.Function):
    """On a GPU, by torch's kernels that keep no map of the attention in memory."""

    @staticmethod
    def forward(
        ctx, x: Tensor, low: torch.dtype, y: Tensor | None, mask: Tensor, heads: int, p: float, *parameters
    ) -> Tensor:
        wide = parameters[0].dtype
        batch, positions, hidden = x.shape
        inputs, weights, biases, merge, merge_bias = _projections(x, y, low, parameters)
        query, key, value = (
            part.transpose(1, 2)  # (B, heads, N, hidden / heads)
            for each in zip(inputs, weights, biases, strict=True)
            for part in functional.linear(*each).view(batch, each[0].size(1), -1, heads, hidden // heads).unbind(2)
        )
        padding = _padding(mask, low, 16).expand(batch, heads, positions, -1)
        attended, *state = aten._scaled_dot_product_efficient_attention(query, key, value, padding, ctx is not None, p)
        output = functional.linear(attended.transpose(1, 2).reshape(-1, hidden), merge, merge_bias)
        output, kept, _ = _drop_out(output, p)
        if ctx:
            ctx.p, ctx.groups, ctx.wide, ctx.biased = p, len(inputs), wide, merge_bias is not None
            ctx.save_for_backward(query, key, value, padding, attended, *state, merge, *inputs, *weights, *kept)
        return torch.add(x, output.view(x.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        query, key, value, padding, attended, logsumexp, seed, offset, merge, *saved = ctx.saved_tensors
        inputs, weights, kept = saved[: ctx.groups], saved[ctx.groups : 2 * ctx.groups], saved[2 * ctx.groups :]
        batch, heads, positions, size = query.shape
        hidden, wide = heads * size, ctx.wide
        gradient = gradient.reshape(-1, hidden)
        outer = _through_dropout(gradient.to(merge.dtype), kept, 1 / (1 - ctx.p))
        of_heads = aten._scaled_dot_product_efficient_attention_backward(
            (outer @ merge).view(batch, positions, heads, size).transpose(1, 2),
            query,
            key,
            value,
            padding,
            attended,
            logsumexp,
            seed,
            offset,
            ctx.p,
            [True, True, True, False],
        )[:3]
        joined = [each.transpose(1, 2).reshape(-1, hidden) for each in of_heads]
        rows = [torch.cat(joined, 1)] if ctx.groups == 1 else [joined[0], torch.cat(joined[1:], 1)]
        input_gradients = [_product(rows[0], weights[0].t(), base=gradient).view_as(inputs[0])]
        input_gradients += [(row @ weight).view_as(y) for row, weight, y in zip(rows, weights, inputs)][1:]
        weight_gradients = [
            part
            for row, source in zip(rows, inputs, strict=True)
            for part in _weight_gradient(row, source.reshape(-1, hidden), wide).split(hidden)
        ]
        bias_gradients: list[Tensor | None] = [None] * 4
        if ctx.biased:
            bias_gradients = [part for row in rows for part in row.sum(0, dtype=wide).split(hidden)]
            bias_gradients.append(outer.sum(0, dtype=wide))
        return (
            input_gradients[0],
            None,
            input_gradients[1] if ctx.groups == 2 else None,
            None,
            None,
            None,
            *weight_gradients,
            _weight_gradient(outer, attended.transpose(1, 2).reshape(-1, hidden), wide),
            *bias_gradients,
        )


def attention(
    x: Tensor,
    y: Tensor | None,
    mask: Tensor,
    score_bias: Tensor | None,
    layers: tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear],
    heads: int,
    p: float,
) -> Tensor:
    """``x + dropout(merge(dropout(softmax(q kᵀ / √d + score_bias)) v))``, the heads joined before the merge.

    Args:
        x: ``(B, N, hidden)``, what attends.
        y: ``(B, M, hidden)``, what is attended to; None for ``x`` itself.
        mask: ``(B, M)``, True where a key is real.
        score_bias: ``(B, heads, N, M)``.
        layers: of query, key, value and merge; all have a bias or none has.
    """
    if by_hand(x):
        weights_and_biases = *(layer.weight for layer in layers), *(layer.bias for layer in layers)
        low = _product_type(x)
        if x.is_cuda and score_bias is None and low != torch.float64:
            return _run(_FusedAttention, x, low, y, mask, heads, p, *weights_and_biases)
        if x.device.type == "cpu":
            return _run(_Attention, x, low, y, mask, score_bias, heads, p, *weights_and_biases)

    def split(features: Tensor) -> Tensor:  # (B, N, hidden) -> (B, heads, N, hidden / heads)
        return features.unflatten(-1, (heads, -1)).transpose(1, 2)

    source = x if y is None else y
    query, key, value = (split(layer(z)) for layer, z in zip(layers[:3], (x, source, source), strict=True))
    mask = mask[:, None, None, :]
    if score_bias is not None:
        mask = score_bias.to(query.dtype).masked_fill(~mask, MASKED)
    attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p)
    return x + functional.dropout(layers[3](attended.transpose(1, 2).flatten(-2)), p)


class _StdLayerNorm(torch.autograd.Function):
    """By torch's layer norm, whose fused kernels take any mean and factor of a row."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        size = x.size(-1)
        y, mean, reciprocal = torch.native_layer_norm(x, [size], None, None, 1e-30)
        std = (size / (size - 1)) ** 0.5 / reciprocal
        factor = 1 / (std + eps)
        if ctx:
            ctx.save_for_backward(x, mean, std, factor, weight, bias)
        return torch.addcmul(bias, y.mul_(factor / reciprocal), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        x, mean, std, factor, weight, bias = ctx.saved_tensors
        size = x.size(-1)
        # With u = x - mean and g = gradient * weight, the gradient of u / (std + eps) is
        #   factor (g - mean(g)) - factor² u <g, u> / ((size - 1) std);
        # that of torch's norm with a factor f is f (g - mean(g)) - f³ u <g, u> / size, and linear in g.
        f = (size / (size - 1) * factor / std.clamp(min=1e-15)).sqrt()
        x_gradient, weight_gradient, _ = aten.native_layer_norm_backward(
            gradient * (factor / f), x, [size], mean, f, weight, bias, [ctx.needs_input_grad[0], True, False]
        )
        return x_gradient, weight_gradient, gradient.flatten(0, -2).sum(0), None


def std_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """``weight (x - mean) / (std + eps) + bias``, with the unbiased standard deviation of the last dimension."""
    if by_hand(x):
        return _run(_StdLayerNorm, x.to(weight.dtype), weight, bias, eps)
    std, mean = torch.std_mean(x, dim=-1, keepdim=True)
    return torch.addcmul(bias, weight, (x - mean) / (std + eps))


def _stacked(tensors: Iterable[Tensor], low: torch.dtype) -> Tensor:
    tensors = tuple(tensors)
    return _joined(low, tensors)[0].view(-1, *tensors[0].shape)


@torch.no_grad()
def feed_forwards(x: Tensor, first: Sequence[nn.Linear], second: Sequence[nn.Linear], p: float) -> Tensor:
    """:func:`feed_forward` with a residual, K of them at once, each of an input of its own: ``(K, B, N, hidden)``.

    Without gradients, and in fewer and larger products than one by one.
    """
    low, operations = _product_type(x), len(x)
    with without_autocast(x.device.type):
        weight1, weight2 = (_stacked((layer.weight for layer in layers), low) for layers in (first, second))
        bias1, bias2 = (_stacked((layer.bias for layer in layers), low).unsqueeze(1) for layers in (first, second))
        inner = torch.baddbmm(bias1, x.flatten(1, 2).to(low), weight1.mT).relu_()
        inner, _, scale = _drop_out(inner, p, operations)
        output, _, scale = _drop_out(torch.baddbmm(bias2, inner, weight2.mT, alpha=scale), p, operations)
        return _plus_residual(x, output.view_as(x), scale)


@torch.no_grad()
def attentions(
    x: Tensor,
    y: Tensor | None,
    mask: Tensor,
    layers: Sequence[tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]],
    heads: int,
    p: float,
) -> Tensor:
    """:func:`attention`, K of them at once, each of inputs of its own and all under one mask.

    Without gradients, and in fewer and larger products than one by one.

    Args:
        x: ``(K, B, N, hidden)``.
        y: ``(K, B, M, hidden)``, or None for ``x`` itself.
        mask: ``(B, M)``.
        layers: of query, key, value and merge, K times; all have a bias or none has.
    """
    low = _product_type(x)
    operations, batch, positions, hidden = x.shape

    def product(rows: Tensor, layers: Iterable[tuple[nn.Linear, ...]], alpha: float = 1.0) -> Tensor:
        """``(K, B, N, hidden)`` by the layers of each of the K, side by side."""
        layers = [tuple(each) for each in layers]
        weight = _stacked((layer.weight for each in layers for layer in each), low).view(operations, -1, hidden)
        rows = rows.flatten(1, 2).to(low)
        if layers[0][0].bias is None:
            return torch.baddbmm(rows.new_empty(1, 1, 1), rows, weight.mT, beta=0, alpha=alpha)
        bias = _stacked((layer.bias for each in layers for layer in each), low).view(operations, 1, -1)
        return torch.baddbmm(bias, rows, weight.mT, alpha=alpha)

    def of_heads(projected: Tensor) -> Tensor:
        """``(K, B N, P hidden)`` to ``(P, K B heads, N, hidden / heads)``."""
        split = projected.view(operations * batch, -1, projected.size(-1) // hidden, heads, hidden // heads)
        return split.permute(2, 0, 3, 1, 4).flatten(1, 2)

    with without_autocast(x.device.type):
        if y is None:
            query, key, value = of_heads(product(x, (each[:3] for each in layers))).unbind()
        else:
            (query,) = of_heads(product(x, (each[:1] for each in layers))).unbind()
            key, value = of_heads(product(y, (each[1:3] for each in layers))).unbind()
        padding = _padding(mask, low, 16)
        if x.is_cuda:
            of_operations = padding.repeat(operations, 1, 1, 1).expand(-1, heads, positions, -1)
            attended = functional.scaled_dot_product_attention(
                *(part.unflatten(0, (operations * batch, heads)) for part in (query, key, value)), of_operations, p
            )
            map_scale = 1.0
        else:
            scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key.mT, beta=0, alpha=query.size(-1) ** -0.5)
            if padding is not None:
                scores.view(operations, batch, heads, positions, -1).add_(padding)
            attention, _, map_scale = _drop_out(torch.softmax(scores, -1, out=scores), p, operations)
            attended = torch.bmm(attention, value).unflatten(0, (operations * batch, heads))
        output = product(attended.transpose(1, 2).reshape(x.shape), (each[3:] for each in layers), alpha=map_scale)
        output, _, scale = _drop_out(output, p, operations)
        return _plus_residual(x, output.view_as(x), scale)
