"""One question about one image: the best answers, and a picture of where the network looked."""

import warnings
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from experiment.networks import check_width, load_network
from experiment.settings import read_settings
from model_space.errors import InputError
from model_space.files import write_whole
from trainer.data.features.npz import read_npz
from trainer.evaluation.predict import Prediction, predict

PICTURES = (".png", ".svg", ".pdf")
NAMED = 3
"""Number of boxes whose share of the attention is written beside them."""
RED = (0.85, 0.1, 0.1)
SAME_SHAPE = 0.02
"""How far the ratio of a photo's sides may be from that of the image of the features: sizes are rounded."""


def run(
    console: Console,
    checkpoint: Path,
    *,
    settings: Path,
    image: Path,
    question: str,
    picture: Path | None = None,
    output: Path | None = None,
    architecture: Path | None = None,
) -> None:
    """Prints the best answers with their probabilities, and draws the attention over the regions.

    Args:
        console: Where the answers are printed.
        checkpoint: The network that is asked.
        settings: Settings file that says how many words and regions networks are given (``data.max_tokens``,
            ``data.max_regions``), unless a model folder says it.
        image: Features of the image, ``.npz``.
        question: The question.
        picture: The image itself, to draw on; None for an empty canvas.
        output: Where the drawing goes, as PNG, SVG or PDF by its suffix; None for ``runs/answer.png``.
        architecture: The architecture of a published checkpoint, if not in the settings.

    Raises:
        InputError: A file is missing or wrong, or does not fit the others.
    """
    output = output or Path("runs/answer.png")
    if output.suffix not in PICTURES:
        raise InputError(f"{output}: a picture's name ends in one of {', '.join(PICTURES)}")
    # Bytes that were no text in the terminal's encoding reach Python as halves of letters, which nothing can print.
    question = question.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    read = read_settings(settings)
    network, vocabulary, _, data = load_network(console, checkpoint, read, architecture)
    features, boxes, size = read_npz(image, form=data.form)
    features, boxes = features[: data.max_regions], boxes[: data.max_regions]
    check_width(network, features.shape[1], checkpoint, str(image))
    photograph = None if picture is None else read_photo(picture, size)

    reply = predict(network, vocabulary, torch.from_numpy(features), torch.from_numpy(boxes), question, data.max_tokens)
    for sentence in remarks(reply):
        console.print(sentence, markup=False)
    for text, probability in reply.answers:
        console.print(f"{100 * probability:6.2f} %  {text}", markup=False)
    title = f"{shorten(question, 150, placeholder=' ...')}\n{reply.answers[0][0]}"
    draw(boxes, reply.attention.numpy(), size, photograph, title, output)
    console.print(f"where it looked: {output}", markup=False)


def remarks(reply: Prediction) -> list[str]:
    """Returns sentences about the question, where the network was not given it as it is."""
    said = []
    if not reply.read:
        said.append("the question has no words: it is one unknown word to the network")
    if reply.unknown:
        said.append(f"unknown words: {', '.join(reply.unknown)}")
    if reply.left_out:
        all_words = len(reply.read) + reply.left_out
        said.append(f"the first {len(reply.read)} of {all_words} words are read; the last is '{reply.read[-1]}'")
    return said


def read_photo(path: Path, size: tuple[float, float]) -> NDArray[np.uint8]:
    """Returns the pixels of a photo, ``(height, width, 3)``.

    Args:
        path: The photo.
        size: Width and height of the image that the features are of. The photo may be larger or smaller, and has the
            same shape.

    Raises:
        InputError: The file is not a picture, or one of another shape.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except Exception as error:  # Pillow has many errors for a broken file
        reason = getattr(error, "strerror", None) or "not a whole picture in a form that Pillow reads"
        raise InputError(f"{path}: cannot be read: {reason}") from None
    height, width = pixels.shape[:2]
    if abs(width / height * size[1] / size[0] - 1) > SAME_SHAPE:
        raise InputError(
            f"{path}: is {width} × {height}, the image of the features {size[0]:g} × {size[1]:g}: not the same image"
        )
    return pixels


def draw(
    boxes: NDArray[np.float32],
    attention: NDArray[np.float32],
    size: tuple[float, float],
    photo: NDArray[np.uint8] | None,
    title: str,
    path: Path,
) -> None:
    """Draws the boxes, the stronger the more they are attended to, on the photo or an empty canvas of ``size`` pixels.

    Raises:
        InputError: The picture cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    width, height = size
    # What a user asks may hold dollars, which are no formula, and letters that the font does not have.
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings(action="ignore"):
        figure = Figure(figsize=(8, 8 * min(height / width, 2) + 0.6), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=(), yticks=())
        axes.set_title(title, wrap=True)
        if photo is not None:
            axes.imshow(photo, extent=(0, width, height, 0))
        order = np.argsort(attention)  # the most attended to is drawn last, above the others
        for rank, place in enumerate(order, start=1 - len(order)):
            (x, y, right, bottom), share = boxes[place], attention[place]
            strong = share / attention.max()
            axes.add_patch(
                Rectangle(
                    (x, y),
                    right - x,
                    bottom - y,
                    edgecolor=(*RED, 0.1 + 0.9 * strong),
                    facecolor=(*RED, 0.25 * strong),
                    linewidth=0.5 + 2.5 * strong,
                )
            )
            if rank > -NAMED:
                axes.text(x, y, f"{100 * share:.0f} %", color="white", backgroundcolor=(*RED, 0.8), fontsize=8)
        with write_whole(path) as partial:
            figure.savefig(partial, format=path.suffix.removeprefix("."))
