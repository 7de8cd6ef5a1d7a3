"""The settings of one search, read from YAML and checked by type."""

import difflib
import reprlib
import types
import typing
from pathlib import Path
from typing import Any, Self

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict

from model_space.architecture import Space
from model_space.errors import InputError
from model_space.network import SPACES, DataSizes, NetworkSettings, SpaceSettings
from model_space.question_encoder import ENCODERS, EncoderSettings, LSTMSettings
from trainer.data.splits import DataSettings
from trainer.search import SearchSettings
from trainer.train import TrainSettings

TAGGED = {"space": SPACES, "encoder": ENCODERS}
"""sections whose key `name` says which keys they have"""
FORMS = ("one", "several")
"""how pydantic names the forms of a value that may also be a list of such values"""


class Settings(BaseModel):
    """What a settings file holds, section by section."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataSettings
    space: SpaceSettings
    encoder: EncoderSettings = LSTMSettings()
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
                raise InputError(f"{where}: unknown parameter '{key}' (it is {value!r}){nearest(key, known)}")
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
    try:
        return Settings.model_validate(content)
    except pydantic.ValidationError as error:
        # An unknown key explains a missing one better than the other way round.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    keys = [key for key in first["loc"] if key not in (*TAGGED.get(first["loc"][0], ()), *FORMS)]
    name, value = ".".join(map(str, keys)), first["input"]
    line = f", line {line_of(node, keys)}" if node else ""
    if first["type"] == "extra_forbidden":
        raise InputError(f"{where}{line}: unknown key '{name}'{nearest(str(keys[-1]), known_keys(content, keys[:-1]))}")
    if first["type"] == "missing":
        raise InputError(f"{where}{line}: '{name}' is missing")
    if first["type"] == "union_tag_invalid":
        expected = ", ".join(TAGGED[name])
        raise InputError(f"{where}{line}: {name}.name is {value.get('name')!r}, expected one of {expected}")
    if first["type"] == "union_tag_not_found":
        raise InputError(f"{where}{line}: '{name}.name' is missing, expected one of {', '.join(TAGGED[name])}")
    if first["type"] == "value_error":  # a rule over several keys, which names them itself
        raise InputError(f"{where}{line}: {name}: {first['msg'].removeprefix('Value error, ')}")
    message = first["msg"].removeprefix("Input ").replace("should", "must")
    raise InputError(f"{where}{line}: {name} is {reprlib.repr(value)}: {message}")


def known_keys(content: dict[str, Any], section: list) -> list[str]:
    """The keys that a section of the settings may have."""
    model: Any = Settings
    for key in section:
        if isinstance(key, int):
            continue  # all parts of a list are of one kind
        if key in TAGGED:
            model = TAGGED[key][content[key]["name"]]
        else:
            model = next(m for m in models(model.model_fields[key].annotation))
    return list(model.model_fields)


def models(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for part in typing.get_args(annotation):
            yield from models(part)


def nearest(key: str, known: typing.Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known)}"


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
