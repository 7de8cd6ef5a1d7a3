"""Draws an architecture of the space ``stacked``: as text for a terminal, as SVG for a page.

The picture is one cell, folded, as papers draw it: each stream is a lane of nodes from left to right, a solid edge is
the state that an operation transforms, a dashed one the state of the other stream that guides it. What the search
chose is filled, what every architecture of the space has is outlined.
"""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from model_space.architecture import Architecture, write_text
from model_space.errors import InputError
from model_space.stacked import STREAMS

COLOURS = {
    "none": "#8a8f98",
    "identity": "#4b5563",
    "feed_forward": "#0b62a4",
    "self_attention": "#00704f",
    "guided_attention": "#b54708",
}
"""by operation; white text on each is legible (contrast above 4.5, but for `none`, which is never filled)"""

INK, SOFT, FAINT = "#1f2937", "#6b7280", "#d1d5db"

# Lengths are in the units of the SVG's view box, one CSS pixel at its natural size.
COLUMN = 140  # from a node to the next
ROW = 44  # from an edge that passes over nodes to one that passes over one more
LANES = 160  # from the image's nodes to the question's
NODE = 15  # radius
SHADE = 26  # from a node to the end of the shade behind it
CHIP = 60, 28  # an operation's box
CELL = 110  # x of the cell's left side
NODE_0 = 245  # x of node 0: left of it are the inputs
MARGIN = 24


@dataclass(frozen=True)
class Edge:
    """An operation of a stream, from the state of one node to another node."""

    stream: Literal["image", "question"]
    source: int
    node: int
    operation: str

    @property
    def guide(self) -> str | None:
        """The stream whose state, at the same source, guides the operation."""
        if self.operation != "guided_attention":
            return None
        return STREAMS[1 - STREAMS.index(self.stream)]

    def __str__(self) -> str:
        guide = f", guided by {self.guide} {self.source}" if self.guide else ""
        return f"{self.operation} of {self.source}{guide}"


def edges(architecture: Architecture) -> list[Edge]:
    """The chosen edges, by stream, then by node, then by source.

    Raises:
        InputError: the architecture is not of the space ``stacked``.
    """
    space, choices = architecture.space.backbone, architecture.choices
    if space.name != "stacked":
        raise InputError(f"an architecture of '{space.name}' cannot be drawn, only one of 'stacked'")
    found = []
    for stream in STREAMS:
        for node in range(1, space.nodes + 1):
            name = f"{stream}_node{node}"
            if space.edges == "one":
                (source,) = choices[f"{name}_input"]
                found.append(Edge(stream, source, node, choices[f"{name}_operation"]))
            else:
                found += [Edge(stream, source, node, choices[f"{name}_from{source}"]) for source in range(node)]
    return found


def printable(value: object) -> str:
    """One line of at most 60 characters that a terminal and an XML file can carry, whatever the value holds."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    return line if len(line) <= 60 else line[:59] + "…"


def headline(architecture: Architecture) -> str:
    space = architecture.space.backbone
    cells, nodes = (f"{n} {word}{'s' * (n != 1)}" for n, word in ((space.cells, "cell"), (space.nodes, "node")))
    score = "" if architecture.score is None else f", validation accuracy {architecture.score:.1f} %"
    return f"{space.name}, edges={space.edges}: {cells} of {nodes}{score}"


def origin(architecture: Architecture) -> str:
    """What the provenance says in single values: experiment, trial, strategy, the trial's parameters, ..."""
    provenance = architecture.provenance
    parameters = provenance.get("parameters")
    said = provenance | parameters if isinstance(parameters, dict) else provenance
    return ", ".join(
        f"{printable(key)} {printable(value)}" for key, value in said.items() if isinstance(value, str | int | float)
    )


def text(architecture: Architecture) -> str:
    """At most 100 columns, the two streams side by side.

    >>> print(text(Architecture.load("architecture.json")))
    """
    drawn, space = edges(architecture), architecture.space.backbone

    def line(left: str, *columns: str) -> str:
        return f"{left:<8}" + "".join(f"{column:<46}" for column in columns).rstrip()

    lines = [headline(architecture), *textwrap.wrap(origin(architecture), 100)]
    lines += ["", line("", *STREAMS), line("node 0", *["mean of feed_forward of both cells before"] * 2)]
    for node in range(1, space.nodes + 1):
        columns = [[str(edge) for edge in drawn if (edge.stream, edge.node) == (stream, node)] for stream in STREAMS]
        for i, row in enumerate(zip(*columns, strict=True)):
            lines.append(line("" if i else f"node {node}", *row))
    lines.append(line("output", *[f"mean of nodes 1 to {space.nodes}" if space.nodes > 1 else "node 1"] * 2))
    lines.append(line("after", *["feed_forward, after the last cell"] * 2))
    if space.edges == "all":
        lines += ["", "A node is the sum of its lines, layer-normalised."]
    return "\n".join(lines) + "\n"


