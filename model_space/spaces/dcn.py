"""The fixed network ``dcn``: the dense co-attention network (Nguyen and Okatani, 2018, arXiv 1804.00775).

In a dense co-attention layer every region attends to all words and every word to all regions. Both directions use one
affinity matrix. There are several attention maps in parallel, and their average is taken. Beside the regions and the
words there are learned memory slots: a position attends to them where no real position fits. The attended features are
fused with the features of the position. The layer is equal to ``DCNLayer`` of the authors' code,
https://github.com/cvlab-tohoku/Dense-CoAttention-Network.

Nothing in it is searched, so its architecture file has no choices::

    {"format": 2, "space": {"backbone": {"name": "dcn", "layers": 5, "memory_slots": 3}, ...}, "choices": {}, ...}
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from model_space.contracts import Backbone, BackboneSettings, Choices, Listing
from model_space.functional.dropout import dropout
from model_space.graph import ChainGraph, joint_edges
from model_space.sizes import Count, OperationSizes

CO_ATTENTION = (
    "Dense co-attention: each region attends to all words, each word to all regions, and both to memory slots; what a "
    "position attends to is fused with what it was, with a residual."
)


class DCNSettings(BackboneSettings):
    """Parameters of DCN, a fixed network.

    The defaults are those of the authors' code, which has 4 heads and a dropout of 0.3.
    """

    name: Literal["dcn"] = "dcn"
    layers: Count = 5
    """Number of dense co-attention layers."""
    memory_slots: int = Field(3, ge=0, le=1_000)
    """Number of learned positions beside those of each stream, for positions that have nowhere to attend."""

    def build(self, sizes: OperationSizes) -> "DCN":
        """Returns the stack of layers."""
        return DCN(self, sizes)

    def drawing(self, choices: Choices) -> ChainGraph:
        """Returns the chain of layers, each of both streams."""
        edges = [edge for layer in range(1, self.layers + 1) for edge in joint_edges(layer, "dense_co_attention")]
        return ChainGraph({"question": "question", "image": "image"}, tuple(edges), CO_ATTENTION, fixed=True)

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns the network of the paper."""
        return [Listing("dcn", "1804.00775", cls())]


class DenseCoAttention(nn.Module):
    """Dense co-attention: each stream attends to the other.

    It differs from two :class:`~model_space.operations.Attention` in three ways: both directions share one affinity
    matrix, a map weighs the features and not a projection of them, and the maps of all heads are averaged.

    Args:
        hidden: Width of the features.
        heads: Number of attention maps. It divides ``hidden``.
        memory_slots: Number of learned positions beside those of each stream.
    """

    def __init__(self, hidden: int, heads: int, memory_slots: int):
        super().__init__()
        self.heads = heads
        self.memory_slots = memory_slots
        self.image_projection = nn.Linear(hidden, hidden, bias=False)
        self.question_projection = nn.Linear(hidden, hidden, bias=False)
        self.image_memory = nn.Parameter(nn.init.xavier_uniform_(torch.empty(memory_slots, hidden)))
        self.question_memory = nn.Parameter(nn.init.xavier_uniform_(torch.empty(memory_slots, hidden)))

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attends in both directions.

        Args:
            image: Features of the regions, ``(B, N, hidden)``.
            image_mask: True where a region is real, ``(B, N)``.
            question: Features of the words, ``(B, T, hidden)``.
            question_mask: True where a word is real, ``(B, T)``.

        Returns:
            The features of the question to which each region attends, ``(B, N, hidden)``, and the features of the
            image to which each word attends, ``(B, T, hidden)``.
        """

        def split(features: Tensor) -> Tensor:  # (B, N, hidden) -> (B, heads, N, hidden / heads)
            return features.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        def with_memory(x: Tensor, mask: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
            slots = memory.expand(x.size(0), -1, -1)
            return torch.cat([slots, x], dim=1), functional.pad(mask, (self.memory_slots, 0), value=True)

        image, image_mask = with_memory(image, image_mask, self.image_memory)
        question, question_mask = with_memory(question, question_mask, self.question_memory)
        regions, words = split(self.image_projection(image)), split(self.question_projection(question))
        affinity = regions @ words.transpose(-2, -1) / regions.size(-1) ** 0.5  # (B, heads, slots + N, slots + T)

        # Averaging the maps before they weigh the features takes one product instead of one for each head.
        over_image = affinity.masked_fill(~image_mask[:, None, :, None], -1e9).softmax(dim=-2).mean(dim=1)
        over_question = affinity.masked_fill(~question_mask[:, None, None, :], -1e9).softmax(dim=-1).mean(dim=1)
        attended_image = over_image.transpose(-2, -1)[:, self.memory_slots :] @ image
        attended_question = over_question[:, self.memory_slots :] @ question
        return attended_question, attended_image


class DenseCoAttentionLayer(nn.Module):
    """CoA: dense co-attention, then ``x + dropout(relu(linear([x, attended])))`` in each stream, without a norm."""

    def __init__(self, sizes: OperationSizes, memory_slots: int):
        super().__init__()
        hidden = sizes.hidden
        self.attention = DenseCoAttention(hidden, sizes.heads, memory_slots)
        self.fuse_image = nn.Linear(2 * hidden, hidden)
        self.fuse_question = nn.Linear(2 * hidden, hidden)
        self.dropout = sizes.dropout

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps the features of both streams to features of the same shapes."""
        attended_question, attended_image = self.attention(image, image_mask, question, question_mask)

        def fused(x: Tensor, attended: Tensor, linear: nn.Linear) -> Tensor:
            change = linear(torch.cat([x, attended], dim=-1)).relu()
            return x + dropout(change, self.dropout if self.training else 0.0)

        return fused(image, attended_question, self.fuse_image), fused(question, attended_image, self.fuse_question)


class DCN(Backbone):
    """DCN (Nguyen and Okatani, 2018, arXiv 1804.00775): a stack of dense co-attention layers.

    The head after it is that of all networks here, with the layer norm of torch. It replaces the prediction layer of
    DCN, which also summarises each stream by attention, but joins the two summaries where this head sums them.
    """

    head_norm = nn.LayerNorm

    def __init__(self, settings: DCNSettings, sizes: OperationSizes):
        super().__init__()
        self.layers = nn.ModuleList(DenseCoAttentionLayer(sizes, settings.memory_slots) for _ in range(settings.layers))

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps the features of both streams to features of the same shapes. It does not look at the boxes."""
        for layer in self.layers:
            image, question = layer(image, image_mask, question, question_mask)
        return image, question
