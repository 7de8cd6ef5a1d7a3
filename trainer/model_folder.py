"""A trained network as a folder that can be given away: JSON and safetensors, nothing that could run.

Its files have the names that Hugging Face's hub gives them: ``model.safetensors`` has the weights, ``config.json`` the
words and answers and how many words and regions the network reads, and ``architecture.json`` the architecture. The
model card beside them, ``README.md``, is written by ``launch.py --export-model``, and is not needed to load.
"""

import hashlib
import json
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pydantic
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save

from model_space.architecture import Architecture
from model_space.errors import InputError
from model_space.files import read_json, write_text, write_whole
from model_space.network import Network
from model_space.validation import explained
from trainer.data.safetensors_file import open_safetensors
from trainer.data.vocabulary import Vocabulary

FORMAT: Final = 1
"""The version of the form of the folder."""
ARCHITECTURE, CONFIG, WEIGHTS = "architecture.json", "config.json", "model.safetensors"


class Reads(BaseModel):
    """What a network reads: how much of a question and of an image, and whose features."""

    model_config = ConfigDict(frozen=True)

    max_tokens: int = Field(ge=1, le=10_000, strict=True)
    """Number of words of a question, the first ones."""
    max_regions: int = Field(ge=1, le=100_000, strict=True)
    """Number of regions of an image, the first ones."""
    extractor: str | None = None
    """What made the features that it was trained on, if that is known."""


class Config(Reads):
    """The content of ``config.json``. Keys that others add to it are left alone."""

    format: Literal[1] = FORMAT
    words: list[str]
    """The words in the order of their indices."""
    answers: list[str]
    """The answers in the order of the logits."""
    weights_sha256: str
    """The checksum of the file of the weights: a number that is another one by a single bit looks like any number."""


class ModelFolder(NamedTuple):
    """What a model folder holds."""

    network: Network
    """The network, on the CPU and in evaluation mode."""
    vocabulary: Vocabulary
    architecture: Architecture
    reads: Reads


def write_model(folder: Path, content: ModelFolder) -> None:
    """Writes the three files of a network into a folder.

    Args:
        folder: The folder.
        content: The network with all that it needs.

    Raises:
        InputError: A file cannot be written, or a weight is not a finite number.
    """
    network, vocabulary, architecture, reads = content
    weights = {name: weight.detach().cpu().contiguous() for name, weight in network.state_dict().items()}
    for name, weight in weights.items():
        refuse_not_finite(weight, name, str(folder))
    architecture.save(folder / ARCHITECTURE)
    with write_whole(folder / WEIGHTS) as partial:
        # Weights of the same shapes fit other architectures, and as many words in another order: with what they belong.
        alone = Architecture(space=architecture.space, choices=architecture.choices)
        metadata = {"format": "pt", "architecture": alone.to_json(), "vocabulary": vocabulary.digest}
        partial.write_bytes(save(weights, metadata=metadata))
    config = {"format": FORMAT, **reads.model_dump(), "weights_sha256": checksum(folder / WEIGHTS)}
    write_text(folder / CONFIG, json.dumps(config | vocabulary.to_dict(), indent=1, ensure_ascii=False) + "\n")


def load(folder: Path | str) -> Network:
    """Returns the network of a model folder, on the CPU and in evaluation mode.

    Nothing of the folder is run, and each weight is the one that was written, bit for bit.

    Raises:
        InputError: A file is missing or broken, or the files do not belong together.

    Example:
        >>> from trainer.data.vocabulary import Vocabulary
        >>> from trainer.evaluation.predict import predict
        >>> def answer(folder, regions, boxes, question):  # (N, D) and (N, 4), as in the .npz files
        ...     vocabulary = Vocabulary.load(Path(folder) / "config.json")
        ...     return predict(load(folder), vocabulary, regions, boxes, question, max_tokens=14).answers
    """
    return load_model(Path(folder)).network


