"""The whole network: question encoder → image projection → backbone → head.

The backbone is a space to search or a fixed network, and so is the question encoder. The rest is that of MCAN (Yu et
al., 2019, arXiv 1906.10770, section 4).
"""

from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn

from model_space.contracts import BackboneSettings, EncoderSettings
from model_space.operations import MLP, Attention, Linear, RelationalSelfAttention
from model_space.sizes import DataSizes, NetworkSettings


class Network(ModelSpace):
    """A network that answers questions about images, or a space of such networks.

    Built as it is, it is a space, which a strategy turns into a supernet. Built under
    :func:`nni.nas.space.model_context` it is the network of one architecture.

    Args:
        backbone: Parameters of the backbone.
        encoder: Parameters of the question encoder.
        sizes: Sizes of the network.
        data: Sizes that the data fixes.
    """

    def __init__(self, backbone: BackboneSettings, encoder: EncoderSettings, sizes: NetworkSettings, data: DataSizes):
        super().__init__()
        hidden = sizes.hidden
        self.question_encoder = QuestionEncoder(encoder, data.vocabulary_size, sizes.embedding_dim, hidden)
        self.image_projection = Linear(data.feature_size, hidden)
        self.region_norm = nn.LayerNorm(hidden) if sizes.region_norm else nn.Identity()
        self.backbone = backbone.build(sizes.of_operations())
        self.flatten_image = AttentionFlatten(sizes)
        self.flatten_question = AttentionFlatten(sizes)
        self.head_norm = self.backbone.head_norm(sizes.flat_out_size)
        self.classifier = nn.Linear(sizes.flat_out_size, data.answers)
        if sizes.initialisation == "xavier":
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        led_by_geometry = set()
        for module in self.modules():
            if sizes.local_relation and isinstance(module, RelationalSelfAttention):
                module.begin_local(self.backbone.get_submodule("relation"))
                led_by_geometry.add(module.attention)
            if isinstance(module, Attention) and module not in led_by_geometry:
                module.sharpen(sizes.attention_gain)

    def forward(
        self, regions: Tensor, region_mask: Tensor, tokens: Tensor, token_mask: Tensor, boxes: Tensor
    ) -> Tensor:
        """Scores every answer.

        Args:
            regions: Features of the regions, ``(B, N, feature_size)``, of any float type.
            region_mask: ``(B, N)``, True where a region is real.
            tokens: Indices of the words of the question, ``(B, T)``.
            token_mask: ``(B, T)``, True where a word is real.
            boxes: Corners x1, y1, x2, y2 of the regions in pixels, ``(B, N, 4)``.

        Returns:
            Logits, ``(B, answers)``.
        """
        question = self.question_encoder(tokens)
        image = self.region_norm(self.image_projection(regions.to(self.image_projection.weight.dtype)))
        image, question = self.backbone(image, region_mask, question, token_mask, boxes)
        flat = self.flatten_question(question, token_mask) + self.flatten_image(image, region_mask)
        return self.classifier(self.head_norm(flat))


class QuestionEncoder(nn.Module):
    """Embeds the words and encodes their sequence: tokens ``(B, T)`` to features ``(B, T, hidden)``."""

    def __init__(self, settings: EncoderSettings, vocabulary_size: int, embedding_dim: int, hidden: int):
        super().__init__()
        self.name = settings.name
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        # Under the name of the encoder, which checkpoints know: question_encoder.lstm.weight_ih_l0, for example.
        self.add_module(settings.name, settings.build(embedding_dim, hidden))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.get_submodule(self.name)(self.embedding(tokens))


class AttentionFlatten(nn.Module):
    """Attends over the positions of a stream and flattens it: ``(B, N, hidden)`` to ``(B, flat_out_size)``.

    Equation 6 of MCAN, with `glimpses` attention maps side by side.
    """

    def __init__(self, sizes: NetworkSettings):
        super().__init__()
        self.mlp = MLP(sizes.hidden, sizes.flat_mlp_size, sizes.glimpses, sizes.dropout)
        self.merge = nn.Linear(sizes.hidden * sizes.glimpses, sizes.flat_out_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.merge((self.attention(x, mask).transpose(1, 2) @ x).flatten(1))

    def attention(self, x: Tensor, mask: Tensor) -> Tensor:
        """Returns the weight of each position, ``(B, N, glimpses)``. The weights of a glimpse sum to 1."""
        # -1e9 and not -inf: the softmax of a row that is masked throughout stays finite.
        return self.mlp(x).masked_fill(~mask.unsqueeze(-1), -1e9).softmax(dim=1)


def parameter_count(network: nn.Module) -> int:
    """Returns the number of weights that training changes."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
