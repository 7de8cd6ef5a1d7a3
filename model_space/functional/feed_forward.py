"""The feed-forward: two linear layers with a ReLU between (Vaswani et al., 2017, arXiv 1706.03762, equation 2)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model_space.functional.by_hand import by_hand, product_type, run
from model_space.functional.dropout import drop_out, through_dropout
from model_space.functional.products import joined, plus_residual, product, weight_gradient

aten = torch.ops.aten


class _FeedForward(torch.autograd.Function):
    """One hidden layer; where the dropout of the output has a residual, that is added."""

    @staticmethod
    def forward(
        ctx: Any,
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
        weight1, bias1, weight2, bias2 = joined(low, (weight1,), (bias1,), (weight2,), (bias2,))
        inner, _, inner_scale = drop_out(product(rows, weight1, bias1).relu_(), p)
        output = product(inner, weight2, bias2, scale=inner_scale)
        places: list[Tensor] = []
        if residual:
            output, places, output_scale = drop_out(output, p)
            output = plus_residual(x_rows, output, output_scale)
        if ctx:
            ctx.scale, ctx.inner_scale, ctx.residual, ctx.wide = scale, inner_scale, residual, wide
            # No mask of the inner dropout: an element that is zero was dropped or cut off by the ReLU, and has no
            # gradient either way.
            ctx.save_for_backward(rows, inner, weight1, weight2, *places)
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, inner, weight1, weight2, *places = ctx.saved_tensors
        shape = gradient.shape
        gradient = gradient.reshape(-1, shape[-1])
        outer = through_dropout(gradient.to(rows.dtype), places, ctx.scale)
        scaled = outer * ctx.inner_scale if ctx.inner_scale != 1 else outer  # where `inner` is not yet scaled
        if ctx.inner_scale == ctx.scale:
            inner_gradient = product(scaled, weight2.t())
        else:
            inner_gradient = product(outer, weight2.t(), scale=ctx.scale)
        aten.threshold_backward.grad_input(inner_gradient, inner, 0, grad_input=inner_gradient)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            if ctx.residual:
                x_gradient = product(inner_gradient, weight1.t(), base=gradient).view(*shape[:-1], -1)
            else:
                x_gradient = product(inner_gradient, weight1.t()).view(*shape[:-1], -1)
        return (
            x_gradient,
            None,
            weight_gradient(inner_gradient, rows, ctx.wide),
            inner_gradient.sum(0, dtype=ctx.wide),
            weight_gradient(scaled, inner, ctx.wide),
            outer.sum(0, dtype=ctx.wide),
            None,
            None,
        )


def feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear, p: float, residual: bool) -> Tensor:
    """Computes ``f(x) = second(dropout(relu(first(x))))`` or, with a residual, ``x + dropout(f(x))``.

    Args:
        x: Features, ``(..., in)``.
        first: Layer from ``in`` to the inner width.
        second: Layer from the inner width to the width of the output, which is ``in`` with a residual.
        p: Probability with which an element is dropped.
        residual: Whether ``x`` is added.
    """
    if by_hand(x):
        weights = first.weight, first.bias, second.weight, second.bias
        return run(_FeedForward, x, product_type(x), *weights, p, residual)
    return plain_feed_forward(x, first, second, p, residual)


def plain_feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear, p: float, residual: bool) -> Tensor:
    """Computes :func:`feed_forward` in its plain form."""
    output = second(functional.dropout(first(x).relu(), p))
    return x + functional.dropout(output, p) if residual else output
