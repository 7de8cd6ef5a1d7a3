"""The space ``encoder_decoder``: MMnasNet (Yu et al., 2020, arXiv 2004.12070).

A chain of encoder blocks over the question, then a chain of decoder blocks over the image, which the *last* output of
the encoder guides. Every block is one operation with a residual and a layer norm around it, and its own choice: labels
``encoder_block1`` and ``decoder_block1`` and so on. With ``cells`` above 1 both chains are repeated with weights of
their own and the same choices.

Nothing in a block but its operation is searched. MCAN is the point of the space that repeats self-attention and
feed-forward in the encoder, self-attention, guided attention and feed-forward in the decoder.
"""

from typing import Literal

from nni.nas.nn.pytorch import LayerChoice
from pydantic import Field
from torch import Tensor, nn

from model_space.contracts import Backbone, BackboneSettings, Choices, Listing
from model_space.graph import ChainGraph, Edge
from model_space.operations import (
    FeedForward,
    GuidedAttention,
    RelationalSelfAttention,
    SelfAttention,
    StdLayerNorm,
    relative_geometry,
)
from model_space.sizes import OperationSizes


class EncoderDecoderSettings(BackboneSettings):
    """Parameters of the space. The defaults are those of MMnasNet."""

    name: Literal["encoder_decoder"] = "encoder_decoder"
    encoder_blocks: int = Field(12, ge=1)
    """Number of blocks over the question."""
    decoder_blocks: int = Field(18, ge=1)
    """Number of blocks over the image."""
    cells: int = Field(1, ge=1)
    """How often the encoder and the decoder are repeated."""
    relation_size: int = Field(64, ge=1)
    """Width of the embedded geometry between two regions."""

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
    """The backbone. Where no block looks at the regions' geometry, neither is it computed."""

    head_norm = StdLayerNorm

    def __init__(self, settings: EncoderDecoderSettings, sizes: OperationSizes):
        super().__init__()
        # MMnas's attention has no biases, but for the one of the relation.
        attention = {"hidden": sizes.hidden, "heads": sizes.heads, "dropout": sizes.dropout, "bias": False}

        def self_attention() -> SelfAttention:
            return SelfAttention(**attention, norm=StdLayerNorm)

        def feed_forward() -> FeedForward:
            return FeedForward(sizes.hidden, sizes.feed_forward_size, sizes.dropout, norm=StdLayerNorm)

        def encoder_block(label: str) -> LayerChoice:
            return LayerChoice({"self_attention": self_attention(), "feed_forward": feed_forward()}, label=label)

        def decoder_block(label: str) -> LayerChoice:
            relational = {"relation_size": settings.relation_size, "norm": StdLayerNorm}
            return LayerChoice(
                {
                    "self_attention": self_attention(),
                    "relational_self_attention": RelationalSelfAttention(**attention, **relational),
                    "guided_attention": GuidedAttention(**attention, norm=StdLayerNorm),
                    "feed_forward": feed_forward(),
                },
                label=label,
            )

        self.encoder = nn.ModuleList(
            nn.ModuleList(encoder_block(f"encoder_block{block}") for block in range(1, settings.encoder_blocks + 1))
            for _ in range(settings.cells)
        )
        self.decoder = nn.ModuleList(
            nn.ModuleList(decoder_block(f"decoder_block{block}") for block in range(1, settings.decoder_blocks + 1))
            for _ in range(settings.cells)
        )
        self.relation = nn.Sequential(nn.Linear(4, settings.relation_size), nn.ReLU())
        self.relational = any(isinstance(module, RelationalSelfAttention) for module in self.modules())

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps ``(B, N, hidden)`` and ``(B, T, hidden)`` to features of the same shapes."""
        relation = None
        if self.relational:
            # A padded region's box may hold anything, also what has no logarithm.
            boxes = boxes.masked_fill(~image_mask.unsqueeze(-1), 0.0)
            relation = self.relation(relative_geometry(boxes))
        for cell in self.encoder:
            for block in cell:
                question = block(question, question_mask)
        for cell in self.decoder:
            for block in cell:
                image = block(image, image_mask, question, question_mask, relation)
        return image, question
