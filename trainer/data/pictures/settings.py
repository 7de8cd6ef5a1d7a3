"""The section ``data.pictures`` of the settings: what makes features of pictures."""

from typing import Annotated

from pydantic import Field

from trainer.data.pictures.grid import GridSettings
from trainer.data.pictures.patches import PatchesSettings
from trainer.data.pictures.regions import RegionsSettings

PicturesSettings = Annotated[GridSettings | RegionsSettings | PatchesSettings, Field(discriminator="name")]
"""The settings of an extractor, by its name."""
