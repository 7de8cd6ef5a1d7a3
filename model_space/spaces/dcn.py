"""DCN, the dense co-attention network (Nguyen and Okatani, 2018, arXiv 1804.00775), as a fixed backbone.

In a dense co-attention layer every region attends to every word and every word to every region, both by one affinity
matrix; there are several such maps in parallel, whose average is taken. Learned memory slots beside the regions and
the words are where a position attends to that has nowhere to attend. What it attends to is fused with what it was.
Equal to ``DCNLayer`` of the authors' code, https://github.com/cvlab-tohoku/Dense-CoAttention-Network.

Nothing in it is searched, so its architecture file names the space and has no choices::

    {"format": 1, "space": {"name": "dcn", "layers": 5, "memory_slots": 3, ...}, "choices": {}}
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from model_space.contracts import Backbone, BackboneSettings, Choices, Listing
from model_space.functional import dropout
from model_space.graph import ChainGraph, joint_edges
from model_space.sizes import OperationSizes

CO_ATTENTION = (
    "Dense co-attention: each region attends to all words, each word to all regions, and both to memory slots; what a "
    "position attends to is fused with what it was, with a residual."
)


class DCNSettings(BackboneSettings):
    """Parameters of DCN, a fixed network.

    The defaults are those of the authors' code, which has 4 heads and a dropout of 0.3.
    """

    name: Literal["dcn"] = "dcn"
    layers: int = Field(5, ge=1)
    """Number of dense co-attention layers."""
    memory_slots: int = Field(3, ge=0)
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
    """What each stream attends to in the other.

    Not two of :class:`~model_space.operations.Attention`: both directions share one affinity, a map weighs the
    features themselves rather than a projection of them, and the maps of all heads are averaged, not joined.

    Args:
        hidden: width of the features; ``heads`` divides it.
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
        """Attends both ways.

        Args:
            image: ``(B, N, hidden)``, with its mask ``(B, N)``.
            question: ``(B, T, hidden)``, with its mask ``(B, T)``.

        Returns:
            What each region attends to in the question, ``(B, N, hidden)``, and each word in the image,
            ``(B, T, hidden)``.
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

        # The maps are averaged before they weigh the features: that is one product instead of one a head.
        over_image = affinity.masked_fill(~image_mask[:, None, :, None], -1e9).softmax(dim=-2).mean(dim=1)
        over_question = affinity.masked_fill(~question_mask[:, None, None, :], -1e9).softmax(dim=-1).mean(dim=1)
        attended_image = over_image.transpose(-2, -1)[:, self.memory_slots :] @ image
        attended_question = over_question[:, self.memory_slots :] @ question
        return attended_question, attended_image


class DenseCoAttentionLayer(nn.Module):
    """CoA: dense co-attention, then ``x + dropout(relu(linear([x, attended])))`` in each stream; no norm."""

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
        """Maps ``(B, N, hidden)`` and ``(B, T, hidden)`` to features of the same shapes."""
        attended_question, attended_image = self.attention(image, image_mask, question, question_mask)

        def fused(x: Tensor, attended: Tensor, linear: nn.Linear) -> Tensor:
            change = linear(torch.cat([x, attended], dim=-1)).relu()
            return x + dropout(change, self.dropout if self.training else 0.0)

        return fused(image, attended_question, self.fuse_image), fused(question, attended_image, self.fuse_question)


class DCN(Backbone):
    """A stack of dense co-attention layers.

    The head after it is that of every network here, with torch's layer norm. It stands in place of DCN's prediction
    layer, which summarises each stream by attention too, and joins the two where ours sums them.
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
