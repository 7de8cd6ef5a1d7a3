"""The space ``encoder_decoder``: that of MMnasNet (Yu et al., 2020, arXiv 2004.12070).

A chain of encoder blocks computes the question, then a chain of decoder blocks computes the image, guided by the *last*
output of the encoder. Every block is one operation with a residual and a layer norm, and makes its own choice. The
labels are ``encoder_block1`` and ``decoder_block1`` and so on. Where ``cells`` is above 1, both chains are repeated
with new weights and the same choices.

Only the operation of a block is searched. MCAN is one point of the space: it repeats self-attention and feed-forward in
the encoder, and self-attention, guided attention and feed-forward in the decoder.
"""

from typing import Literal, Self

from nni.nas.nn.pytorch import LayerChoice
from pydantic import model_validator
from torch import Tensor, nn

from model_space.contracts import Backbone, BackboneSettings, Choices, Listing
from model_space.graph import ChainGraph, Edge
from model_space.operations import (
    FeedForward,
    GuidedAttention,
    RelationalSelfAttention,
    SelfAttention,
    StdLayerNorm,
    embedded_geometry,
    geometry_embedding,
)
from model_space.sizes import Count, OperationSizes, Width

MOST = 1_000
"""The largest number of blocks in all cells."""


class EncoderDecoderSettings(BackboneSettings):
    """Parameters of the space. The defaults are those of MMnasNet."""

    name: Literal["encoder_decoder"] = "encoder_decoder"
    encoder_blocks: Count = 12
    """Number of blocks over the question."""
    decoder_blocks: Count = 18
    """Number of blocks over the image."""
    cells: Count = 1
    """How often the encoder and the decoder are repeated."""
    relation_size: Width = 64
    """Width of the embedded geometry between two regions."""

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        blocks = self.cells * (self.encoder_blocks + self.decoder_blocks)
        if blocks > MOST:
            raise ValueError(f"{blocks:,} blocks in all cells: expected {MOST:,} at most; more take minutes to build")
        return self

    def build(self, sizes: OperationSizes) -> "EncoderDecoder":
        """Returns the two chains of blocks."""
        return EncoderDecoder(self, sizes)

    def drawing(self, choices: Choices) -> ChainGraph:
        """Returns the two chains of blocks."""
        edges = []
        for block in range(1, self.encoder_blocks + 1):
            edges.append(Edge("question", block - 1, block, choices[f"encoder_block{block}"]))
        for block in range(1, self.decoder_blocks + 1):
            operation = choices[f"decoder_block{block}"]
            guide = ("question", self.encoder_blocks) if operation == "guided_attention" else None
            edges.append(Edge("image", block - 1, block, operation, guide))
        titles = {"question": "question: encoder", "image": "image: decoder"}
        note = "Each block has a residual and a norm. Relational self-attention also sees how the regions' boxes lie."
        return ChainGraph(titles, tuple(edges), note, repeats=self.cells)

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns the space."""
        return [Listing("encoder_decoder", "2004.12070", cls())]


class EncoderDecoder(Backbone):
    """The backbone of MMnasNet (arXiv 2004.12070): an encoder of the question, then a decoder of the image."""

    head_norm = StdLayerNorm

    def __init__(self, settings: EncoderDecoderSettings, sizes: OperationSizes):
        super().__init__()
        hidden, heads, dropout = sizes.hidden, sizes.heads, sizes.dropout

        # In MMnas the projections of an attention have no biases.
        def self_attention() -> SelfAttention:
            return SelfAttention(hidden, heads, dropout, norm=StdLayerNorm, bias=False)

        def relational_self_attention() -> RelationalSelfAttention:
            relation_size = settings.relation_size
            return RelationalSelfAttention(hidden, heads, dropout, relation_size, norm=StdLayerNorm, bias=False)

        def guided_attention() -> GuidedAttention:
            return GuidedAttention(hidden, heads, dropout, norm=StdLayerNorm, bias=False)

        def feed_forward() -> FeedForward:
            return FeedForward(hidden, sizes.feed_forward_size, dropout, norm=StdLayerNorm)

        def encoder_block(label: str) -> LayerChoice:
            return LayerChoice({"self_attention": self_attention(), "feed_forward": feed_forward()}, label=label)

        def decoder_block(label: str) -> LayerChoice:
            operations = {
                "self_attention": self_attention(),
                "relational_self_attention": relational_self_attention(),
                "guided_attention": guided_attention(),
                "feed_forward": feed_forward(),
            }
            return LayerChoice(operations, label=label)

        self.encoder = nn.ModuleList(
            nn.ModuleList(encoder_block(f"encoder_block{block}") for block in range(1, settings.encoder_blocks + 1))
            for _ in range(settings.cells)
        )
        self.decoder = nn.ModuleList(
            nn.ModuleList(decoder_block(f"decoder_block{block}") for block in range(1, settings.decoder_blocks + 1))
            for _ in range(settings.cells)
        )
        self.relation = geometry_embedding(settings.relation_size)
        self.relational = any(isinstance(module, RelationalSelfAttention) for module in self.modules())

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps the features of both streams to features of the same shapes.

        The geometry of the regions is computed only where a block looks at it.
        """
        relation = embedded_geometry(self.relation, boxes, image_mask) if self.relational else None
        for cell in self.encoder:
            for block in cell.children():
                question = block(question, question_mask)
        for cell in self.decoder:
            for block in cell.children():
                image = block(image, image_mask, question, question_mask, relation)
        return image, question
