"""The settings of one search, read from YAML and checked by type."""

from pathlib import Path
from typing import Any, Self

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict

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
        return validate(content, where)


def read_settings(path: Path | str) -> Settings:
    """Reads a settings file.

    Raises:
        InputError: no such file, not YAML, an unknown key, a value that is not allowed: file, line and key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: settings cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected sections {', '.join(Settings.model_fields)}")
    return validate(content, str(path), yaml.compose(text, Loader=yaml.SafeLoader))


def validate(content: dict[str, Any], where: str, node: yaml.Node | None = None) -> Settings:
    """Returns the settings of a file's content.

    Args:
        content: The sections of the file.
        where: Names the file in an error.
        node: The YAML from which the content was read, for the line of an error.

    Raises:
        InputError: A key is unknown or missing, or a value is not allowed.
    """
    try:
        return Settings.model_validate(content)
    except pydantic.ValidationError as error:
        keys, sentence = explained(error, Settings, content)
    line = f", line {line_of(node, keys)}" if node else ""
    raise InputError(f"{where}{line}: {sentence}")


def line_of(node: yaml.Node, keys: list) -> int:
    """The line, from 1, where a key stands; for a missing one, its section's."""
    line = node.start_mark.line + 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == str(key)), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
    return line
