"""``launch.py --export-onnx``: a network as an ONNX file, which needs neither this package nor torch."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from experiment.networks import load_network
from experiment.settings import read_settings
from model_space.errors import InputError
from model_space.files import check_writable, write_whole
from model_space.network import Network
from model_space.onnx_form import INPUTS, OPSET, OUTPUT, onnx_form

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
EXPORTED = (3, 7, 5)
"""Numbers of questions, regions and words of the batch that torch follows through the network."""
CHECKED = ((3, 7, 5), (1, 1, 1), (1, 36, 14), (4, 100, 14), (2, 1, 30))
TOLERANCE = 1e-4
"""The largest difference that is allowed, as a share of the largest logit, or of 1."""


def run(console: Console, checkpoint_and_file: list[Path], *, settings: Path, architecture: Path | None = None) -> None:
    """Writes the network as ONNX, and checks it against torch at other sizes than it was exported with.

    The file's metadata hold the words and answers as JSON, under ``vocabulary``.

    Args:
        console: Where differences are printed.
        checkpoint_and_file: The network, and where its ONNX file is written.
        settings: Settings file, for a published checkpoint.
        architecture: The architecture of a published checkpoint, if not in the settings.

    Raises:
        InputError: A package is missing, the checkpoint is wrong, what ONNX computes differs, or the file cannot be
            written.
    """
    checkpoint, file = checkpoint_and_file
    for package in PACKAGES:
        try:
            __import__(package)
        except ModuleNotFoundError:
            raise InputError(f"--export-onnx: '{package}' is not installed: pip install {' '.join(PACKAGES)}") from None
    check_writable(file)
    loaded = load_network(console, checkpoint, read_settings(settings), architecture)
    network, vocabulary = loaded.network.cpu(), loaded.vocabulary
    with write_whole(file) as partial:
        with console.status("exporting"):
            write(network, {"vocabulary": json.dumps(vocabulary.to_dict())}, partial)
        for sizes in CHECKED:
            largest, allowed = difference(partial, network, sizes)
            if not largest <= allowed:  # also where it is no number
                raise InputError(f"{file}: what ONNX computes differs by {largest:.1e}: nothing written")
            console.print("{} × {} regions × {} words: largest difference {:.1e}".format(*sizes, largest))
    console.print(f"network: {file}", markup=False)


def write(network: Network, metadata: dict[str, str], file: Path) -> None:
    with quiet():
        program = torch.onnx.export(
            onnx_form(network),
            tuple(random_batch(network, *EXPORTED)),
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes=dynamic_shapes(),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program  # dynamo returns one
    program.model.metadata_props.update(metadata)
    program.save(file)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the notes of the exporter on itself, as long as the block lasts."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def dynamic_shapes() -> tuple[dict[int, torch.export.Dim], ...]:
    batch, regions, words = (torch.export.Dim(name) for name in ("batch", "regions", "tokens"))
    image, question = {0: batch, 1: regions}, {0: batch, 1: words}
    return image, image, question, question, image


def random_batch(network: Network, questions: int, regions: int, words: int) -> list[Tensor]:
    """Returns the inputs of a network in the order of ``INPUTS``. All rows but the first are padded at random."""

    def mask(positions: int) -> Tensor:
        real = torch.randint(1, positions + 1, (questions, 1))
        real[0] = positions
        return torch.arange(positions) < real

    region_mask, token_mask = mask(regions), mask(words)
    features = torch.randn(questions, regions, network.image_projection.in_features)
    tokens = torch.randint(1, network.question_encoder.embedding.num_embeddings, (questions, words))
    corner, side = 100 * torch.rand(2, questions, regions, 2) + 1
    boxes = torch.cat([corner, corner + side], dim=-1)
    in_image = region_mask.unsqueeze(-1)
    return [features * in_image, region_mask, tokens * token_mask, token_mask, boxes * in_image]


@torch.inference_mode()
def difference(file: Path, network: Network, sizes: tuple[int, int, int]) -> tuple[float, float]:
    """Returns the largest difference between the logits of onnxruntime and torch, and the largest that is allowed."""
    import onnxruntime

    batch = random_batch(network, *sizes)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: value.numpy() for name, value in zip(INPUTS, batch, strict=True)})
    expected = network(*batch)
    largest = (torch.from_numpy(found) - expected).abs().max().item()
    return largest, TOLERANCE * max(1.0, expected.abs().max().item())
