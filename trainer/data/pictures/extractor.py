"""What makes features of pictures, and how it is known by."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from model_space.errors import InputError
from trainer.data.features.extractors import in_words, parsed
from trainer.data.features.npz import ImageFeatures


class Extractor(Protocol):
    """Makes features of pictures."""

    def __call__(self, pictures: Sequence[Image.Image]) -> list[ImageFeatures]:
        """Returns the features of each of some pictures in RGB."""
        ...

    @property
    def digest(self) -> str | None:
        """The digest of its weights; None for one that has none."""
        ...


class ExtractorSettings(BaseModel):
    """What the settings of all extractors have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    broken: Literal["stop", "skip"] = "stop"
    """What a picture does that cannot be read: it stops the packing, or it is named and left out."""
    batch_size: int = Field(32, ge=1, le=4_096)
    """The number of pictures that are read and go through the extractor together."""


APART = {"broken", "batch_size", "weights"}
"""Settings on which features do not depend, if the digest of the weights is the same."""


def identity(settings: ExtractorSettings, extractor: Extractor) -> str:
    """Returns, as JSON, what the features of an extractor depend on, by which they are told from those of any other."""
    return json.dumps(stated(settings) | {"weights": extractor.digest}, sort_keys=True)


def stated(settings: ExtractorSettings) -> dict[str, Any]:
    """Returns the part of an identity that settings say, without the weights."""
    return settings.model_dump(mode="json", exclude=APART)


def refuse_others(packed: Path, made_by: str, settings: ExtractorSettings) -> None:
    """Refuses features that were not made as settings say. Their weights are not compared.

    Args:
        packed: The file of the features, for the error message.
        made_by: The identity of what made them.
        settings: Those of the extractor that is asked for.

    Raises:
        InputError: They are others.
    """
    about = parsed(made_by)
    about.pop("weights", None)
    if about != stated(settings):
        raise other_features(packed, made_by, settings)


def other_features(packed: Path, made_by: str, settings: ExtractorSettings) -> InputError:
    """Returns what is said of features that were not made as settings say."""
    return InputError(
        f"{packed}: made by {in_words(made_by)}, where data.pictures says {stated(settings)}: delete it to make it "
        "anew (launch.py --pack)"
    )
