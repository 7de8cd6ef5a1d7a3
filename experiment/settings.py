"""The settings of one search, read from YAML and checked by type."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pydantic
from pydantic import BaseModel, ConfigDict

from experiment.layers import merged, place, read_layers
from model_space.architecture import Space
from model_space.encoders import AnyEncoder
from model_space.encoders.lstm import LSTMSettings
from model_space.errors import InputError
from model_space.sizes import DataSizes, NetworkSettings
from model_space.spaces import AnyBackbone
from model_space.validation import explained, hint
from trainer.data.settings import DataSettings
from trainer.search import SearchSettings
from trainer.train import TrainSettings


class Settings(BaseModel):
    """What a settings file holds, section by section."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataSettings
    space: AnyBackbone
    encoder: AnyEncoder = LSTMSettings()
    network: NetworkSettings = NetworkSettings()
    search: SearchSettings = SearchSettings()
    train: TrainSettings = TrainSettings()

    def space_for(self, data: DataSizes) -> Space:
        """The space that they describe, for data of these sizes."""
        return Space(backbone=self.space, encoder=self.encoder, network=self.network, data=data)

    def with_parameters(self, parameters: dict[str, Any], where: str = "trial") -> Self:
        """These settings with the parameters of a trial: names of the sections `search`, `space` and `network`,
        and of the section `encoder` behind its name and a dot.

        Raises:
            InputError: no section has the name, or the value is not allowed.
        """
        content = self.model_dump()
        known = {key: (section, key) for section in ("network", "space", "search") for key in content[section]}
        known |= {f"encoder.{key}": ("encoder", key) for key in content["encoder"]}
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
