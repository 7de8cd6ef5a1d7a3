"""MCAN, deep modular co-attention (Yu et al., 2019, arXiv 1906.10770), as a fixed backbone."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model_space.operations import FeedForward, GuidedAttention, SelfAttention, Sizes, StdLayerNorm


class MCANSettings(BaseModel):
    """A fixed network: nothing in it is searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["mcan"] = "mcan"
    form: Literal["encoder_decoder", "stacking"] = "encoder_decoder"
    """encoder_decoder: the image is guided by the question's last layer; stacking: by its layer of the same depth"""
    layers: int = Field(6, ge=1)


class Encoder(nn.Module):
    """The paper's SA unit: self-attention, feed-forward."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        hidden, heads, dropout = sizes.hidden, sizes.heads, sizes.dropout
        self.self_attention = SelfAttention(hidden, heads, dropout, norm=StdLayerNorm)
        self.feed_forward = FeedForward(hidden, sizes.feed_forward_size, dropout, norm=StdLayerNorm)

    def forward(self, x: Tensor, x_mask: Tensor, *unused: Tensor) -> Tensor:
        return self.feed_forward(self.self_attention(x, x_mask))


class Decoder(nn.Module):
    """The paper's SGA unit: self-attention, guided attention, feed-forward."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        hidden, heads, dropout = sizes.hidden, sizes.heads, sizes.dropout
        self.self_attention = SelfAttention(hidden, heads, dropout, norm=StdLayerNorm)
        self.guided_attention = GuidedAttention(hidden, heads, dropout, norm=StdLayerNorm)
        self.feed_forward = FeedForward(hidden, sizes.feed_forward_size, dropout, norm=StdLayerNorm)

    def forward(self, x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor) -> Tensor:
        x = self.self_attention(x, x_mask)
        return self.feed_forward(self.guided_attention(x, x_mask, y, y_mask))


class MCAN(nn.Module):
    """Encodes the question, and decodes the image guided by it (figure 5 of the paper)."""

    head_norm = StdLayerNorm

    def __init__(self, settings: MCANSettings, sizes: Sizes):
        super().__init__()
        self.form = settings.form
        self.encoder = nn.ModuleList(Encoder(sizes) for _ in range(settings.layers))
        self.decoder = nn.ModuleList(Decoder(sizes) for _ in range(settings.layers))

    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps ``(B, N, hidden)`` and ``(B, T, hidden)`` to features of the same shapes; does not look at the boxes."""
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
