"""The operations of which every network here is made.

An operation maps the features ``x`` of one stream to new features of the same stream, and may be guided by the
features ``y`` of the other. All are called alike: ``operation(x, x_mask, y, y_mask)`` with ``x`` of shape
``(B, N, hidden)``, ``y`` of shape ``(B, M, hidden)`` and boolean masks ``(B, N)``, ``(B, M)`` that are True where a
position is real. They return ``(B, N, hidden)``. One more argument, ``relation``, is for relational self-attention.

Where a class has ``together``, that computes K operations of one form at once, without gradients. It takes the
operations and what they are called with, with features stacked to ``(K, B, N, hidden)`` and ``(K, B, M, hidden)``.

Sources: MCAN (Yu et al., 2019, arXiv 1906.10770, section 3.1) for self-attention, guided attention and feed-forward,
each with a residual and a layer norm; the attention itself is Vaswani et al. (2017), equations 1 and 2.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model_space.functional.attention import attention, attention_weights
from model_space.functional.batched import attentions, feed_forwards
from model_space.functional.dropout import channel_dropout
from model_space.functional.feed_forward import feed_forward
from model_space.functional.norm import std_layer_norm
from model_space.functional.products import linear

Norm = Callable[[int], nn.Module]


class StdLayerNorm(nn.Module):
    """MCAN's layer norm: it takes the unbiased standard deviation, and adds ``eps`` to it, not to the variance.

    It is not :class:`torch.nn.LayerNorm`: at 16 features the two differ by 3 %.
    """

    def __init__(self, size: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return std_layer_norm(x, self.weight, self.bias, self.eps)


def plain_norm(size: int) -> nn.Module:
    """Returns a layer norm without affine parameters, as the operations of a searched cell have it."""
    return nn.LayerNorm(size, elementwise_affine=False)


def normalised(operations: Sequence[Any], x: Tensor) -> Tensor:
    """Applies the norm of each of K operations to its row of ``(K, ..., hidden)``."""
    norm = operations[0].norm
    if isinstance(norm, nn.LayerNorm) and not norm.elementwise_affine:
        return norm(x)
    return torch.stack([operation.norm(row) for operation, row in zip(operations, x.unbind(), strict=True)])


class ChannelDropout(nn.Module):
    """Drops whole channels: one mask ``(B, 1, hidden)`` for all positions of a sequence."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return channel_dropout(x, self.p if self.training else 0.0)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention of ``x`` over ``y``, with its residual: ``x + dropout(attended)``.

    Args:
        hidden: Width of the features.
        heads: Number of heads; it divides ``hidden``.
        dropout: Probability with which an element of the attention map, and of what is attended, is dropped.
        bias: Whether the four projections have biases. MCAN's have, MMnasNet's have not.
    """

    def __init__(self, hidden: int, heads: int, dropout: float, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(hidden, hidden, bias=bias)
        self.key = nn.Linear(hidden, hidden, bias=bias)
        self.value = nn.Linear(hidden, hidden, bias=bias)
        self.merge = nn.Linear(hidden, hidden, bias=bias)

    def forward(self, x: Tensor, y: Tensor | None, mask: Tensor, score_bias: Tensor | None = None) -> Tensor:
        """Attends.

        Args:
            x: What attends, ``(B, N, hidden)``.
            y: What is attended to, ``(B, M, hidden)``; None for ``x`` itself.
            mask: The mask of what is attended to, ``(B, M)``.
            score_bias: What is added to the scaled scores before the softmax, ``(B, heads, N, M)``.
        """
        return attention(x, y, mask, score_bias, self.layers, self.heads, self.p)

    @torch.no_grad()
    def weights(self, x: Tensor, y: Tensor | None, mask: Tensor, score_bias: Tensor | None = None) -> Tensor:
        """Returns how much each position attends to each, ``(B, heads, N, M)``, of what :meth:`forward` takes."""
        return attention_weights(x, y, mask, score_bias, self.layers, self.heads)

    @torch.no_grad()
    def sharpen(self, gain: float) -> None:
        """Multiplies the weights of query and key, so that scores differ more from the start."""
        for layer in (self.query, self.key):
            layer.weight.mul_(gain)

    @property
    def layers(self) -> tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]:
        return self.query, self.key, self.value, self.merge

    @property
    def p(self) -> float:
        return self.dropout if self.training else 0.0


class Linear(nn.Linear):
    """A linear layer with a bias, computed by hand where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self)


