"""The plain form of what this package computes in a faster way, for benchmarks and tests to compare with.

As NAS-VQA and mcan-vqa have it: every candidate of a choice is computed and multiplied by its entry of the sample;
attention, feed-forward, norms and dropout are torch's operations one after the other; Adam goes through the weights
one by one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedInput, DifferentiableMixedLayer
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.plain_recurrent import plain_recurrent
from model_space import operations
from model_space.spaces import dcn
from trainer.strategies.snas import SampledInput, SampledLayer


def attention(x, y, mask, score_bias, layers, heads: int, p: float) -> Tensor:
    source = x if y is None else y
    query, key, value = (
        layer(z).unflatten(-1, (heads, -1)).transpose(1, 2)
        for layer, z in zip(layers[:3], (x, source, source), strict=True)
    )
    scores = query @ key.transpose(-2, -1) / query.size(-1) ** 0.5
    if score_bias is not None:
        scores = scores + score_bias
    weights = functional.dropout(scores.masked_fill(~mask[:, None, None], -1e9).softmax(-1), p)
    return x + functional.dropout(layers[3]((weights @ value).transpose(1, 2).flatten(-2)), p)


def channel_dropout(x: Tensor, p: float) -> Tensor:
    return x * functional.dropout(x.new_ones(x.size(0), 1, x.size(2)), p)


def feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear, p: float, residual: bool) -> Tensor:
    output = second(functional.dropout(first(x).relu(), p))
    return x + functional.dropout(output, p) if residual else output


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return functional.linear(x, layer.weight, layer.bias)


def std_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) + bias


@contextmanager
def plain() -> Iterator[None]:
    """Inside, networks and supernets compute in the plain form."""
    with ExitStack() as stack:
        for function in (attention, channel_dropout, feed_forward, linear, std_layer_norm):
            stack.enter_context(patch.object(operations, function.__name__, function))
        stack.enter_context(patch.object(dcn, "dropout", functional.dropout))
        stack.enter_context(plain_recurrent())
        stack.enter_context(patch.object(SampledLayer, "forward", DifferentiableMixedLayer.forward))
        stack.enter_context(patch.object(SampledInput, "forward", DifferentiableMixedInput.forward))
        yield
