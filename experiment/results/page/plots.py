"""The plots of the report, each a small picture of its own, so that a narrow page shows them below each other."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiment.results.drawing import printable
from experiment.results.drawing.picture import COLOURS, FAINT, INK, SOFT
from experiment.results.page.inline import SERIES, inline

DASHES = {"-": "", "--": "6 3", ":": "1.5 3", "-.": "6 3 1.5 3"}
"""The styles of lines, so that they can be told apart without their colours → their dashes in SVG."""
MARKS = ("o", "s", "^", "D")
"""The marks of groups of points, as matplotlib calls them."""
POINTS = 100
"""Number of epochs of a line that are drawn at most: of more, every second, every third and so on."""
MARKED = 30
"""Number of epochs up to which each has a mark."""
PANEL = {"left": 0.13, "right": 0.98, "bottom": 0.14, "top": 0.97}
"""Where the axes of a small plot are in it: all alike, which takes a third of the time of a layout of its own."""
STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Line:
    """A line of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: str = "-"
    faint: bool = False
    """Whether it is one of many that are shown only as a crowd."""

    @property
    def dashes(self) -> str:
        """The dashes of its key, as SVG has them."""
        return DASHES[self.dash]


def look_of(place: int, name: str = "") -> tuple[str, str]:
    """Returns the colour and the style of the line at a place; an operation has the colour that drawings give it."""
    dashes = list(DASHES)
    return COLOURS.get(name, SERIES[place % len(SERIES)]), dashes[(place if name in COLOURS else place // 8) % 4]


def by_epoch(name: str, words: str, lines: Sequence[Line], title: str, share: bool = False) -> Markup:
    """Returns a plot of lines over epochs, of some ten kilobytes however long the lines are.

    Args:
        name: Names the picture within the page.
        words: What it shows, for those who do not see it.
        lines: The lines.
        title: What is plotted.
        share: Whether that is from 0 to 1. Such a plot is smaller, for a page full of them.
    """
    with _axes(name, words, *(((232, 150), PANEL) if share else ((360, 220), None))) as (axes, picture):
        for line in lines:
            every = -(-len(line.x) // POINTS) or 1
            x, y = line.x[::-1][::every], line.y[::-1][::every]  # the last epoch is always there
            width, marker = (0.8, "") if line.faint else (1.8, "o" if len(x) <= MARKED else "")
            axes.plot(x, y, color=line.colour, linestyle=line.dash, linewidth=width, marker=marker, markersize=3)
        if share:
            axes.set(ylim=(-0.04, 1.04), yticks=(0, 0.5, 1))
        else:
            axes.set_xlabel("epoch")
        if title:
            axes.set_title(title, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return picture[0]


def leads(name: str, words: str, found: Sequence[tuple[str, float, tuple[float, float]]]) -> Markup:
    """Returns a plot of how far the found architecture is above others, with intervals: a line each, zero marked.

    Args:
        name: Names the picture within the page.
        words: What it shows, for those who do not see it.
        found: The name of each other network, the points above it, and the interval.
    """
    with _axes(name, words, (360, 56 + 30 * len(found))) as (axes, picture):
        axes.axvline(0, color=SOFT, linewidth=1.2)
        for place, (_, points, (low, high)) in enumerate(found):
            axes.plot((low, high), (place, place), color=SERIES[0], linewidth=2.4, solid_capstyle="butt")
            axes.plot(points, place, color=SERIES[0], marker="o", markersize=7)
        axes.set_yticks(range(len(found)), [f"above {printable(other)}" for other, _, _ in found], color=INK)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel("points, with the 95 % interval")
        axes.grid(axis="y", visible=False)
    return picture[0]


def scatter(name: str, words: str, groups: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Markup:
    """Returns a plot of test accuracy over validation accuracy, with a mark of its own for each group of points.

    Args:
        name: Names the picture within the page.
        words: What it shows, for those who do not see it.
        groups: The name of each group and its points, validation and test accuracy in percent.
    """
    with _axes(name, words, (360, 240)) as (axes, picture):
        for place, (_, points) in enumerate(groups):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, linestyle="none", marker=MARKS[place % len(MARKS)], markersize=7, color=SERIES[place % 8])
        axes.set(xlabel="validation accuracy, %", ylabel="test accuracy, %")
    return picture[0]


@contextmanager
def _axes(
    name: str, words: str, size: tuple[float, float], place: dict[str, float] | None = None
) -> Iterator[tuple[Axes, list[Markup]]]:
    """Gives axes to draw on, and a list that has the picture of them when the block has ended.

    The same drawing gives the same bytes. One unit of the picture is one pixel at its natural size.

    Args:
        name: Names the picture within the page.
        words: What it shows, for those who do not see it.
        size: Its width and height.
        place: Where the axes are in it, as parts of its sides; None for as large as what is around them allows.
    """
    picture: list[Markup] = []
    # Names may hold letters that the font does not have: the reader's browser draws the text, and has others.
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}), warnings.catch_warnings(action="ignore"):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72, layout=None if place else "constrained")
        yield figure.subplots(gridspec_kw=place), picture
        content = io.BytesIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    picture.append(inline(content.getvalue().decode(), name, words))
