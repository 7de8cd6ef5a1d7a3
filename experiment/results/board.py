"""What TensorBoard shows of a search beside its figures: how its choices become decided, and what would be derived."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from experiment.results.drawing import svg
from experiment.results.drawing.picture import INK, SOFT
from experiment.results.drawing.raster import encoded, font, png
from model_space.architecture import Architecture, Space
from trainer.callbacks.curve import Epoch
from trainer.callbacks.tensorboard import Pictures

# All lengths are in pixels of the image at the end.
ROW, GAP, SIZE = 15, 6, 11  # height of a candidate's row, distance between choices, size of the letters
NAMES, FIGURES, TOP = 215, 40, 40  # width of the names and of the percentages, height of what is above the rows
PLOT, WIDEST = 420, 24  # width of the epochs together, and of one at most
COLUMN = 1400  # height of the rows above which there is another column of choices
LIGHT, DARK = np.array([228, 236, 244]), np.array([11, 98, 164])  # the colours of the probabilities 0 and 1


def pictures(space: Space) -> Pictures:
    """Returns what draws a search of a space: image by its tag in TensorBoard, from the curve so far.

    The probabilities are drawn each epoch, the derived architecture when it has changed.
    """
    return {"architecture/probabilities": heat_map, "architecture/derived": partial(derived, space)}


def derived(space: Space, curve: Sequence[Epoch]) -> bytes | None:
    """Returns the PNG of the architecture that the last epoch would derive; None where it is that of the one before."""
    last = curve[-1]
    if len(curve) > 1 and curve[-2]["choices"] == last["choices"]:
        return None
    architecture = Architecture(space=space, choices=last["choices"], provenance={"epoch": last["epoch"]})
    return png(svg(architecture))


def heat_map(curve: Sequence[Epoch]) -> bytes:
    """Returns the PNG of the probability of every candidate of every choice, over the epochs so far.

    A row is a candidate, a column an epoch, and the darker a cell, the more probable the candidate. At the end of a row
    is the percentage of the last epoch; it is bold for the most probable candidate of a choice. A choice of one
    candidate is none and is left out.
    """
    last = curve[-1]
    choices = {label: list(each) for label, each in last["probabilities"].items() if len(each) > 1}
    columns = _columns({label: _height(candidates) for label, candidates in choices.items()})
    plot = round(min(WIDEST * last["epochs"], PLOT))  # as wide from the first epoch on
    width = NAMES + plot + FIGURES
    height = TOP + max(sum(_height(choices[label]) for label in labels) for labels in columns) + GAP
    image = Image.new("RGB", (width * len(columns), height), "white")
    pen = ImageDraw.Draw(image)

    def write(x: float, y: float, words: str, anchor: str = "ls", colour: str = INK, bold: bool = False) -> None:
        for shift in (0, 0.5) if bold else (0,):
            pen.text((x + shift, y), words, colour, font(SIZE), anchor)

    title = f"probability of each candidate, epoch {last['epoch']} of {last['epochs']}"
    write(8, 16, title, bold=True)
    write(8, 31, "the darker, the more probable; a column an epoch", colour=SOFT)
    for i, labels in enumerate(columns):
        left, y = i * width, TOP
        for label in labels:
            candidates = choices[label]
            y += GAP + ROW
            write(left + 8, y - 4, label, bold=True)
            grid = np.array([[epoch["probabilities"][label][each] for epoch in curve] for each in candidates])
            shades = Image.fromarray(np.rint(LIGHT + grid[..., None] * (DARK - LIGHT)).astype(np.uint8))
            size = max(1, plot * len(curve) // last["epochs"]), ROW * len(candidates)
            image.paste(shades.resize(size, Image.Resampling.NEAREST), (left + NAMES, y))
            best = int(grid[:, -1].argmax())
            for row, candidate in enumerate(candidates):
                pen.line((left + NAMES, y, left + width, y), "white", width=2)
                write(left + 22, y + 11, candidate.replace("_", " "))
                colour = INK if row == best else SOFT
                write(left + width - 8, y + 11, f"{100 * grid[row, -1]:.0f} %", "rs", colour, row == best)
                y += ROW
    return encoded(image)


def _height(candidates: Sequence[str]) -> int:
    """Returns the height of a choice: its label, its candidates, and the distance from the choice above."""
    return GAP + ROW * (1 + len(candidates))


def _columns(heights: dict[str, int]) -> list[list[str]]:
    """Returns the labels of the choices in columns of similar height."""
    whole = sum(heights.values())
    count = -(-whole // COLUMN)
    columns: list[list[str]] = [[]]
    filled = 0.0
    for label, height in heights.items():
        if columns[-1] and filled + height / 2 > whole / count * len(columns):
            columns.append([])
        columns[-1].append(label)
        filled += height
    return columns
