"""What a file of ``model_space/spaces`` and a file of ``model_space/encoders`` declare.

A space is a class of settings that derives from :class:`BackboneSettings`, a question encoder one that derives from
:class:`EncoderSettings`. Each says what it is called, which parameters it has, how it is built, how an architecture of
it is drawn, and how it is listed. Nothing else has to know it.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from model_space.graph import CellGraph, ChainGraph
from model_space.sizes import NetworkSettings, OperationSizes

Choices = dict[str, Any]
"""Label → chosen candidate, as NNI exports it: a name for a `LayerChoice`, a list of one position for an
`InputChoice`."""


class Backbone(nn.Module):
    """The middle of a network: refines the features of both streams."""

    head_norm: ClassVar[type[nn.Module]]
    """The layer norm of the head after this backbone. It is made from the width of its input."""

    @abstractmethod
    def forward(
        self, image: Tensor, image_mask: Tensor, question: Tensor, question_mask: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Maps the features of both streams to features of the same shapes.

        Args:
            image: Features of the regions, ``(B, N, hidden)``.
            image_mask: ``(B, N)``, True where a region is real.
            question: Features of the words, ``(B, T, hidden)``.
            question_mask: ``(B, T)``, True where a word is real.
            boxes: Corners x1, y1, x2, y2 of the regions in pixels, ``(B, N, 4)``.
        """


@dataclass(frozen=True)
class Listing:
    """A line of the table of ``launch.py --spaces``: a space, or one architecture of it."""

    name: str
    source: str
    """The repository that it comes from, or the arXiv number of the paper."""
    backbone: "BackboneSettings"
    encoder: "EncoderSettings | None" = None
    """The question encoder; None for an LSTM."""
    network: NetworkSettings = NetworkSettings()  # noqa: RUF009  frozen
    choices: Choices | None = None
    """The choices of one architecture; None for the whole space, or for a network in which nothing is chosen."""


class BackboneSettings(BaseModel):
    """Parameters of a space, or of a fixed network: the section `space` of a settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the space. A subclass declares it as a `Literal` with its default."""

    @abstractmethod
    def build(self, sizes: OperationSizes) -> Backbone:
        """Returns the backbone, with NNI's choices where there is something to choose."""

    @abstractmethod
    def drawing(self, choices: Choices) -> CellGraph | ChainGraph:
        """Returns what a drawing of the architecture with these choices shows."""

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns the known forms of the space, for the table of ``launch.py --spaces``."""
        return [Listing(cls.model_fields["name"].default, "", cls.model_validate({}))]


class EncoderSettings(BaseModel):
    """Parameters of a question encoder, searched or fixed: the section `encoder` of a settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the question encoder. A subclass declares it as a `Literal` with its default."""

    @abstractmethod
    def build(self, embedding_dim: int, hidden: int) -> nn.Module:
        """Returns a module that maps embedded words ``(B, T, embedding_dim)`` to features ``(B, T, hidden)``."""

    def drawing(self, choices: Choices) -> CellGraph | None:
        """Returns what a drawing of the encoder with these choices shows; None where nothing is chosen."""
        return None

    @classmethod
    def listings(cls) -> list[Listing]:
        """Returns the known forms of the encoder before a backbone, for the table of ``launch.py --spaces``."""
        return []
