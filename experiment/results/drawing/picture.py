"""The shapes of which a picture is made, as SVG."""

from xml.etree import ElementTree

COLOURS = {
    "none": "#8a8f98",
    "identity": "#4b5563",
    "feed_forward": "#0b62a4",
    "self_attention": "#00704f",
    "relational_self_attention": "#5b6300",
    "guided_attention": "#b54708",
    "dense_co_attention": "#8f1d5c",
    "tanh": "#0b62a4",
    "relu": "#b54708",
    "sigmoid": "#6b3fa0",
    "ID": "#4b5563",
    "SA": "#00704f",
    "SGA": "#b54708",
    "CoA": "#8f1d5c",
}
"""The colour of each operation. White text on it is legible: the contrast is above 4.5. Only `none` has less, and it is
never filled."""

OTHER = "#334155"
"""The colour of an operation that :data:`COLOURS` does not name."""

INK, SOFT, FAINT = "#1f2937", "#6b7280", "#d1d5db"
"""The colours of text and outlines, of secondary text and plain arrows, and of what stays in the background."""


class Picture:
    """An SVG picture on a white background. ElementTree escapes all text that is written into it.

    All positions and lengths are in the units of the view box. One unit is one CSS pixel at the natural size.

    Args:
        width: Width of the picture. Its height is known only at the end, see :meth:`to_string`.
        title: What screen readers and a pointer over the picture show.
    """

    def __init__(self, width: float, title: str):
        self.width = width
        self.root = ElementTree.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
        self.root.set("font-family", "Helvetica, Arial, sans-serif")
        self._add("title").text = title
        self.definitions = self._add("defs")
        self.background = self._add("rect", fill="white", rx=8)

    def _add(self, tag: str, title: str = "", **attributes: object) -> ElementTree.Element:
        """Adds an element to the picture; a title is shown when it is pointed at."""
        element = ElementTree.SubElement(
            self.root, tag, {key.replace("_", "-"): str(value) for key, value in attributes.items()}
        )
        if title:
            ElementTree.SubElement(element, "title").text = title
        return element

    def to_string(self, height: float) -> str:
        """Returns the SVG file, with the height that the picture turned out to need."""
        size = {"width": str(round(self.width)), "height": str(round(height))}
        self.root.set("viewBox", f"0 0 {size['width']} {size['height']}")
        for element in (self.root, self.background):
            element.attrib.update(size)
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
        """Adds a line of text; ``y`` is its baseline, and ``anchor`` says which end of it stands at ``x``."""
        self._add("text", x=x, y=y, font_size=size, fill=colour, font_weight=weight, text_anchor=anchor).text = words

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "none", radius: float = 6
    ) -> None:
        """Adds a rectangle whose centre is the point ``x, y``."""
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

    def circle(self, x: float, y: float, radius: float, words: str, title: str) -> None:
        """Adds a circle with a word in it, for a node."""
        self._add("circle", title, cx=x, cy=y, r=radius, fill="white", stroke=INK, stroke_width=1.5)
        self.label(x, y + 5, words, size=14 if len(words) < 2 else 11, weight="bold")

    def dot(self, x: float, y: float, operation: str) -> None:
        """Adds a dot in the colour of an operation: the state that guides it."""
        self._add("circle", cx=x, cy=y, r=3, fill=COLOURS.get(operation, OTHER))

    def line(self, path: str, operation: str = "", dashed: bool = False, title: str = "") -> None:
        """Adds an arrow along an SVG path, in the colour of the operation if one is named."""
        colour = FAINT if operation == "none" else COLOURS.get(operation, OTHER) if operation else SOFT
        dashes = {"stroke_dasharray": "6 4"} if dashed else {}
        end = f"url(#{self._arrow(colour)})"
        self._add("path", title, d=path, fill="none", stroke=colour, stroke_width=1.8, marker_end=end, **dashes)

    def _arrow(self, colour: str) -> str:
        """Returns the id of the arrow head of a colour, and defines it at its first use."""
        name = f"arrow-{colour.removeprefix('#')}"
        if all(marker.get("id") != name for marker in self.definitions):
            marker = ElementTree.SubElement(
                self.definitions, "marker", id=name, viewBox="0 0 8 8", refX="7", refY="4", orient="auto"
            )
            marker.set("markerWidth", "6")
            marker.set("markerHeight", "6")
            ElementTree.SubElement(marker, "path", d="M0 0 L8 4 L0 8 z", fill=colour)
        return name

    def operation(self, x: float, y: float, name: str, width: float = 60, filled: bool = False) -> None:
        """Adds a box, 28 high, with the name of an operation: in one line if the box is wide, else one word a line."""
        colour = COLOURS.get(name, OTHER)
        words = name.split("_") if width < 100 else [name.replace("_", " ")]
        if name == "none":
            self.box(x, y, 36, 16, fill="white")
        else:
            self.box(x, y, width, 28, fill=colour if filled else "white", stroke=colour)
        for i, word in enumerate(words):
            baseline = y + 4 + 12 * (i - (len(words) - 1) / 2)
            self.label(x, baseline, word, size=11, colour="white" if filled else colour)
