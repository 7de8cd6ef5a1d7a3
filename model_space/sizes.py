"""The sizes of a network: those that its settings say, and those that the data fixes."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Width = Annotated[int, Field(ge=1, le=1_000_000)]
"""Width of a layer. The bound refuses a mistyped number in a line, where torch would fail in a trace."""
Count = Annotated[int, Field(ge=1, le=100)]
"""Number of layers, cells, blocks or nodes. The bound refuses a number of which no network can be built."""


class NetworkSettings(BaseModel):
    """Sizes of the network. The defaults are those of MCAN small and of NAS-VQA."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: Width = 512
    """Width of the features of a word and of a region inside the network."""
    heads: Width = 8
    """Number of heads of an attention. It divides `hidden`."""
    feed_forward_size: Width | None = None
    """Inner width of a feed-forward. Null means four times `hidden`."""
    embedding_dim: Width = 300
    """Width of the embedding of a word."""
    flat_mlp_size: Width = 512
    """Inner width of the MLP of the attention-flatten."""
    flat_out_size: Width = 1024
    """Width of a flattened stream, which the classifier reads."""
    glimpses: Count = 1
    """Number of attention maps of an attention-flatten."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Probability with which an element is dropped."""
    channel_dropout: float = Field(0.1, ge=0, lt=1)
    """Probability with which a channel is dropped from the inputs of a searched operation, at all positions alike."""
    region_norm: bool = False
    """Whether a layer norm follows the projection of the regions."""
    initialisation: Literal["torch", "xavier"] = "torch"
    """How new weights of linear layers are sampled. ``torch``: as torch does by itself, and the papers' code with it.
    ``xavier``: uniformly by Glorot and Bengio (2010), with biases of zero."""
    attention_gain: float = Field(1.0, gt=0, le=100)
    """What the new weights of every query and key are multiplied by. With 1, as the papers' code has it, attention
    begins nearly uniform."""
    local_relation: bool = False
    """Whether relational self-attention begins with near regions, and by geometry alone: `attention_gain` is not for
    its queries and keys then. Else it begins as MMnas's code does, by linear layers like any others."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden is {self.hidden} and heads is {self.heads}, expected heads that divide hidden")
        return self

    def of_operations(self) -> "OperationSizes":
        """Returns the sizes that every operation of the network has."""
        feed_forward_size = self.feed_forward_size or 4 * self.hidden
        return OperationSizes(self.hidden, self.heads, feed_forward_size, self.dropout, self.channel_dropout)


class DataSizes(BaseModel):
    """Sizes that the data fixes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature_size: Width
    """Width of the feature of a region."""
    vocabulary_size: int = Field(ge=2, le=1_000_000_000)
    """Number of words of the vocabulary, padding and the unknown word among them."""
    answers: int = Field(ge=1, le=1_000_000_000)
    """Number of answers of the vocabulary."""


NO_DATA = DataSizes(feature_size=1, vocabulary_size=2, answers=1)
"""Sizes for a space or an architecture that belongs to no data yet."""


@dataclass(frozen=True)
class OperationSizes:
    """Sizes that all operations of one network have in common."""

    hidden: int
    """Width of the features."""
    heads: int
    """Number of heads of an attention."""
    feed_forward_size: int
    """Inner width of a feed-forward."""
    dropout: float
    """Probability with which an element is dropped."""
    channel_dropout: float
    """Probability with which a whole channel is dropped."""
