"""The fixed network ``mcan``: the deep modular co-attention network (Yu et al., 2019, arXiv 1906.10770)."""

from typing import Literal

from torch import Tensor, nn

from model_space.contracts import Backbone, BackboneSettings, Choices, Listing
from model_space.graph import ChainGraph, Edge
from model_space.operations import FeedForward, GuidedAttention, SelfAttention, StdLayerNorm
from model_space.sizes import Count, NetworkSettings, OperationSizes

UNITS = (
    "SA: self-attention, feed-forward. "
    "SGA: self-attention, guided attention, feed-forward. Each with a residual and a norm."
)
"""The units of MCAN, for the note below a drawing."""


class MCANSettings(BackboneSettings):
    """Parameters of MCAN, a fixed network. The defaults are those of MCAN small."""

    name: Literal["mcan"] = "mcan"
    form: Literal["encoder_decoder", "stacking"] = "encoder_decoder"
    """``encoder_decoder``: the last layer of the question guides the image. ``stacking``: the layer of the same depth
    does."""
    layers: Count = 6
    """Number of units of each stream."""

    def build(self, sizes: OperationSizes) -> "MCAN":
        """Returns the encoder and the decoder."""
        return MCAN(self, sizes)

    def drawing(self, choices: Choices) -> ChainGraph:
        """Returns the two chains of units."""
        edges = []
        for layer in range(1, self.layers + 1):
            guide = "question", layer if self.form == "stacking" else self.layers
            edges.append(Edge("question", layer - 1, layer, "SA"))
            edges.append(Edge("image", layer - 1, layer, "SGA", guide))
        return ChainGraph({"question": "question", "image": "image"}, tuple(edges), UNITS, fixed=True)

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns the sizes of the paper and its two forms."""
        large = NetworkSettings(hidden=1024, flat_out_size=2048)
        return [
            Listing("mcan small", "1906.10770", cls()),
            Listing("mcan small, stacking", "1906.10770", cls(form="stacking")),
            Listing("mcan large", "1906.10770", cls(), network=large),
        ]


class Encoder(nn.Module):
    """The SA unit of the paper: self-attention, then feed-forward."""

    def __init__(self, sizes: OperationSizes):
        super().__init__()
        hidden, heads, dropout = sizes.hidden, sizes.heads, sizes.dropout
        self.self_attention = SelfAttention(hidden, heads, dropout, norm=StdLayerNorm)
        self.feed_forward = FeedForward(hidden, sizes.feed_forward_size, dropout, norm=StdLayerNorm)

    def forward(self, x: Tensor, x_mask: Tensor, *unused: Tensor) -> Tensor:
        return self.feed_forward(self.self_attention(x, x_mask))


class Decoder(nn.Module):
    """The SGA unit of the paper: self-attention, guided attention, then feed-forward."""

    def __init__(self, sizes: OperationSizes):
        super().__init__()
        hidden, heads, dropout = sizes.hidden, sizes.heads, sizes.dropout
        self.self_attention = SelfAttention(hidden, heads, dropout, norm=StdLayerNorm)
        self.guided_attention = GuidedAttention(hidden, heads, dropout, norm=StdLayerNorm)
        self.feed_forward = FeedForward(hidden, sizes.feed_forward_size, dropout, norm=StdLayerNorm)

    def forward(self, x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        x = self.self_attention(x, x_mask)
        return self.feed_forward(self.guided_attention(x, x_mask, y, y_mask))


class MCAN(Backbone):
    """MCAN (Yu et al., 2019, arXiv 1906.10770, figure 5): encodes the question, then decodes the image guided by it."""

    head_norm = StdLayerNorm

    def __init__(self, settings: MCANSettings, sizes: OperationSizes):
        super().__init__()
        self.form = settings.form
        self.encoder = nn.ModuleList(Encoder(sizes) for _ in range(settings.layers))
        self.decoder = nn.ModuleList(Decoder(sizes) for _ in range(settings.layers))

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps the features of both streams to features of the same shapes. It does not look at the boxes."""
        if self.form == "encoder_decoder":
            for encoder in self.encoder:
                question = encoder(question, question_mask)
            for decoder in self.decoder:
                image = decoder(image, image_mask, question, question_mask)
        else:
            for encoder, decoder in zip(self.encoder, self.decoder, strict=True):
                question = encoder(question, question_mask)
                image = decoder(image, image_mask, question, question_mask)
        return image, question
