"""Matrix products, and the linear layer that is one."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model_space.functional.by_hand import by_hand, product_type, run


def _vendor() -> str:
    """Returns who made the CPU, as it says itself (``GenuineIntel``), and nothing where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


PROCESSOR = f"{torch.backends.cpu.get_cpu_capability()} {_vendor()}".strip()
"""The kind of CPU: with what torch computes on it, and who made it."""


def onednn_from(processor: str) -> float:
    """Returns the number of multiplications from which oneDNN takes a product of float32 sooner than torch's own way.

    That is MKL, which on AMD's CPUs does without AVX-512 and takes twice as long. On Intel's, and without AVX-512, MKL
    is the quicker one, most of all for the gradients of weights, whose factors oneDNN has to transpose.

    >>> onednn_from("AVX512 AuthenticAMD"), onednn_from("AVX512 GenuineIntel"), onednn_from("AVX2 AuthenticAMD")
    (1048576, inf, inf)
    """
    return 2**20 if processor.startswith("AVX512") and "Intel" not in processor else math.inf


ONEDNN_FROM = onednn_from(PROCESSOR) if torch.backends.mkldnn.is_available() else math.inf
"""Number of multiplications from which a product of float32 on a CPU is left to oneDNN."""


def joined(low: torch.dtype, *groups: Sequence[Tensor]) -> list[Tensor]:
    """Returns, for each group of tensors of one shape, these one below the other, in the type ``low``.

    Where they are of another type, all are copied at once.
    """
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


def product(
    left: Tensor, right: Tensor, bias: Tensor | None = None, base: Tensor | None = None, scale: float = 1.0
) -> Tensor:
    """Computes ``scale * left rightᵀ``, and adds a bias or a base.

    Args:
        left: ``(rows, in)``.
        right: ``(out, in)``, as the weight of a linear layer.
        bias: ``(out,)``.
        base: ``(rows, out)``, which may be of a wider type.
        scale: Factor of the product.
    """
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


def weight_gradient(of_output: Tensor, entered: Tensor, weight_type: torch.dtype) -> Tensor:
    """Returns the gradient of a weight, ``(out, in)``, in its type.

    Args:
        of_output: Gradient of the output, ``(rows, out)``.
        entered: What was multiplied with the weight, ``(rows, in)``.
        weight_type: Type of the weight.
    """
    if of_output.dtype == weight_type or not of_output.is_cuda:
        return product(of_output.t(), entered.t()).to(weight_type)
    return torch.mm(of_output.t(), entered, out_dtype=weight_type)


def plus_residual(x: Tensor, output: Tensor, scale: float) -> Tensor:
    """Computes ``x + scale * output``, in the memory of the output where the types allow it."""
    return torch.add(x, output, alpha=scale, out=output if x.dtype == output.dtype else None)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: torch.dtype, weight: Tensor, bias: Tensor) -> Tensor:
        rows, wide = x.reshape(-1, x.size(-1)).to(low), weight.dtype
        weight, bias = weight.to(low), bias.to(low)
        if ctx:
            ctx.wide = wide
            ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_output = gradient.reshape(-1, gradient.size(-1))
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = product(of_output, weight.t()).view(*gradient.shape[:-1], -1)
        return x_gradient, None, weight_gradient(of_output, rows, ctx.wide), of_output.sum(0, dtype=ctx.wide)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Applies a linear layer that has a bias to ``(..., in)``. Its plain form is torch's."""
    if x.device.type == "cpu" and by_hand(x):
        return run(_Linear, x, product_type(x), layer.weight, layer.bias)
    return functional.linear(x, layer.weight, layer.bias)
