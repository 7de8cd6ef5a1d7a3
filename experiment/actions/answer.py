"""Questions about one image: the best answers, and a picture of where the network looked."""

import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from experiment.networks import LoadedNetwork, load_network
from experiment.settings import read_settings
from model_space.errors import InputError
from model_space.files import write_whole
from trainer.data.features.npz import read_npz
from trainer.data.pictures.extractor import identity
from trainer.data.pictures.reading import read_picture
from trainer.evaluation.predict import Prediction, predict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = (".png", ".svg", ".pdf")
NAMED = 3
"""Number of boxes whose share of the attention is written beside them."""
COLUMNS = 4
"""Number of the small pictures in a row."""
RED = (0.85, 0.1, 0.1)
SAME_SHAPE = 0.02
"""How far the ratio of a photo's sides may be from that of the image of the features: sizes are rounded."""


class Image(NamedTuple):
    """An image as the network sees it."""

    features: NDArray[np.floating]
    """Features of its regions, ``(N, D)``."""
    boxes: NDArray[np.float32]
    """Their corners in pixels, ``(N, 4)``."""
    size: tuple[float, float]
    """Width and height in pixels."""
    photo: NDArray[np.uint8] | None
    """Its pixels, ``(height, width, 3)``, to draw on; None for an empty canvas."""


def run(
    console: Console,
    checkpoint: Path,
    *,
    settings: Path,
    image: Path | None = None,
    photo: Path | None = None,
    question: str | None = None,
    picture: Path | None = None,
    output: Path | None = None,
    architecture: Path | None = None,
) -> None:
    """Prints the best answers with their probabilities, and draws the attention over the regions.

    Args:
        console: Where the answers are printed.
        checkpoint: The network that is asked.
        settings: Settings file that says what makes features of a photo (``data.pictures``) and, unless a model folder
            does, how many words and regions networks are given (``data.max_tokens``, ``data.max_regions``).
        image: Features of the image, ``.npz``.
        photo: The image itself, in place of its features.
        question: The question; None for those that the terminal gives, a line each, until its end.
        picture: The image itself, to draw on, beside its features; None for an empty canvas.
        output: Where the drawing goes, as PNG, SVG or PDF by its suffix; None for ``runs/answer.png``. Of several
            questions each has a drawing of its own, ``answer-2.png`` and so on.
        architecture: The architecture of a published checkpoint, if not in the settings.

    Raises:
        InputError: A file is missing or wrong, or does not fit the others.
    """
    output = output or Path("runs/answer.png")
    if output.suffix not in PICTURES:
        raise InputError(f"{output}: a picture's name ends in one of {', '.join(PICTURES)}")
    if (image is None) == (photo is None):
        raise InputError("--answer needs either --photo PHOTO or --image FEATURES")
    if photo and picture:
        raise InputError("--picture is for features (--image): it is drawn on --photo itself")
    read = read_settings(settings)
    loaded = load_network(console, checkpoint, read, architecture)
    shown = _of_photo(photo, loaded, settings) if photo else _of_features(cast(Path, image), picture, loaded)
    for number, asked in enumerate([question] if question is not None else questions(console), start=1):
        path = output if number == 1 else output.with_stem(f"{output.stem}-{number}")
        answer(console, loaded, shown, asked, loaded.data.max_tokens, path)


def questions(console: Console) -> Iterator[str]:
    """Yields the questions that are typed, or come from a file, until there are no more."""
    at_terminal = sys.stdin.isatty()
    while True:
        try:
            question = input("question: " if at_terminal else "").strip()
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise InputError(f"the questions are no text in {error.encoding}") from None
        if question and not at_terminal:
            console.print(question, markup=False)
        if question:
            yield question


def _of_photo(path: Path, loaded: LoadedNetwork, where: Path) -> Image:
    """Returns a photo with the features that the network was trained on."""
    pictures = loaded.data.pictures
    if pictures is None:
        raise InputError(f"{where}: data.pictures is missing, which says how features are made of --photo {path}")
    if loaded.extractor is None:
        raise InputError(
            f"{loaded.checkpoint}: it is not known how the features were made that it was trained on: ask with --image"
        )
    photo = read_picture(path)
    extractor = pictures.extractor()
    (made,) = extractor([photo])
    loaded.check_features(made.features.shape[1], identity(pictures, extractor), f"--photo by data.pictures of {where}")
    features = made.features.astype(np.float16)  # as they are packed
    return _cut(Image(features, made.boxes, made.size, np.asarray(photo)), loaded)


