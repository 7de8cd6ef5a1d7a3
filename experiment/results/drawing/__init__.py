"""Drawings of an architecture: text for a terminal, SVG for a page.

A space describes an architecture as a graph (:mod:`model_space.graph`), and this package gives it a shape. A stack of
cells that share their choices is drawn as one folded cell, as in the papers. A chain of blocks with choices of their
own is drawn block by block. A solid edge is the state that an operation transforms. A dashed edge is the state of the
other stream that guides it. An operation that the search chose is filled, one that all architectures have is outlined.
"""

import textwrap
from pathlib import Path

from experiment.results.drawing import cell, chain
from experiment.results.drawing.picture import SOFT, Picture
from experiment.results.drawing.words import graphs, headline, origin, printable, text
from model_space.architecture import Architecture
from model_space.files import write_text
from model_space.graph import CellGraph

__all__ = ["printable", "save_svg", "svg", "text"]

MARGIN = 24


def save_svg(architecture: Architecture, path: Path) -> None:
    """Writes the picture of the architecture as an SVG file, whole or not at all."""
    write_text(path, svg(architecture))


def svg(architecture: Architecture) -> str:
    """Returns the picture of the architecture as SVG. An edge that is pointed at says in words what it is."""
    drawn = [(cell if isinstance(graph, CellGraph) else chain, graph) for graph in graphs(architecture)]
    width = max(layout.width(graph) for layout, graph in drawn)
    picture = Picture(width, title=f"{headline(architecture)}. {origin(architecture)}")

    def paragraph(words: str, y: float, size: int, **style: str) -> float:
        """Writes the words in lines below ``y`` and returns the y at which they end."""
        for line in textwrap.wrap(words, int((width - 2 * MARGIN) / (0.53 * size))):
            y += size + 5
            picture.label(MARGIN, y, line, size, anchor="start", **style)
        return y

    y = paragraph(headline(architecture), 8, 16, weight="bold")
    y = paragraph(origin(architecture), y + 4, 12, colour=SOFT)
    for layout, graph in drawn:
        y = layout.draw(picture, graph, y + 18)
        y = paragraph(graph.note, y + 8, 11, colour=SOFT)
    legend = (
        "Dashed: a state of the other stream, which guides. Filled: chosen. Outlined: the same in every architecture."
    )
    if any(layout is cell for layout, _ in drawn):
        legend += " Shaded: the nodes whose mean is the output."
    return picture.to_string(paragraph(legend, y + 6, 11, colour=SOFT) + MARGIN)
