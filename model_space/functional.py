"""The functions of which the operations are made, on a CPU in fewer passes over memory than torch's own.

On another device, and under autocast, they are torch's own functions one after the other. Either way the numbers are
the same but for rounding. Dropout has the same distribution: torch draws a random number for every element on a CPU,
where here one is drawn for every element that is dropped. What is computed by hand cannot be differentiated twice, and
its backward pass runs once.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

MASKED = -1e9
"""added to the score of a key that is not there; not -inf, so that a row that is masked throughout stays finite"""


def by_hand(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


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


_ahead: dict[float, _Ahead] | None = None


@contextmanager
def dropout_drawn_ahead() -> Iterator[None]:
    """Inside, random numbers of all dropouts on the CPU are drawn in large blocks: a step of a search has hundreds.

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


def _drop(x: Tensor, places: Tensor) -> Tensor:
    """Sets the elements at these places of a contiguous tensor to zero, in place."""
    x.view(-1).index_fill_(0, places, 0)
    return x


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:
        places = dropped(p, x.numel())
        if ctx:
            ctx.keep = 1 / (1 - p)
            ctx.save_for_backward(places)
        return _drop(x.contiguous() / (1 - p), places)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        return _drop(gradient.contiguous() * ctx.keep, *ctx.saved_tensors), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Sets each element to zero with probability ``p`` and divides the others by ``1 - p``."""
    if p and by_hand(x):
        return _run(_Dropout, x, p)
    return functional.dropout(x, p)


def channel_dropout(x: Tensor, p: float) -> Tensor:
    """Drops whole channels: one mask ``(B, 1, hidden)`` for all positions of ``(B, N, hidden)``."""
    if not p:
        return x
    shape = x.size(0), 1, x.size(2)
    if not by_hand(x):
        return x * functional.dropout(x.new_ones(shape), p)
    mask = x.new_full(shape, 1 / (1 - p))
    return x * _drop(mask, dropped(p, mask.numel()))


def _run(function: type[torch.autograd.Function], *inputs) -> Tensor:
    """The forward pass alone, with None for its context, where no gradient will be asked for."""
    return function.apply(*inputs) if torch.is_grad_enabled() else function.forward(None, *inputs)


class _FeedForward(torch.autograd.Function):
    """One hidden layer; where the dropout of the output has a residual, that is added."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        p: float,
        residual: bool,
    ) -> Tensor:
        scale = 1 / (1 - p)
        rows = x.reshape(-1, x.size(-1))
        inner = torch.addmm(bias1, rows, weight1.t()).relu_()
        places = []
        if p:
            _drop(inner, dropped(p, inner.numel()))
        output = torch.addmm(bias2, inner, weight2.t(), alpha=scale)
        if residual:
            if p:
                places = [dropped(p, output.numel())]
                _drop(output, *places)
            output = torch.add(rows, output, alpha=scale, out=output)
        if ctx:
            ctx.scale, ctx.residual = scale, residual
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
        outer = gradient
        if ctx.residual and ctx.scale != 1:
            outer = _drop(gradient * ctx.scale, *places)
        scaled = outer * ctx.scale if ctx.scale != 1 else outer
        inner_gradient = scaled @ weight2
        torch.ops.aten.threshold_backward.grad_input(inner_gradient, inner, 0, grad_input=inner_gradient)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = torch.addmm(gradient, inner_gradient, weight1, beta=float(ctx.residual)).view(*shape[:-1], -1)
        return (
            x_gradient,
            inner_gradient.t() @ rows,
            inner_gradient.sum(0),
            scaled.t() @ inner,
            outer.sum(0),
            None,
            None,
        )


def feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear, p: float, residual: bool) -> Tensor:
    """``f(x) = second(dropout(relu(first(x))))`` or, with a residual, ``x + dropout(f(x))``."""
    if by_hand(x):
        weights = first.weight, first.bias, second.weight, second.bias
        return _run(_FeedForward, x, *weights, p, residual)
    output = second(functional.dropout(first(x).relu(), p))
    return x + functional.dropout(output, p) if residual else output


