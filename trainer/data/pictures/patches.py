"""Features without a network: the pixels of patches, as of a vision transformer's first layer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from trainer.data.features.npz import ImageFeatures, cells
from trainer.data.pictures.extractor import ExtractorSettings


class PatchesSettings(ExtractorSettings):
    """The pixels of square patches, from -1 to 1. It needs no weights and no further package."""

    name: Literal["patches"]
    side: int = Field(64, ge=1, le=4_096)
    """The side in pixels to which a picture is scaled, whatever its shape."""
    patch: int = Field(16, ge=1, le=512)
    """The side of a patch in pixels."""

    @model_validator(mode="after")
    def _whole_patches(self) -> "PatchesSettings":
        if self.side % self.patch:
            raise ValueError(f"side {self.side} is no multiple of patch {self.patch}")
        return self

    def extractor(self) -> "Patches":
        """Returns the extractor."""
        return Patches(self)


class Patches:
    """Makes features (side² / patch², 3 patch²) of a picture: rows of pixels, each red, green and blue."""

    digest = None

    def __init__(self, settings: PatchesSettings):
        self.settings = settings

    def __call__(self, pictures: Sequence[Image.Image]) -> list[ImageFeatures]:
        return [self._features(picture) for picture in pictures]

    def _features(self, picture: Image.Image) -> ImageFeatures:
        side, patch = self.settings.side, self.settings.patch
        n = side // patch
        scaled = picture.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2)
        pixels = np.asarray(scaled, np.float32) / 127.5 - 1
        features = pixels.reshape(n, patch, n, patch, 3).swapaxes(1, 2).reshape(n * n, -1)
        size = float(picture.width), float(picture.height)
        return ImageFeatures(features, cells(n, n, size), size)
