"""An architecture: a point of a space, as a JSON file that builds its network by itself."""

import difflib
import json
import random
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pydantic
import torch
from nni.mutable import CategoricalMultiple
from nni.nas.space import model_context
from torch import nn

from model_space.errors import InputError
from model_space.files import read_text, write_text
from model_space.network import SPACES, DataSizes, Network, NetworkSettings, SpaceSettings, parameter_count
from model_space.question_encoder import ENCODERS, EncoderSettings, LSTMSettings

FORMAT = 1

Choices = dict[str, Any]
"""label → chosen candidate, as NNI exports it: a name for a `LayerChoice`, a list of positions for an `InputChoice`"""


class Space(pydantic.BaseModel):
    """The key ``space`` of the file: name and parameters of the space, its question encoder, sizes of the network and
    of the data."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    backbone: SpaceSettings
    network: NetworkSettings
    data: DataSizes
    encoder: EncoderSettings = LSTMSettings()

    def build(self) -> Network:
        """The space; under :func:`nni.nas.space.model_context` the network of one architecture."""
        return Network(self.backbone, self.network, self.data, self.encoder)


@dataclass(frozen=True)
class Architecture:
    """Which candidate each choice of a space takes.

    >>> network = Architecture.load("architecture.json").network()
    """

    space: Space
    choices: Choices
    score: float | None = None
    """accuracy in percent by which it was chosen"""
    provenance: dict[str, Any] = field(default_factory=dict)
    """where it comes from: experiment, trial, strategy, seed, settings, versions, date"""

    def network(self) -> nn.Module:
        """A network of this architecture, with new weights."""
        with model_context(self.choices):
            return self.space.build()

    def for_data(self, sizes: DataSizes) -> Self:
        """The same for data of other sizes."""
        return replace(self, space=self.space.model_copy(update={"data": sizes}))

    def parameters(self) -> int:
        """How many weights the network has; makes none of them."""
        with torch.device("meta"):
            return parameter_count(self.network())

    def to_json(self) -> str:
        content = asdict(self) | {"format": FORMAT, "space": flat(self.space)}
        return json.dumps(
            {key: content[key] for key in ("format", "space", "choices", "score", "provenance")}, indent=1
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Reads and checks an architecture; ``where`` names its origin in an error.

        Raises:
            InputError: not JSON, another format, or a choice that the space does not have.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{where}, line {error.lineno}: not an architecture: the JSON ends or breaks here"
            ) from None
        if not isinstance(content, dict) or "format" not in content:
            raise InputError(f"{where}: not an architecture: expected a JSON object with the key 'format'")
        if content["format"] != FORMAT:
            raise InputError(f"{where}: format {content['format']!r}, but this version reads format {FORMAT}")
        if missing := {"space", "choices"} - content.keys():
            raise InputError(f"{where}: not a whole architecture: the key '{min(missing)}' is missing")
        if unknown := content.keys() - {"format", "space", "choices", "score", "provenance"}:
            raise InputError(f"{where}: unknown key '{min(unknown)}'")
        if not isinstance(content["choices"], dict) or not isinstance(content["space"], dict):
            raise InputError(f"{where}: 'space' and 'choices' must be objects")
        if not isinstance(score := content.get("score"), int | float | None) or isinstance(score, bool):
            raise InputError(f"{where}: 'score' is {score!r}, expected a number or null")
        if not isinstance(provenance := content.get("provenance", {}), dict):
            raise InputError(f"{where}: 'provenance' is {provenance!r}, expected an object")
        space = unflat(content["space"], where)
        check(content["choices"], space, where)
        return cls(space, content["choices"], score, provenance)

    def save(self, path: Path | str) -> None:
        """Writes the file whole or not at all."""
        write_text(Path(path), self.to_json() + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        return cls.from_json(read_text(Path(path)), str(path))


def flat(space: Space) -> dict[str, Any]:
    sections = space.backbone.model_dump() | space.network.model_dump() | space.data.model_dump()
    return sections | {"encoder": space.encoder.model_dump()}


def unflat(content: dict[str, Any], where: str) -> Space:
    """The typed form of the key ``space``."""
    network = {key: content[key] for key in NetworkSettings.model_fields if key in content}
    data = {key: content[key] for key in DataSizes.model_fields if key in content}
    encoder = {"encoder": content["encoder"]} if "encoder" in content else {}
    known = network.keys() | data.keys() | encoder.keys()
    backbone = {key: value for key, value in content.items() if key not in known}
    absent = [key for key in NetworkSettings.model_fields if key not in network]
    if absent:
        raise InputError(f"{where}: space.{absent[0]} is missing")
    try:
        return Space(backbone=backbone, network=network, data=data, **encoder)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        # What the file does not have: sections but the encoder's, and the names by which pydantic tells spaces apart.
        left_out = {"backbone", "network", "data", *SPACES, *ENCODERS}
        key = ".".join(str(part) for part in first["loc"] if part not in left_out) or "name"
        raise InputError(f"{where}: space.{key}: {first['msg']} (it is {first['input']!r})") from None


def candidates(space: Space) -> dict[str, list]:
    """The candidates of every label of a space."""
    with torch.device("meta"):  # only to ask for its choices
        network = space.build()
    return {
        label: [[value] for value in mutable.values]
        if isinstance(mutable, CategoricalMultiple)
        else list(mutable.values)
        for label, mutable in network.simplify().items()
    }


def check(choices: Choices, space: Space, where: str) -> None:
    """Holds every choice against the space, by name.

    Raises:
        InputError: a label that the space does not have or that is missing, a candidate that it does not have.
    """
    allowed = candidates(space)
    for label, chosen in choices.items():
        if label not in allowed:
            near = difflib.get_close_matches(label, allowed, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise InputError(f"{where}: choices: the space '{space.backbone.name}' has no choice '{label}'{hint}")
        if chosen not in allowed[label]:
            raise InputError(
                f"{where}: choices.{label}: unknown candidate {chosen!r}, expected one of "
                + ", ".join(str(candidate) for candidate in allowed[label])
            )
    if missing := [label for label in allowed if label not in choices]:
        raise InputError(f"{where}: choices: '{missing[0]}' is missing ({len(missing)} of {len(allowed)} are)")


def random_choices(space: Space, seed: int) -> Choices:
    """A uniform draw from the space."""
    generator = random.Random(seed)
    return {label: generator.choice(values) for label, values in candidates(space).items()}
