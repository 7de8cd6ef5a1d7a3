"""Multi-head scaled dot-product attention (Vaswani et al., 2017, arXiv 1706.03762, equation 1 and section 3.2.2)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from model_space.functional.by_hand import by_hand, product_type, run
from model_space.functional.dropout import drop, drop_out, dropped, through_dropout
from model_space.functional.products import joined, plus_residual, product, weight_gradient

aten = torch.ops.aten


MASKED = -1e9
"""Score of a key that is not there. It is not -inf, so that a row that is masked throughout stays finite."""


def _project(x: Tensor, weight: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """Maps ``(B, N, hidden)`` by P projections ``(P hidden, hidden)`` to ``(P, B heads, N, hidden / heads)``."""
    batch, positions, hidden = x.shape
    projected = product(x.reshape(-1, hidden), weight, bias).view(batch, positions, -1, heads, hidden // heads)
    return projected.permute(2, 0, 3, 1, 4).reshape(-1, batch * heads, positions, hidden // heads)


def _heads_joined(heads: Tensor, batch: int) -> Tensor:
    """Maps ``(P, B heads, N, hidden / heads)`` to ``(B N, P hidden)``."""
    parts, rows, positions, size = heads.shape
    split = heads.view(parts, batch, rows // batch, positions, size)
    return split.permute(1, 3, 0, 2, 4).reshape(batch * positions, -1)


def _projections(x: Tensor, y: Tensor | None, low: torch.dtype, parameters: Sequence[Any]) -> tuple:
    """Returns what is projected, by which weights and biases, and the weight and bias of the merge.

    What is projected is one tensor, for query, key and value. Where ``y`` is attended to it is two tensors: one for the
    query, one for key and value.
    """
    inputs, parts = ([x], [slice(0, 3)]) if y is None else ([x, y], [slice(0, 1), slice(1, 3)])
    weights, biases = parameters[:4], parameters[4:]
    groups = [*(weights[part] for part in parts), weights[3:]]
    if biases[0] is not None:
        groups += [*(biases[part] for part in parts), biases[3:]]
    parameters_joined = joined(low, *groups) + [None] * len(groups) * (biases[0] is None)
    *weights, merge = parameters_joined[: len(parts) + 1]
    *biases, merge_bias = parameters_joined[len(parts) + 1 :]
    return [each.to(low) for each in inputs], weights, biases, merge, merge_bias


_paddings = WeakTensorKeyDictionary()
"""What is added to scores, for each mask that is in use: hundreds of attentions of one step have the same mask."""


def padding_of(mask: Tensor, kind: torch.dtype, multiple: int) -> Tensor | None:
    """Returns what is added to the scores of keys, ``(B, 1, 1, M)``.

    Args:
        mask: ``(B, M)``, True where a key is real.
        kind: Type of the scores.
        multiple: Behind each row there is room up to a multiple of so many elements.

    Returns:
        None, on a CPU, where all keys are real. (A GPU would have to be waited for.)
    """
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
    """Attention by hand.

    All projections of one input are one product. The scale of the dropout of the map is applied in the merge.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        low: torch.dtype,
        y: Tensor | None,
        mask: Tensor,
        score_bias: Tensor | None,
        heads: int,
        p: float,
        *parameters: Any,
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
        padding = padding_of(mask, low, 1)
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
            drop(attention, map_places)
        attended = torch.bmm(attention, value).view(batch, heads, positions, -1).transpose(1, 2).reshape(-1, hidden)
        output = product(attended, merge, merge_bias, scale=keep)
        output, places, scale_left = drop_out(output, p)
        output = plus_residual(x.reshape(-1, hidden), output, scale_left)
        saved += places
        if ctx:
            ctx.heads, ctx.groups, ctx.keep, ctx.scale, ctx.wide = heads, len(inputs), keep, scale, wide
            ctx.biased, ctx.score_biased = merge_bias is not None, score_bias is not None
            ctx.save_for_backward(attention, attended, merge, *projected, *inputs, *weights, *saved)
        return output.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        groups, wide = ctx.groups, ctx.wide
        attention, attended, merge, *saved = ctx.saved_tensors
        projected, inputs, weights = (saved[i * groups : (i + 1) * groups] for i in range(3))
        saved = saved[3 * groups :]
        query, key, value = (part for group in projected for part in group)
        batch, positions, hidden = gradient.shape
        keys = key.size(1)

        gradient = gradient.reshape(-1, hidden)
        outer = through_dropout(gradient.to(merge.dtype), saved[-1:], ctx.keep)
        merge_bias_gradient = outer.sum(0, dtype=wide) if ctx.biased else None
        if saved:
            outer = outer * ctx.keep
        merge_gradient = weight_gradient(outer, attended, wide)
        outer = product(outer, merge.t()).view(batch, positions, ctx.heads, -1).transpose(1, 2).reshape(query.shape)

        heads_gradients = [torch.empty_like(group) for group in projected]
        query_gradient, key_gradient, value_gradient = (part for group in heads_gradients for part in group)
        torch.bmm(attention[..., :keys].transpose(1, 2), outer, out=value_gradient)
        short = attention.size(2) - keys
        if short:  # as in the forward pass: into a part of a row, torch multiplies one matrix after the other
            value = functional.pad(value, (0, 0, 0, short))
        scores_gradient = torch.bmm(outer, value.transpose(1, 2))
        if saved:
            places, undropped, _ = saved
            drop(scores_gradient, places)
            # Back to what it was before the dropout. In place: a second backward pass is refused by torch.
            attention.view(-1).index_copy_(0, places, undropped)
        aten._softmax_backward_data.out(scores_gradient, attention, -1, attention.dtype, grad_input=scores_gradient)
        scores_gradient = scores_gradient[..., :keys]
        for result, factors in ((query_gradient, (scores_gradient, key)), (key_gradient, (scores_gradient.mT, query))):
            torch.baddbmm(result, *factors, beta=0, alpha=ctx.scale, out=result)

        rows = [_heads_joined(each, batch) for each in heads_gradients]
        input_gradients = [product(rows[0], weights[0].t(), base=gradient).view_as(inputs[0])]
        if groups == 2:
            input_gradients.append(product(rows[1], weights[1].t()).view_as(inputs[1]))
        weight_gradients = [
            part
            for row, source in zip(rows, inputs, strict=True)
            for part in weight_gradient(row, source.reshape(-1, hidden), wide).split(hidden)
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
    """Attention by hand on a GPU, by torch's kernels that keep no map of the attention in memory."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, low: torch.dtype, y: Tensor | None, mask: Tensor, heads: int, p: float, *parameters: Any
    ) -> Tensor:
        wide = parameters[0].dtype
        batch, positions, hidden = x.shape
        inputs, weights, biases, merge, merge_bias = _projections(x, y, low, parameters)
        query, key, value = (
            part.transpose(1, 2)  # (B, heads, N, hidden / heads)
            for each in zip(inputs, weights, biases, strict=True)
            for part in functional.linear(*each).view(batch, each[0].size(1), -1, heads, hidden // heads).unbind(2)
        )
        padding = padding_of(mask, low, 16)
        assert padding is not None  # on a GPU there always is one
        padding = padding.expand(batch, heads, positions, -1)
        attended, *state = aten._scaled_dot_product_efficient_attention(query, key, value, padding, ctx is not None, p)
        output = functional.linear(attended.transpose(1, 2).reshape(-1, hidden), merge, merge_bias)
        output, kept, _ = drop_out(output, p)
        if ctx:
            ctx.p, ctx.groups, ctx.wide, ctx.biased = p, len(inputs), wide, merge_bias is not None
            ctx.save_for_backward(query, key, value, padding, attended, *state, merge, *inputs, *weights, *kept)
        return torch.add(x, output.view(x.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, padding, attended, logsumexp, seed, offset, merge, *saved = ctx.saved_tensors
        inputs, weights, kept = saved[: ctx.groups], saved[ctx.groups : 2 * ctx.groups], saved[2 * ctx.groups :]
        batch, heads, positions, size = query.shape
        hidden, wide = heads * size, ctx.wide
        gradient = gradient.reshape(-1, hidden)
        outer = through_dropout(gradient.to(merge.dtype), kept, 1 / (1 - ctx.p))
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
        of_rows = [each.transpose(1, 2).reshape(-1, hidden) for each in of_heads]
        rows = [torch.cat(of_rows, 1)] if ctx.groups == 1 else [of_rows[0], torch.cat(of_rows[1:], 1)]
        input_gradients = [product(rows[0], weights[0].t(), base=gradient).view_as(inputs[0])]
        input_gradients += [(row @ weight).view_as(y) for row, weight, y in zip(rows, weights, inputs)][1:]
        weight_gradients = [
            part
            for row, source in zip(rows, inputs, strict=True)
            for part in weight_gradient(row, source.reshape(-1, hidden), wide).split(hidden)
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
            weight_gradient(outer, attended.transpose(1, 2).reshape(-1, hidden), wide),
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
    """Computes ``x + dropout(merge(dropout(softmax(q kᵀ / √d + score_bias)) v))``, with heads joined before the merge.

    Args:
        x: What attends, ``(B, N, hidden)``.
        y: What is attended to, ``(B, M, hidden)``; None for ``x`` itself.
        mask: ``(B, M)``, True where a key is real.
        score_bias: What is added to the scores, ``(B, heads, N, M)``.
        layers: The layers of query, key, value and merge; all have a bias or none has.
        heads: Number of heads.
        p: Probability with which an element is dropped.
    """
    if by_hand(x):
        weights_and_biases = *(layer.weight for layer in layers), *(layer.bias for layer in layers)
        low = product_type(x)
        if x.is_cuda and score_bias is None and low != torch.float64:
            return run(_FusedAttention, x, low, y, mask, heads, p, *weights_and_biases)
        if x.device.type == "cpu":
            return run(_Attention, x, low, y, mask, score_bias, heads, p, *weights_and_biases)
    return plain_attention(x, y, mask, score_bias, layers, heads, p)


def plain_attention(
    x: Tensor,
    y: Tensor | None,
    mask: Tensor,
    score_bias: Tensor | None,
    layers: tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear],
    heads: int,
    p: float,
) -> Tensor:
    """Computes :func:`attention` in its plain form."""

    value = _split(layers[2](x if y is None else y), heads)
    weights = functional.dropout(attention_weights(x, y, mask, score_bias, layers, heads), p)
    return x + functional.dropout(layers[3]((weights @ value).transpose(1, 2).flatten(-2)), p)


def attention_weights(
    x: Tensor,
    y: Tensor | None,
    mask: Tensor,
    score_bias: Tensor | None,
    layers: tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear],
    heads: int,
) -> Tensor:
    """Computes the weights of :func:`attention`, ``softmax(q kᵀ / √d + score_bias)``, ``(B, heads, N, M)``."""
    query, key = (_split(layer(z), heads) for layer, z in zip(layers[:2], (x, x if y is None else y), strict=True))
    scores = query @ key.transpose(-2, -1) / query.size(-1) ** 0.5
    if score_bias is not None:
        scores = scores + score_bias
    return scores.masked_fill(~mask[:, None, None], MASKED).softmax(-1)


def _split(features: Tensor, heads: int) -> Tensor:
    """Splits features into heads: ``(B, N, hidden)`` to ``(B, heads, N, hidden / heads)``."""
    return features.unflatten(-1, (heads, -1)).transpose(1, 2)
