"""MCAN's layer norm, which divides by the unbiased standard deviation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model_space.functional.by_hand import by_hand, run

aten = torch.ops.aten


class _StdLayerNorm(torch.autograd.Function):
    """By torch's layer norm, whose fused kernels take any mean and factor of a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        size = x.size(-1)
        y, mean, reciprocal = torch.native_layer_norm(x, [size], None, None, 1e-30)
        std = (size / (size - 1)) ** 0.5 / reciprocal
        factor = 1 / (std + eps)
        if ctx:
            ctx.save_for_backward(x, mean, std, factor, weight, bias)
        return torch.addcmul(bias, y.mul_(factor / reciprocal), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
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
    """Computes ``weight (x - mean) / (std + eps) + bias``, with the unbiased standard deviation of the last dimension.

    Args:
        x: Features, ``(..., size)``.
        weight: Scale of each feature, ``(size,)``.
        bias: What is added to each feature, ``(size,)``.
        eps: What is added to the standard deviation.
    """
    if by_hand(x):
        return run(_StdLayerNorm, x.to(weight.dtype), weight, bias, eps)
    return plain_std_layer_norm(x, weight, bias, eps)


def plain_std_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Computes :func:`std_layer_norm` in its plain form."""
    return weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) + bias
