"""The whole network: question encoder → image projection → backbone → head.

The backbone is a space to search or a fixed network; the rest is that of MCAN (Yu et al., 2019, section 4).
"""

from typing import Annotated

from nni.nas.nn.pytorch import ModelSpace
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from model_space.operations import MLP, Linear, Sizes
from model_space.question_encoder import EncoderSettings, LSTMSettings, QuestionEncoder
from model_space.spaces.dcn import DCN, DCNSettings
from model_space.spaces.encoder_decoder import EncoderDecoder, EncoderDecoderSettings
from model_space.spaces.mcan import MCAN, MCANSettings
from model_space.spaces.paired import Paired, PairedSettings
from model_space.spaces.stacked import Stacked, StackedSettings

BACKBONES = {"stacked": Stacked, "mcan": MCAN, "encoder_decoder": EncoderDecoder, "paired": Paired, "dcn": DCN}

SPACES = {
    "stacked": StackedSettings,
    "mcan": MCANSettings,
    "encoder_decoder": EncoderDecoderSettings,
    "paired": PairedSettings,
    "dcn": DCNSettings,
}
"""name → parameters; the name is a value of their field `name`"""

SpaceSettings = Annotated[
    StackedSettings | MCANSettings | EncoderDecoderSettings | PairedSettings | DCNSettings, Field(discriminator="name")
]


class NetworkSettings(BaseModel):
    """Sizes of the network; the defaults are those of MCAN small and of NAS-VQA."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(512, ge=1)
    heads: int = Field(8, ge=1)
    """heads of an attention; they divide `hidden`"""
    feed_forward_size: int | None = Field(None, ge=1)
    """inner width of a feed-forward; null: four times `hidden`"""
    embedding_dim: int = Field(300, ge=1)
    """width of a word's embedding"""
    flat_mlp_size: int = Field(512, ge=1)
    """inner width of the attention-flatten"""
    flat_out_size: int = Field(1024, ge=1)
    """width of a flattened stream, which the classifier reads"""
    glimpses: int = Field(1, ge=1)
    """attention maps of an attention-flatten"""
    dropout: float = Field(0.1, ge=0, lt=1)
    channel_dropout: float = Field(0.1, ge=0, lt=1)
    """on the inputs of a searched operation: whole channels, the same at all positions"""
    region_norm: bool = False
    """a layer norm on the projected regions"""

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.hidden % self.heads:
            raise ValueError(f"hidden is {self.hidden} and heads is {self.heads}, expected heads that divide hidden")
        return self


class DataSizes(BaseModel):
    """What the data fixes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature_size: int = Field(ge=1)
    """width of a region's feature"""
    vocabulary_size: int = Field(ge=2)
    """words of the vocabulary, with padding and the unknown word"""
    answers: int = Field(ge=1)


class AttentionFlatten(nn.Module):
    """Attends over the positions of a stream and flattens it (equation 6).

    From ``(B, N, hidden)`` to ``(B, flat_out_size)``.
    """

    def __init__(self, hidden: int, inner: int, flat_out_size: int, glimpses: int, dropout: float):
        super().__init__()
        self.mlp = MLP(hidden, inner, glimpses, dropout)
        self.merge = nn.Linear(hidden * glimpses, flat_out_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.merge((self.attention(x, mask).transpose(1, 2) @ x).flatten(1))

    def attention(self, x: Tensor, mask: Tensor) -> Tensor:
        """How much each position counts, ``(B, N, glimpses)``: a glimpse's weights sum to 1 over the positions."""
        # -1e9 and not -inf: the softmax of a row that is masked throughout stays finite.
        return self.mlp(x).masked_fill(~mask.unsqueeze(-1), -1e9).softmax(dim=1)


class Network(ModelSpace):
    """A network that answers questions about images, or a space of them.

    Built as it is, it is a space, which a strategy turns into a supernet; built under
    :func:`nni.nas.space.model_context` it is the network of one architecture.
    """

    def __init__(
        self,
        space: SpaceSettings,
        settings: NetworkSettings,
        sizes: DataSizes,
        encoder: EncoderSettings = LSTMSettings(),  # noqa: B008  frozen
    ):
        super().__init__()
        hidden, dropout = settings.hidden, settings.dropout
        inner = settings.feed_forward_size or 4 * hidden
        self.question_encoder = QuestionEncoder(encoder, sizes.vocabulary_size, settings.embedding_dim, hidden)
        self.image_projection = Linear(sizes.feature_size, hidden)
        self.region_norm = nn.LayerNorm(hidden) if settings.region_norm else nn.Identity()
        self.backbone = BACKBONES[space.name](
            space, Sizes(hidden, settings.heads, inner, dropout, settings.channel_dropout)
        )
        flat_sizes = hidden, settings.flat_mlp_size, settings.flat_out_size, settings.glimpses, dropout
        self.flatten_image = AttentionFlatten(*flat_sizes)
        self.flatten_question = AttentionFlatten(*flat_sizes)
        self.head_norm = self.backbone.head_norm(settings.flat_out_size)
        self.classifier = nn.Linear(settings.flat_out_size, sizes.answers)

    def forward(
        self, regions: Tensor, region_mask: Tensor, tokens: Tensor, token_mask: Tensor, boxes: Tensor
    ) -> Tensor:
        """Scores the answers.

        Args:
            regions: features ``(B, N, feature_size)``, of any float type.
            region_mask: ``(B, N)``, True where a region is real.
            tokens: words of the question ``(B, T)``.
            token_mask: ``(B, T)``, True where a word is real.
            boxes: ``(B, N, 4)``, the regions' corners x1, y1, x2, y2 in pixels.

        Returns:
            Logits ``(B, answers)``.
        """
        question = self.question_encoder(tokens)
        image = self.region_norm(self.image_projection(regions.to(self.image_projection.weight.dtype)))
        image, question = self.backbone(image, region_mask, question, token_mask, boxes)
        flat = self.flatten_question(question, token_mask) + self.flatten_image(image, region_mask)
        return self.classifier(self.head_norm(flat))


def parameter_count(network: nn.Module) -> int:
    """Weights that training changes."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
