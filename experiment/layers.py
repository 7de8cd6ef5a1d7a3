"""Settings upon settings: a settings file may name another one as its base, and say only what it changes.

The key ``base`` is the path of the other file, from the folder of the file that names it. A section changes the keys
that it names, and takes the others from the base. A section with a ``name`` (``space``, ``encoder``) is another space
or encoder, and takes nothing from the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from model_space.errors import InputError
from model_space.files import parse_yaml

BASE = "base"
Key = str | int


@dataclass(frozen=True)
class Layer:
    """What one settings file says itself, without its base."""

    path: Path
    sections: dict[str, Any]
    """The content of the file, without the key ``base``."""
    node: yaml.Node
    """The same content with the line of every key."""
    base: Path | None
    """The settings file that this one changes, if it names one."""

    def replaces(self, section: Key) -> bool:
        """Returns whether a section of this file takes nothing from the base."""
        content = self.sections.get(str(section))
        return not isinstance(content, dict) or "name" in content


def read_layers(path: Path) -> list[Layer]:
    """Reads a settings file and all files that it is based on.

    Args:
        path: The settings file.

    Returns:
        The layers, the file itself first and its last base at the end.

    Raises:
        InputError: A file cannot be read, is not YAML, has no sections or a key twice, or is based on itself.
    """
    layers = [_read(path, "")]
    while base := layers[-1].base:
        named_at = f"{layers[-1].path}, line {line_of(layers[-1].node, [BASE])}: {BASE}: "
        if any(base.resolve() == layer.path.resolve() for layer in layers):
            chain = " → ".join(str(each) for each in [*(layer.path for layer in layers), base])
            raise InputError(f"{named_at}a settings file cannot be based on itself: {chain}")
        layers.append(_read(base, named_at))
    return layers


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    """Returns the sections of all layers as if they stood in one file."""
    content: dict[str, Any] = {}
    for layer in reversed(layers):
        for section, value in layer.sections.items():
            under = content.get(section)
            if isinstance(under, dict) and not layer.replaces(section):
                value = under | value
            content[section] = value
    return content


def place(layers: Sequence[Layer], keys: Sequence[Key]) -> str:
    """Returns the file and the line that give a key its value, for an error.

    Args:
        layers: What `read_layers` returns.
        keys: The names that lead to the key. Where the key is missing, the line is that of its section.
    """
    layer = _layer_of(layers, keys)
    found = f"{layer.path}, line {line_of(layer.node, keys)}"
    return found if layer is layers[0] else f"{found}, a base of {layers[0].path}"


def line_of(node: yaml.Node, keys: Sequence[Key]) -> int:
    """Returns the line, from 1, where a key stands. For a missing key it is the line of its section."""
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


def _layer_of(layers: Sequence[Layer], keys: Sequence[Key]) -> Layer:
    """Returns the first layer that has the key, else the first one that has its section, else the first of all."""
    having_section = [layer for layer in layers if keys and keys[0] in layer.sections]
    for layer in having_section:
        if layer.replaces(keys[0]) or (len(keys) > 1 and keys[1] in layer.sections[str(keys[0])]):
            return layer
    return (having_section or layers)[0]


def _read(path: Path, named_at: str) -> Layer:
    """Reads one file; ``named_at`` says where a base is named, for an error."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{named_at}{path}: settings cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    content, node = parse_yaml(text, str(path))
    if not isinstance(content, dict) or node is None:
        raise InputError(f"{path}: expected sections such as data, space and train, each with keys")
    base = content.pop(BASE, None)
    if base is not None and not isinstance(base, str):
        at = f"{path}, line {line_of(node, [BASE])}"
        raise InputError(f"{at}: {BASE} is {base!r}: must be the path of a settings file")
    return Layer(path, content, node, path.parent / base if base is not None else None)