def save_svg(architecture: Architecture, path: Path) -> None:
    """Writes the picture whole or not at all."""
    write_text(path, svg(architecture))


def svg(architecture: Architecture) -> str:
    """The picture, on a white ground of its own; each edge says in words what it is when it is pointed at."""
    drawn, space = edges(architecture), architecture.space.backbone
    spans = {stream: max(e.node - e.source for e in drawn if e.stream == stream) for stream in STREAMS}
    mean_x = _x(space.nodes) + 0.75 * COLUMN
    right = mean_x + 45  # of the cell
    width = round(right + 230)
    lines = textwrap.wrap(origin(architecture), (width - 2 * MARGIN) // 7)
    top = 58 + 16 * len(lines)  # of the cell
    image_y = top + max(52 + _height(spans["image"]), 80)
    lanes = {"image": image_y, "question": image_y + LANES}
    bottom = lanes["question"] + 46 + _height(spans["question"])
    notes = textwrap.wrap(_notes(space.edges), (width - 2 * MARGIN) // 6)
    height = bottom + 22 + 16 * len(notes)

    picture = _Picture(width, height, title=f"{headline(architecture)}. {origin(architecture)}")
    picture.label(MARGIN, 30, headline(architecture), size=16, weight="bold", anchor="start")
    for i, line in enumerate(lines):
        picture.label(MARGIN, 50 + 16 * i, line, colour=SOFT, anchor="start")
    middle = (right + CELL) / 2, (top + bottom) / 2
    picture.box(*middle, right - CELL, bottom - top, fill="#fafafa", stroke=FAINT, radius=14)
    times = f"cell, × {space.cells}" if space.cells > 1 else "cell"
    picture.label(CELL + 14, top + 22, times, size=14, weight="bold", anchor="start")

    for stream, y in lanes.items():
        first, last = _x(1), _x(space.nodes)  # their mean is the output
        picture.box((first + last) / 2, y, last - first + 2 * SHADE, 2 * NODE + 14, fill="#e5e9f0", radius=22)
        _fixed(picture, stream, y, space.nodes, mean_x, right)
    # From the back to the front: edges without operation, the others, what they join.
    for edge in sorted(drawn, key=lambda edge: edge.operation != "none"):
        _edge(picture, edge, lanes)
    for stream, y in lanes.items():
        for node in range(space.nodes + 1):
            picture.circle(_x(node), y, str(node), f"{stream} node {node}")
        picture.label(_x(0) - 2, y + 29, "mean", size=10, colour=SOFT, anchor="end")
    for edge in drawn:
        picture.operation(*_middle(edge, lanes), edge.operation, filled=edge.operation != "none")
    for i, line in enumerate(notes):
        picture.label(MARGIN, bottom + 24 + 16 * i, line, size=11, colour=SOFT, anchor="start")
    return picture.to_string()


def _notes(form: str) -> str:
    return (
        "Filled: chosen by the search. Outlined: the same in every architecture. Dashed: the state of the other "
        "stream, which guides. Shaded: the nodes whose mean is the output. Both inputs of the first cell are the "
        "image's regions and the question's words."
    ) + (" A node sums its edges and normalises the sum." if form == "all" else "")


def _x(node: int) -> float:
    return NODE_0 + COLUMN * node


def _height(span: int) -> float:
    """Of an edge over its lane: it passes over the nodes between its ends."""
    return ROW * (span - 1)


def _outward(stream: str) -> int:
    """The direction, down being positive, in which a stream's edges leave the space between the lanes."""
    return -1 if stream == "image" else 1


def _middle(edge: Edge, lanes: dict[str, float]) -> tuple[float, float]:
    """Where the operation of an edge stands: no two edges of a stream have the same middle."""
    y = lanes[edge.stream] + _outward(edge.stream) * _height(edge.node - edge.source)
    return (_x(edge.source) + _x(edge.node)) / 2, y


def _edge(picture: "_Picture", edge: Edge, lanes: dict[str, float]) -> None:
    start, end, y = _x(edge.source), _x(edge.node), lanes[edge.stream]
    out = _outward(edge.stream)
    if edge.node - edge.source == 1:
        path = f"M{start + NODE} {y} L{end - NODE - 2} {y}"
    else:
        # A cubic Bézier curve whose middle is the operation's place; it starts and ends on the nodes' shoulders.
        start, end, shoulder = start + 8, end - 8, y + out * 13
        crest = shoulder + (_middle(edge, lanes)[1] - shoulder) * 4 / 3
        inward = 0.25 * (end - start)
        path = f"M{start} {shoulder} C{start + inward:.1f} {crest:.1f} {end - inward:.1f} {crest:.1f} {end} {shoulder}"
    picture.line(path, edge.operation, title=f"{edge.stream} node {edge.node}: {edge}")
    if edge.guide:
        start, end, y0 = _x(edge.source), _x(edge.node), lanes[edge.guide]
        y0, y1 = y0 + out * NODE, y - out * (NODE + 2)
        bend = out * 0.45 * LANES
        path = f"M{start + 4} {y0} C{start + 14} {y0 + bend:.1f} {end - 14} {y1 - bend:.1f} {end - 4} {y1}"
        picture.line(
            path,
            edge.operation,
            dashed=True,
            title=f"{edge.guide} node {edge.source} guides {edge.stream} node {edge.node}",
        )


def _fixed(picture: "_Picture", stream: str, y: float, nodes: int, mean_x: float, right: float) -> None:
    """What every architecture has: the two inputs before node 0, the mean and the feed-forward after the nodes."""
    picture.label(MARGIN, y - 48, stream, size=15, weight="bold", anchor="start")
    for name, dy in (("cell k − 2", -22), ("cell k − 1", 22)):
        picture.label(MARGIN, y + dy + 4, name, anchor="start")
        picture.line(f"M{MARGIN + 60} {y + dy} L133 {y + dy}")
        picture.line(f"M190 {y + dy} L{_x(0) - NODE - 1} {y + dy / 4}")
        picture.operation(165, y + dy, "feed_forward")
    picture.line(f"M{_x(nodes) + SHADE} {y} L{mean_x - 23} {y}")
    picture.line(f"M{mean_x + 20} {y} L{right + 43} {y}")
    picture.line(f"M{right + 105} {y} L{right + 133} {y}")
    picture.box(mean_x, y, 42, 22, fill="white", stroke=INK, radius=11)
    picture.label(mean_x, y + 4, "mean")
    picture.operation(right + 75, y, "feed_forward")
    picture.label(right + 75, y + 30, "after the last cell", size=10, colour=SOFT)
    picture.label(right + 140, y + 4, f"{stream} out", anchor="start")


class _Picture:
    """The few shapes that the drawing is made of. ElementTree escapes what is written into them."""

    def __init__(self, width: float, height: float, title: str):
        self.root = ElementTree.Element(
            "svg",
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width} {height}",
            width=str(width),
            height=str(height),
            role="img",
        )
        self.root.set("font-family", "Helvetica, Arial, sans-serif")
        self._add("title").text = title
        definitions = self._add("defs")
        for name, colour in (COLOURS | {"none": FAINT, "fixed": SOFT}).items():
            marker = ElementTree.SubElement(
                definitions, "marker", id=f"arrow-{name}", viewBox="0 0 8 8", refX="7", refY="4", orient="auto"
            )
            marker.set("markerWidth", "6")
            marker.set("markerHeight", "6")
            ElementTree.SubElement(marker, "path", d="M0 0 L8 4 L0 8 z", fill=colour)
        self._add("rect", width=width, height=height, fill="white", rx=8)

    def _add(self, tag: str, title: str = "", **attributes: object) -> ElementTree.Element:
        element = ElementTree.SubElement(
            self.root, tag, {key.replace("_", "-"): str(value) for key, value in attributes.items()}
        )
        if title:
            ElementTree.SubElement(element, "title").text = title
        return element

    def to_string(self) -> str:
        ElementTree.indent(self.root, " ")
        return ElementTree.tostring(self.root, encoding="unicode") + "\n"

    def label(
        self,
        x: float,
        y: float,
        words: str,
        size: int = 12,
        colour: str = INK,
        weight: str = "normal",
        anchor: str = "middle",
    ) -> None:
        self._add("text", x=x, y=y, font_size=size, fill=colour, font_weight=weight, text_anchor=anchor).text = words

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "none", radius: float = 6
    ) -> None:
        """A rectangle around the point ``x, y``."""
        self._add(
            "rect",
            x=x - width / 2,
            y=y - height / 2,
            width=width,
            height=height,
            fill=fill,
            stroke=stroke,
            stroke_width=1.5,
            rx=radius,
        )

    def circle(self, x: float, y: float, words: str, title: str) -> None:
        self._add("circle", title, cx=x, cy=y, r=NODE, fill="white", stroke=INK, stroke_width=1.5)
        self.label(x, y + 5, words, size=14, weight="bold")

    def line(self, path: str, operation: str = "fixed", dashed: bool = False, title: str = "") -> None:
        """An arrow in the colour of an operation; ``fixed`` is what the search does not choose."""
        colour = {"fixed": SOFT, "none": FAINT}.get(operation) or COLOURS[operation]
        dashes = {"stroke_dasharray": "6 4"} if dashed else {}
        end = f"url(#arrow-{operation})"
        self._add("path", title, d=path, fill="none", stroke=colour, stroke_width=1.8, marker_end=end, **dashes)

    def operation(self, x: float, y: float, name: str, filled: bool = False) -> None:
        """An operation's name in its box, one word a line."""
        words = name.split("_")
        colour = COLOURS[name]
        if name == "none":
            self.box(x, y, 36, 16, fill="white")
        else:
            self.box(x, y, *CHIP, fill=colour if filled else "white", stroke=colour)
        for i, word in enumerate(words):
            baseline = y + 4 + 12 * (i - (len(words) - 1) / 2)
            self.label(x, baseline, word, size=11, colour="white" if filled else colour)