def load_model(folder: Path) -> ModelFolder:
    """Returns all that a model folder holds.

    Raises:
        InputError: A file is missing or broken, or the files do not belong together.
    """
    for name in (ARCHITECTURE, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: not the folder of a network: '{name}' is missing")
    config = _read_config(folder / CONFIG)
    vocabulary = Vocabulary.from_dict(config.model_dump(include={"words", "answers"}), str(folder / CONFIG))
    architecture = Architecture.load(folder / ARCHITECTURE)
    sizes = architecture.space.data
    if (len(vocabulary.words), len(vocabulary.answers)) != (sizes.vocabulary_size, sizes.answers):
        raise InputError(
            f"{folder / CONFIG}: {len(vocabulary.words)} words and {len(vocabulary.answers)} answers, where the "
            f"network of {ARCHITECTURE} has {sizes.vocabulary_size} and {sizes.answers}"
        )
    reads = Reads(**config.model_dump(include=set(Reads.model_fields)))
    network = _network(folder / WEIGHTS, architecture, vocabulary)
    if checksum(folder / WEIGHTS) != config.weights_sha256:
        raise InputError(f"{folder / WEIGHTS}: damaged: its checksum is not the one in {CONFIG}")
    return ModelFolder(network, vocabulary, architecture, reads)


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits. It takes a second or two a gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(path: Path) -> Config:
    content = read_json(path, "a configuration")
    try:
        return Config.model_validate(content)
    except pydantic.ValidationError as error:
        if not isinstance(content, dict):
            raise InputError(f"{path}: not a configuration: expected a JSON object") from None
        raise InputError(f"{path}: {explained(error, Config, content)[1]}") from None


def _network(path: Path, architecture: Architecture, vocabulary: Vocabulary) -> Network:
    """Returns the network with the weights of a file, all of which are compared before any memory is taken."""
    with torch.device("meta"):
        expected = architecture.network().state_dict()
    with open_safetensors(path, "weights") as file:
        names = set(file.keys())
        wrong = [f"'{name}' is missing" for name in expected if name not in names]
        wrong += [f"'{name}' is none of its weights" for name in sorted(names - expected.keys())]
        if wrong:
            raise InputError(f"{path}: not the weights of {ARCHITECTURE}: {wrong[0]} ({len(wrong)} such names)")
        for name, weight in expected.items():
            shape = file.get_slice(name).get_shape()
            if shape != list(weight.shape):
                raise InputError(
                    f"{path}: not the weights of {ARCHITECTURE}: '{name}' has the shape {shape}, expected "
                    f"{list(weight.shape)}"
                )
        _refuse_others(file.metadata() or {}, path, architecture, vocabulary)
        weights = {name: file.get_tensor(name) for name in expected}
    for name, weight in weights.items():
        if weight.dtype != expected[name].dtype:
            raise InputError(f"{path}: '{name}' is of {weight.dtype}, expected {expected[name].dtype}")
        refuse_not_finite(weight, name, str(path))
    network = architecture.network()
    network.load_state_dict(weights)
    return network.eval()


def _refuse_others(metadata: dict[str, str], path: Path, architecture: Architecture, vocabulary: Vocabulary) -> None:
    """Refuses weights that were written beside another architecture or other words and answers."""
    for key, beside in {"architecture": ARCHITECTURE, "vocabulary": CONFIG}.items():
        if key not in metadata:
            raise InputError(f"{path}: does not say to which {beside} its weights belong: not written by this package")
    own = Architecture.from_json(metadata["architecture"], str(path))
    if (own.space, own.choices) != (architecture.space, architecture.choices):
        raise InputError(f"{path}: its weights belong to another {ARCHITECTURE} than the one beside it")
    if metadata["vocabulary"] != vocabulary.digest:
        raise InputError(f"{path}: its weights belong to another {CONFIG} than the one beside it")


def refuse_not_finite(weight: torch.Tensor, name: str, where: str) -> None:
    """Refuses a weight with a number that is none.

    Raises:
        InputError: It has one.
    """
    if not weight.isfinite().all():
        raise InputError(f"{where}: '{name}' has a number that is not finite")