def _project(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """``(B, N, hidden)`` by P projections at once, ``(P hidden, hidden)``, to ``(P, B heads, N, hidden / heads)``."""
    batch, positions, hidden = x.shape
    projected = functional.linear(x, weight, bias).view(batch, positions, -1, heads, hidden // heads)
    return projected.permute(2, 0, 3, 1, 4).reshape(-1, batch * heads, positions, hidden // heads)


def _heads_joined(heads: Tensor, batch: int) -> Tensor:
    """``(P, B heads, N, hidden / heads)`` to ``(B N, P hidden)``."""
    parts, rows, positions, size = heads.shape
    split = heads.view(parts, batch, rows // batch, positions, size)
    return split.permute(1, 3, 0, 2, 4).reshape(batch * positions, -1)


class _Attention(torch.autograd.Function):
    """All projections of one input are one product; the scale of the dropout of the map is applied in the merge."""

    @staticmethod
    def forward(
        ctx, x: Tensor, y: Tensor | None, mask: Tensor, score_bias: Tensor | None, heads: int, p: float, *parameters
    ) -> Tensor:
        *weights, merge = parameters[:4]
        *biases, merge_bias = parameters[4:]
        batch, positions, hidden = x.shape
        keep = 1 / (1 - p)
        # What is projected, and by which of the layers query, key, value.
        groups = [(x, slice(0, 3))] if y is None else [(x, slice(0, 1)), (y, slice(1, 3))]
        inputs = [source for source, _ in groups]
        weights = [torch.cat(weights[parts]) for _, parts in groups]
        biases = [None if merge_bias is None else torch.cat(biases[parts]) for _, parts in groups]
        projected = [_project(*each, heads) for each in zip(inputs, weights, biases, strict=True)]

        query, key, value = (part for group in projected for part in group)
        # torch's softmax is vectorised from 16 elements on, and takes ten times as long for 15.
        keys, short = key.size(1), max(16 - key.size(1), 0)
        if short:
            key, value = (functional.pad(part, (0, 0, 0, short)) for part in (key, value))
            mask = functional.pad(mask, (0, short))
        scale = query.size(-1) ** -0.5
        attention = torch.baddbmm(query.new_empty(1, 1, 1), query, key.transpose(1, 2), beta=0, alpha=scale)
        scores = attention.view(batch, heads, positions, -1)
        if score_bias is not None:
            scores[..., :keys] += score_bias
        if not mask.all():
            scores += torch.zeros(mask.shape, dtype=x.dtype).masked_fill_(~mask, MASKED)[:, None, None]
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
        if merge_bias is None:
            merge_bias_or_zero, beta = x.new_empty(1), 0
        else:
            merge_bias_or_zero, beta = merge_bias, 1
        output = torch.addmm(merge_bias_or_zero, attended, merge.t(), beta=beta, alpha=keep)
        if p:
            saved.append(dropped(p, output.numel()))
            _drop(output, saved[-1])
        output = torch.add(x.reshape(-1, hidden), output, alpha=keep, out=output)
        if ctx:
            ctx.heads, ctx.groups, ctx.keep, ctx.scale = heads, len(groups), keep, scale
            ctx.biased, ctx.score_biased = merge_bias is not None, score_bias is not None
            ctx.save_for_backward(attention, attended, merge, *projected, *inputs, *weights, *saved)
        return output.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        groups = ctx.groups
        attention, attended, merge, *saved = ctx.saved_tensors
        projected, inputs, weights = (saved[i * groups : (i + 1) * groups] for i in range(3))
        saved = saved[3 * groups :]
        query, key, value = (part for group in projected for part in group)
        batch, positions, hidden = gradient.shape
        keys = key.size(1)

        gradient = gradient.reshape(-1, hidden)
        outer = _drop(gradient * ctx.keep, saved[-1]) if saved else gradient
        merge_bias_gradient = outer.sum(0) if ctx.biased else None
        if saved:
            outer = outer * ctx.keep
        merge_gradient = outer.t() @ attended
        outer = (outer @ merge).view(batch, positions, ctx.heads, -1).transpose(1, 2).reshape(query.shape)

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
        torch.ops.aten._softmax_backward_data.out(
            scores_gradient, attention, -1, attention.dtype, grad_input=scores_gradient
        )
        scores_gradient = scores_gradient[..., :keys]
        for result, factors in ((query_gradient, (scores_gradient, key)), (key_gradient, (scores_gradient.mT, query))):
            torch.baddbmm(result, *factors, beta=0, alpha=ctx.scale, out=result)

        rows = [_heads_joined(each, batch) for each in heads_gradients]
        input_gradients = [torch.addmm(gradient, rows[0], weights[0]).view_as(inputs[0])]
        if groups == 2:
            input_gradients.append((rows[1] @ weights[1]).view_as(inputs[1]))
        weight_gradients = [
            part
            for row, source in zip(rows, inputs, strict=True)
            for part in (row.t() @ source.reshape(-1, hidden)).split(hidden)
        ]
        bias_gradients = [part if ctx.biased else None for row in rows for part in row.sum(0).split(hidden)]
        return (
            input_gradients[0],
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
        return _run(_Attention, x, y, mask, score_bias, heads, p, *weights_and_biases)

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
        x_gradient, weight_gradient, _ = torch.ops.aten.native_layer_norm_backward(
            gradient * (factor / f), x, [size], mean, f, weight, bias, [ctx.needs_input_grad[0], True, False]
        )
        return x_gradient, weight_gradient, gradient.flatten(0, -2).sum(0), None


def std_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """``weight (x - mean) / (std + eps) + bias``, with the unbiased standard deviation of the last dimension."""
    if by_hand(x):
        return _run(_StdLayerNorm, x, weight, bias, eps)
    std, mean = torch.std_mean(x, dim=-1, keepdim=True)
    return torch.addcmul(bias, weight, (x - mean) / (std + eps))