def _of_features(path: Path, picture: Path | None, loaded: LoadedNetwork) -> Image:
    """Returns the image of a file of features, with the photo that is drawn on."""
    features, boxes, size = read_npz(path, form=loaded.data.form)
    loaded.check_features(features.shape[1], None, str(path))
    return _cut(Image(features, boxes, size, None if picture is None else read_photo(picture, size)), loaded)


def _cut(image: Image, loaded: LoadedNetwork) -> Image:
    most = loaded.data.max_regions
    return image._replace(features=image.features[:most], boxes=image.boxes[:most])


def answer(console: Console, loaded: LoadedNetwork, image: Image, question: str, max_tokens: int, output: Path) -> None:
    """Answers one question about an image, and draws where the network looked."""
    # Bytes that were no text in the terminal's encoding reach Python as halves of letters, which nothing can print.
    question = question.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    regions, boxes = torch.from_numpy(image.features), torch.from_numpy(image.boxes)
    reply = predict(loaded.network, loaded.vocabulary, regions, boxes, question, max_tokens)
    for sentence in remarks(reply):
        console.print(sentence, markup=False)
    for text, probability in reply.answers:
        console.print(f"{100 * probability:6.2f} %  {text}", markup=False)
    title = f"{shorten(question, 150, placeholder=' ...')}\n{reply.answers[0][0]}"
    draw(image.boxes, reply, image.size, image.photo, title, output)
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
    pixels = np.asarray(read_picture(path))
    height, width = pixels.shape[:2]
    if abs(width / height * size[1] / size[0] - 1) > SAME_SHAPE:
        raise InputError(
            f"{path}: is {width} × {height}, the image of the features {size[0]:g} × {size[1]:g}: not the same image"
        )
    return pixels


def draw(
    boxes: NDArray[np.float32],
    reply: Prediction,
    size: tuple[float, float],
    photo: NDArray[np.uint8] | None,
    title: str,
    path: Path,
) -> None:
    """Draws the regions on the photo or an empty canvas of ``size`` pixels, the stronger the more they are attended to:
    large, where the image is flattened; small below it, in each attention before that.

    Raises:
        InputError: The picture cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    width, height = size
    shape = min(height / width, 2)
    rows = -(-len(reply.attentions) // COLUMNS)
    heights = [8 * shape, *[8 / COLUMNS * shape] * rows]
    # What a user asks may hold dollars, which are no formula, and letters that the font does not have.
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings(action="ignore"):
        figure = Figure(figsize=(8, sum(heights) + 0.6 + 0.3 * rows), layout="constrained")
        grid = figure.add_gridspec(1 + rows, COLUMNS, height_ratios=heights)
        panels = [(grid[0, :], title, reply.attention)]
        for place, (name, attention) in enumerate(reply.attentions):
            words = f"{place + 1}. {re.sub('(?<=.)(?=[A-Z])', ' ', name).lower()}"
            panels.append((grid[1 + place // COLUMNS, place % COLUMNS], words, attention))
        for position, words, attention in panels:
            axes = figure.add_subplot(position)
            axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=(), yticks=())
            axes.set_title(words, wrap=True, fontsize=None if words is title else 7)
            if photo is not None:
                axes.imshow(photo, extent=(0, width, height, 0))
            draw_attention(axes, boxes, attention.numpy(), NAMED if words is title else 0)
        with write_whole(path) as partial:
            figure.savefig(partial, format=path.suffix.removeprefix("."))


def draw_attention(axes: "Axes", boxes: NDArray[np.float32], attention: NDArray[np.float32], named: int) -> None:
    """Draws each box as strong as its share of the attention, and writes the shares of the strongest ones."""
    from matplotlib.patches import Rectangle

    scale = 1.0 if named else 0.4
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
                linewidth=scale * (0.5 + 2.5 * strong),
            )
        )
        if rank > -named:
            share_in_words = f"{100 * share:.0f} %"
            axes.text(x, y, share_in_words, color="white", backgroundcolor=(*RED, 0.8), fontsize=8, va="top")
