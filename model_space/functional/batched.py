"""Several operations of one form at once, without gradients: what a supernet computes of candidates not chosen."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_space.functional.attention import padding_of
from model_space.functional.by_hand import product_type, without_autocast
from model_space.functional.dropout import drop_out
from model_space.functional.products import joined, plus_residual


def _stacked(tensors: Iterable[Tensor], low: torch.dtype) -> Tensor:
    tensors = tuple(tensors)
    return joined(low, tensors)[0].view(-1, *tensors[0].shape)


@torch.no_grad()
def feed_forwards(x: Tensor, first: Sequence[nn.Linear], second: Sequence[nn.Linear], p: float) -> Tensor:
    """Computes K feed-forwards with a residual at once, in fewer and larger products than one by one.

    Args:
        x: The input of each, ``(K, B, N, hidden)``.
        first: The first layer of each.
        second: The second layer of each.
        p: Probability with which an element is dropped.
    """
    low, operations = product_type(x), len(x)
    with without_autocast(x.device.type):
        weight1, weight2 = (_stacked((layer.weight for layer in layers), low) for layers in (first, second))
        bias1, bias2 = (_stacked((layer.bias for layer in layers), low).unsqueeze(1) for layers in (first, second))
        inner = torch.baddbmm(bias1, x.flatten(1, 2).to(low), weight1.mT).relu_()
        inner, _, scale = drop_out(inner, p, operations)
        output, _, scale = drop_out(torch.baddbmm(bias2, inner, weight2.mT, alpha=scale), p, operations)
        return plus_residual(x, output.view_as(x), scale)


@torch.no_grad()
def attentions(
    x: Tensor,
    y: Tensor | None,
    mask: Tensor,
    layers: Sequence[tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]],
    heads: int,
    p: float,
) -> Tensor:
    """Computes K attentions at once, in fewer and larger products than one by one.

    Args:
        x: What attends in each, ``(K, B, N, hidden)``.
        y: What is attended to in each, ``(K, B, M, hidden)``; None for ``x`` itself.
        mask: ``(B, M)``, of all alike, True where a key is real.
        layers: The layers of query, key, value and merge of each; all have a bias or none has.
        heads: Number of heads.
        p: Probability with which an element is dropped.
    """
    low = product_type(x)
    operations, batch, positions, hidden = x.shape

    def product(rows: Tensor, layers: Iterable[tuple[nn.Linear, ...]], alpha: float = 1.0) -> Tensor:
        """Multiplies ``(K, B, N, hidden)`` by the layers of each of the K operations, side by side."""
        layers = [tuple(each) for each in layers]
        weight = _stacked((layer.weight for each in layers for layer in each), low).view(operations, -1, hidden)
        rows = rows.flatten(1, 2).to(low)
        if layers[0][0].bias is None:
            return torch.baddbmm(rows.new_empty(1, 1, 1), rows, weight.mT, beta=0, alpha=alpha)  # type: ignore[unreachable]
        bias = _stacked((layer.bias for each in layers for layer in each), low).view(operations, 1, -1)
        return torch.baddbmm(bias, rows, weight.mT, alpha=alpha)

    def of_heads(projected: Tensor) -> Tensor:
        """Maps ``(K, B N, P hidden)`` to ``(P, K B heads, N, hidden / heads)``."""
        split = projected.view(operations * batch, -1, projected.size(-1) // hidden, heads, hidden // heads)
        return split.permute(2, 0, 3, 1, 4).flatten(1, 2)

    with without_autocast(x.device.type):
        if y is None:
            query, key, value = of_heads(product(x, (each[:3] for each in layers))).unbind()
        else:
            (query,) = of_heads(product(x, (each[:1] for each in layers))).unbind()
            key, value = of_heads(product(y, (each[1:3] for each in layers))).unbind()
        padding = padding_of(mask, low, 16)
        if x.is_cuda:
            assert padding is not None  # on a GPU there always is one
            of_operations = padding.repeat(operations, 1, 1, 1).expand(-1, heads, positions, -1)
            query, key, value = (part.unflatten(0, (operations * batch, heads)) for part in (query, key, value))
            attended = functional.scaled_dot_product_attention(query, key, value, of_operations, p)
            map_scale = 1.0
        else:
            scores = torch.baddbmm(query.new_empty(1, 1, 1), query, key.mT, beta=0, alpha=query.size(-1) ** -0.5)
            if padding is not None:
                scores.view(operations, batch, heads, positions, -1).add_(padding)
            attention, _, map_scale = drop_out(torch.softmax(scores, -1, out=scores), p, operations)
            attended = torch.bmm(attention, value).unflatten(0, (operations * batch, heads))
        output = product(attended.transpose(1, 2).reshape(x.shape), (each[3:] for each in layers), alpha=map_scale)
        output, _, scale = drop_out(output, p, operations)
        return plus_residual(x, output.view_as(x), scale)
