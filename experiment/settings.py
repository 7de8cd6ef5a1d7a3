"""The settings of one search, read from YAML and checked by type."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field, field_validator

from experiment.layers import merged, place, read_layers
from model_space.architecture import Space
from model_space.encoders import AnyEncoder
from model_space.encoders.lstm import LSTMSettings
from model_space.errors import InputError
from model_space.sizes import DataSizes, NetworkSettings
from model_space.spaces import AnyBackbone
from model_space.validation import explained, hint
from trainer.data.settings import DataSettings
from trainer.strategies import STRATEGIES, AnySearch
from trainer.strategies.snas import SnasSettings
from trainer.train import TrainSettings


class CompareSettings(BaseModel):
    """How the found architecture is compared at the end of ``make search``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trainings: int = Field(1, ge=1, le=100)
    """Number of trainings of each network of the table, which begin with different weights."""
    random: int = Field(1, ge=1, le=1_000)
    """Number of architectures that random search trains once each. The best on the validation split is compared. As
    many as cost what the searches did are a comparison at equal cost."""


class Settings(BaseModel):
    """What a settings file holds, section by section."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataSettings
    space: AnyBackbone
    encoder: AnyEncoder = LSTMSettings()
    network: NetworkSettings = NetworkSettings()
    search: AnySearch = SnasSettings()
    train: TrainSettings = TrainSettings()
    compare: CompareSettings = CompareSettings()

    @field_validator("search", mode="before")
    @classmethod
    def _default_strategy(cls, search: Any) -> Any:
        if isinstance(search, dict) and "strategy" not in search:
            return {"strategy": SnasSettings().strategy} | search
        return search

    def space_for(self, data: DataSizes) -> Space:
        """Returns the space that the settings describe, for data of these sizes."""
        return Space(backbone=self.space, encoder=self.encoder, network=self.network, data=data)

    def with_parameters(self, parameters: dict[str, Any], where: str = "trial") -> "Settings":
        """Returns these settings with the parameters of a trial in place of the settings of their names.

        Args:
            parameters: Names of the sections `search`, `space` and `network`, and of the section `encoder` behind its
                name and a dot. Where they name another strategy, what these settings do not say follows its defaults.
            where: Names the origin of the parameters in an error.

        Raises:
            InputError: No section has the name, or the value is not allowed.
        """
        content = self.model_dump(exclude_unset=True)
        search = STRATEGIES.get(parameters.get("strategy", self.search.strategy), type(self.search))
        known = {key: ("network", key) for key in NetworkSettings.model_fields}
        known |= {key: ("space", key) for key in type(self.space).model_fields}
        known |= {key: ("search", key) for key in search.model_fields}
        known |= {f"encoder.{key}": ("encoder", key) for key in type(self.encoder).model_fields}
        for section in ("network", "search", "encoder"):
            content.setdefault(section, {})
        content["space"].setdefault("name", self.space.name)
        content["search"].setdefault("strategy", self.search.strategy)
        content["encoder"].setdefault("name", self.encoder.name)
        for key, value in parameters.items():
            if key not in known:
                raise InputError(f"{where}: unknown parameter '{key}' (it is {value!r}){hint(key, known)}")
            section, name = known[key]
            content[section][name] = value
        return _validated(content, lambda keys: where)


def read_settings(path: Path | str) -> Settings:
    """Reads a settings file, together with the files that it is based on.

    Args:
        path: The settings file.

    Returns:
        The settings, every value checked.

    Raises:
        InputError: A file cannot be read or is not YAML, a key is unknown or missing, or a value is not allowed. The
            error names file, line and key.

    Example:
        >>> settings = read_settings("settings/recurrent.yml")  # based on settings/digits.yml
        >>> settings.encoder.name, settings.space.name, settings.network.hidden
        ('recurrent', 'stacked', 64)
    """
    layers = read_layers(Path(path))
    return _validated(merged(layers), lambda keys: place(layers, keys))


def _validated(content: dict[str, Any], where: Callable[[list], str]) -> Settings:
    """Returns the settings with this content.

    Args:
        content: The sections.
        where: Is told the keys that lead to a mistake, and names its place in an error.

    Raises:
        InputError: A key is unknown or missing, or a value is not allowed.
    """
    try:
        return Settings.model_validate(content)
    except pydantic.ValidationError as error:
        keys, sentence = explained(error, Settings, content)
    raise InputError(f"{where(keys)}: {sentence}")