class MLP(nn.Sequential):
    """A linear layer, ReLU, dropout, and a linear layer; with a residual it is ``x + dropout(mlp(x))``.

    Args:
        size: Width of what goes in.
        inner: Width between the layers.
        out: Width of what comes out.
        dropout: Probability with which an element is dropped.
        residual: Whether there is a residual.
    """

    def __init__(self, size: int, inner: int, out: int, dropout: float, residual: bool = False):
        super().__init__(nn.Linear(size, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, out))
        self.dropout = dropout
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return feed_forward(x, *self.layers, self.p, self.residual)

    @property
    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """The two linear layers."""
        first, _, _, second = self
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        return first, second

    @property
    def p(self) -> float:
        """Probability with which an element is dropped now."""
        return self.dropout if self.training else 0.0


class _AttentionResidual(nn.Module):
    """An attention with its residual and norm, ``norm(x + dropout(attention))``.

    A channel dropout comes first: the residual is of the dropped ``x``.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        dropout: float,
        channel_dropout: float = 0.0,
        norm: Norm = plain_norm,
        bias: bool = True,
    ):
        super().__init__()
        self.norm = norm(hidden)
        self.channel_dropout = ChannelDropout(channel_dropout)
        self.attention = Attention(hidden, heads, dropout, bias)


def attended_together(operations: Sequence[_AttentionResidual], x: Tensor, y: Tensor | None, mask: Tensor) -> Tensor:
    """Computes K attentions with their norms at once.

    Args:
        operations: The attentions.
        x: What attends in each, ``(K, B, N, hidden)``.
        y: What is attended to in each, ``(K, B, M, hidden)``; None for ``x`` itself.
        mask: The mask of what is attended to, ``(B, M)``.
    """
    drop, attention = operations[0].channel_dropout, operations[0].attention
    layers = [operation.attention.layers for operation in operations]
    y = None if y is None else drop(y)
    return normalised(operations, attentions(drop(x), y, mask, layers, attention.heads, attention.p))


class SelfAttention(_AttentionResidual):
    """SA: every position of ``x`` attends to all real positions of ``x``."""

    def forward(self, x: Tensor, x_mask: Tensor, *unused: Tensor) -> Tensor:
        x = self.channel_dropout(x)
        return self.norm(self.attention(x, None, x_mask))

    @staticmethod
    def together(operations: "Sequence[SelfAttention]", x: Tensor, x_mask: Tensor, *unused: Tensor) -> Tensor:
        return attended_together(operations, x, None, x_mask)


def relative_geometry(boxes: Tensor) -> Tensor:
    """Returns how each region lies to each other, ``(B, N, N, 4)``, as MMnasNet has it.

    For region m and region n that is log(abs(x_m - x_n) / w_m), log(abs(y_m - y_n) / h_m), log(w_m / w_n) and
    log(h_m / h_n). Here x, y are the centres and w, h the sizes, with both border pixels counted. A distance is at
    least 1e-3 of the size.

    Args:
        boxes: Corners x1, y1, x2, y2 of the regions in pixels, ``(B, N, 4)``.
    """
    first, last = boxes.chunk(2, dim=-1)
    centre, size = (first + last) / 2, last - first + 1
    distance = (centre.unsqueeze(2) - centre.unsqueeze(1)).abs() / size.unsqueeze(2)
    ratio = size.unsqueeze(2) / size.unsqueeze(1)
    return torch.cat([distance.clamp(min=1e-3), ratio], dim=-1).log()


def geometry_embedding(size: int) -> nn.Module:
    """Returns the layer that embeds :func:`relative_geometry`, which all relational self-attentions share."""
    return nn.Sequential(nn.Linear(4, size), nn.ReLU())


def embedded_geometry(embedding: nn.Module, boxes: Tensor, mask: Tensor) -> Tensor:
    """Returns the embedded geometry of the regions, ``(B, N, N, size)``, whatever the boxes of padded regions hold."""
    return embedding(relative_geometry(boxes.masked_fill(~mask.unsqueeze(-1), 0.0)))


NEAR, FAR = 3.0, 0.15
"""What a head that begins local maps two regions to that touch, and two that are far from each other."""


class RelationalSelfAttention(_AttentionResidual):
    """RSA: self-attention with the regions' geometry in its scores (MMnasNet, arXiv 2004.12070).

    ``relation``, ``(B, N, N, relation_size)``, is :func:`embedded_geometry`. Each head adds the logarithm of a
    linear map of it, which is held above 1e-6.
    """

    def __init__(self, hidden: int, heads: int, dropout: float, relation_size: int, **options: Any):
        super().__init__(hidden, heads, dropout, **options)
        self.relation = nn.Linear(relation_size, heads)

    @torch.no_grad()
    def begin_local(self, embedding: nn.Module) -> None:
        """Lets every head begin with the regions near each, and not with itself; each head looks twice as far as the
        one before it, the first one 1.5 sizes of a region. ``embedding`` is that of the geometry.

        So do the heads of ALiBi (Press et al., 2021, arXiv 2108.12409) begin, and local as those of ConViT (d'Ascoli et
        al., 2021, arXiv 2103.10697). The map of the geometry becomes the least-squares fit of that on boxes at random.
        """
        if self.relation.weight.is_meta:
            return
        weight = self.relation.weight
        generator = torch.Generator().manual_seed(0)  # its own: all else begins as it would have begun
        with torch.device("cpu"):
            centre = torch.rand(64, 6, 2, generator=generator) * torch.tensor([8.0, 6.0])  # in sizes of a region
            half = 0.35 + 0.3 * torch.rand(64, 6, 2, generator=generator)
            boxes = 100 * torch.cat([centre - half, centre + half], -1)  # in pixels, of which a side has one more
            distance = (centre.unsqueeze(2) - centre.unsqueeze(1)).norm(dim=-1).flatten()
            sight = 1.5 * 2.0 ** torch.arange(len(weight))
            wanted = FAR + NEAR * (-distance.unsqueeze(1) / sight).exp() * (distance > 0).unsqueeze(1)
            # In float64, and rounded: the last digits of a fit depend on where its factors lie in the memory.
            embedding = copy.deepcopy(embedding).to("cpu", torch.float64)
            embedded = embedding(relative_geometry(boxes.double())).flatten(0, 2)
            factors = torch.cat([embedded, torch.ones(len(embedded), 1)], 1)
            fit = torch.linalg.lstsq(factors, wanted.double()).solution.round(decimals=4)
        weight.copy_(fit[:-1].t())
        self.relation.bias.copy_(fit[-1])

    def forward(self, x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor, relation: Tensor) -> Tensor:
        x = self.channel_dropout(x)
        # MMnas has a ReLU before the bound, which the bound makes needless.
        score_bias = self.relation(relation).clamp(min=1e-6).log().permute(0, 3, 1, 2)
        return self.norm(self.attention(x, None, x_mask, score_bias))


class GuidedAttention(_AttentionResidual):
    """GA: every position of ``x`` attends to all real positions of the other stream ``y``."""

    def forward(self, x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor, *unused: Tensor) -> Tensor:
        x, y = self.channel_dropout(x), self.channel_dropout(y)
        return self.norm(self.attention(x, y, y_mask))

    @staticmethod
    def together(
        operations: "Sequence[GuidedAttention]", x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor, *unused: Tensor
    ) -> Tensor:
        return attended_together(operations, x, y, y_mask)


class FeedForward(nn.Module):
    """FF: ``norm(x + dropout(mlp(x)))``, the same MLP at every position, after a channel dropout of ``x``.

    Args:
        hidden: Width of the features.
        feed_forward_size: Inner width of the MLP.
        dropout: Probability with which an element is dropped, inside the MLP and of its output.
        channel_dropout: Probability with which a whole channel of ``x`` is dropped.
        norm: Makes the norm from a width.
    """

    def __init__(
        self, hidden: int, feed_forward_size: int, dropout: float, channel_dropout: float = 0.0, norm: Norm = plain_norm
    ):
        super().__init__()
        self.norm = norm(hidden)
        self.channel_dropout = ChannelDropout(channel_dropout)
        self.mlp = MLP(hidden, feed_forward_size, hidden, dropout, residual=True)

    def forward(self, x: Tensor, *unused: Tensor) -> Tensor:
        return self.norm(self.mlp(self.channel_dropout(x)))

    @staticmethod
    def together(operations: "Sequence[FeedForward]", x: Tensor, *unused: Tensor) -> Tensor:
        first, second = zip(*(operation.mlp.layers for operation in operations), strict=True)
        x = operations[0].channel_dropout(x)
        return normalised(operations, feed_forwards(x, first, second, operations[0].mlp.p))


class Identity(nn.Module):
    """Passes ``x`` on as it is."""

    def forward(self, x: Tensor, *unused: Tensor) -> Tensor:
        return x


class Zero(nn.Module):
    """``none``: passes nothing on."""

    def forward(self, x: Tensor, *unused: Tensor) -> Tensor:
        return torch.zeros_like(x)
