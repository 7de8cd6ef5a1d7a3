"""An architecture: a point of a space, as a JSON file from which its network is built."""

import json
import math
import random
from pathlib import Path
from typing import Any, Final, Literal, Self

import pydantic
import torch
from nni.mutable import CategoricalMultiple
from nni.nas.space import model_context
from pydantic import BaseModel, ConfigDict, Field

from model_space.architecture_format1 import from_format1
from model_space.contracts import Choices
from model_space.encoders import AnyEncoder
from model_space.encoders.lstm import LSTMSettings
from model_space.errors import InputError
from model_space.files import parse_json, read_text, write_text
from model_space.network import Network, parameter_count
from model_space.sizes import DataSizes, NetworkSettings
from model_space.spaces import AnyBackbone
from model_space.validation import cut, explained, hint, shown

FORMAT: Final = 2
"""The version of the form in which architectures are written."""


class Space(BaseModel):
    """A space of whole networks: its backbone, its question encoder, the sizes of the network and of the data.

    Example:
        >>> from model_space.spaces.stacked import StackedSettings
        >>> data = DataSizes(feature_size=2048, vocabulary_size=20_000, answers=3129)
        >>> space = Space(backbone=StackedSettings(cells=1, nodes=1), network=NetworkSettings(), data=data)
        >>> space.candidates()["image_node1_from0"]
        ['none', 'identity', 'feed_forward', 'self_attention', 'guided_attention']
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: AnyBackbone
    """The space of the middle of the network, or a fixed network."""
    encoder: AnyEncoder = LSTMSettings()
    """The question encoder, searched or fixed."""
    network: NetworkSettings
    """The sizes of the network."""
    data: DataSizes
    """The sizes that the data fixes."""

    def build(self) -> Network:
        """Returns the space as an NNI model space.

        Under :func:`nni.nas.space.model_context` it returns the network of one architecture.
        """
        return Network(self.backbone, self.encoder, self.network, self.data)

    def candidates(self) -> dict[str, list]:
        """Returns the candidates of every choice by its label; empty where nothing is to be chosen."""
        with torch.device("meta"):  # the choices are needed, and no weights
            network = self.build()
        return {
            str(label): [[value] for value in mutable.values]
            if isinstance(mutable, CategoricalMultiple)
            else list(mutable.values)
            for label, mutable in network.simplify().items()
        }

    def size(self) -> int:
        """Returns how many architectures it has: the product of the numbers of candidates over its labels."""
        return math.prod(map(len, self.candidates().values()))

    def parameters(self) -> int:
        """Returns how many weights the supernet has, or the network if it is a fixed one, and makes none of them."""
        with torch.device("meta"):
            return parameter_count(self.build())

    def random_choices(self, seed: int) -> Choices:
        """Returns choices that are sampled uniformly; a seed gives the same ones each time."""
        generator = random.Random(seed)
        return {label: generator.choice(values) for label, values in self.candidates().items()}

    def check(self, choices: Choices, where: str) -> None:
        """Checks that every choice is one of the space, and none is missing.

        Args:
            choices: What is to be checked.
            where: Names the origin of the choices in an error.

        Raises:
            InputError: A label is missing or unknown, or a candidate is.
        """
        allowed = self.candidates()
        for label, chosen in choices.items():
            if label not in allowed:
                near = hint(label, allowed) if allowed else ""
                raise InputError(
                    f"{where}: choices: the space '{self.backbone.name}' has no choice '{cut(label)}'{near}"
                )
            # By their text too, because False and 0.0 equal the position 0.
            if chosen not in allowed[label] or repr(chosen) not in map(repr, allowed[label]):
                raise InputError(
                    f"{where}: choices.{label}: unknown candidate {shown(chosen)}, expected one of "
                    + ", ".join(str(candidate) for candidate in allowed[label])
                )
        if missing := [label for label in allowed if label not in choices]:
            raise InputError(f"{where}: choices: '{missing[0]}' is missing ({len(missing)} of {len(allowed)} are)")


class Architecture(BaseModel):
    """A point of a space: the candidate that each choice takes.

    Example:
        >>> from model_space.spaces.stacked import StackedSettings
        >>> backbone = StackedSettings(edges="one", cells=1, nodes=2)
        >>> data = DataSizes(feature_size=2048, vocabulary_size=20_000, answers=3129)
        >>> space = Space(backbone=backbone, network=NetworkSettings(), data=data)
        >>> file = Path("architecture.json")
        >>> Architecture(space=space, choices=space.random_choices(seed=0)).save(file)
        >>> architecture = Architecture.load(file)
        >>> architecture.choices["image_node1_input"]
        [0]
        >>> network = architecture.network()  # with new weights
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = FORMAT
    """The version of the file's form."""
    space: Space
    choices: Choices
    """Label → chosen candidate, as NNI exports it."""
    score: float | None = Field(None, strict=True, allow_inf_nan=False)
    """Accuracy in percent by which it was chosen; None where it was not chosen by one."""
    provenance: dict[str, Any] = {}
    """Where it comes from: experiment, trial, strategy, seed, settings, versions, date."""

    def network(self) -> Network:
        """Returns a network of this architecture, with new weights."""
        with model_context(self.choices):
            return self.space.build()

    def for_data(self, sizes: DataSizes) -> Self:
        """Returns the same architecture for data of other sizes."""
        return self.model_copy(update={"space": self.space.model_copy(update={"data": sizes})})

    def parameters(self) -> int:
        """Returns how many weights the network has, and makes none of them."""
        with torch.device("meta"):
            return parameter_count(self.network())

    def to_json(self) -> str:
        """Returns the content of the architecture's file."""
        return json.dumps(self.model_dump(mode="json"), indent=1)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Reads and checks an architecture.

        Args:
            text: The content of a file, of this format or of format 1.
            where: Names the origin of the text in an error.

        Raises:
            InputError: The text is not JSON, of another format, or has a choice that the space does not have.
        """
        content = parse_json(text, where, "an architecture")
        if not isinstance(content, dict) or "format" not in content:
            raise InputError(f"{where}: not an architecture: expected a JSON object with the key 'format'")
        if content["format"] == 1:
            content = from_format1(content, where)
        if content["format"] != FORMAT:
            raise InputError(
                f"{where}: format {shown(content['format'])}, but this version reads the formats 1 and {FORMAT}"
            )
        try:
            architecture = cls.model_validate(content)
            architecture.to_json()  # what is read can be written again
        except pydantic.ValidationError as error:
            raise InputError(f"{where}: {explained(error, cls, content)[1]}") from None
        except (ValueError, RecursionError):
            raise InputError(f"{where}: provenance is nested too deeply") from None
        architecture.space.check(architecture.choices, where)
        return architecture

    def save(self, path: Path | str) -> None:
        """Writes the architecture's file whole or not at all.

        Raises:
            InputError: The file cannot be written.
        """
        write_text(Path(path), self.to_json() + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Reads an architecture's file.

        Raises:
            InputError: The file cannot be read, or is not an architecture.
        """
        return cls.from_json(read_text(Path(path)), str(path))
