"""The picture of an architecture as pixels, for what shows no SVG, such as TensorBoard.

It draws the shapes that :class:`~experiment.results.drawing.picture.Picture` makes, and no other SVG. A library that
draws any SVG would bring a browser's worth of code, and drawing with matplotlib takes ten times as long.
"""

import re
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FINER = 2
"""Pixels that are drawn for each one in the end, in both directions: edges become smooth."""
BEND = 16
"""Number of straight lines that make a Bézier curve."""
HEAD = 10.8
"""Length and width of the head of an arrow, as the marker of the SVG has it: six strokes of 1.8."""
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
SVG = "{http://www.w3.org/2000/svg}"

Points = NDArray[np.float64]
"""Positions, ``(n, 2)``."""


def png(svg: str) -> bytes:
    """Returns the PNG of a picture at its natural size."""
    root = ElementTree.fromstring(svg)
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    image = Image.new("RGB", (FINER * width, FINER * height), "white")
    pen = ImageDraw.Draw(image)
    for element in root:
        draw = SHAPES.get(element.tag.removeprefix(SVG))
        if draw:
            draw(pen, element)
    return encoded(image.reduce(FINER))


@cache
def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns the font that Pillow brings, which is as wide as the one of the SVG, at a size in pixels."""
    return ImageFont.load_default(size)


def encoded(image: Image.Image) -> bytes:
    """Returns an image as a PNG of 256 colours, which is a third as large as with all of them."""
    file = BytesIO()
    few = image.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(file, "PNG")
    return file.getvalue()


def _numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [FINER * float(element.get(name, 0)) for name in names]


def _style(element: ElementTree.Element) -> dict:
    fill, stroke = (
        None if element.get(name, "none") == "none" else element.attrib[name] for name in ("fill", "stroke")
    )
    return {
        "fill": fill,
        "outline": stroke,
        "width": round(FINER * float(element.get("stroke-width", 0))) if stroke else 0,
    }


def _rectangle(pen: ImageDraw.ImageDraw, element: ElementTree.Element) -> None:
    x, y, width, height, radius = _numbers(element, "x", "y", "width", "height", "rx")
    pen.rounded_rectangle((x, y, x + width, y + height), radius, **_style(element))


def _circle(pen: ImageDraw.ImageDraw, element: ElementTree.Element) -> None:
    x, y, radius = _numbers(element, "cx", "cy", "r")
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), **_style(element))


def _text(pen: ImageDraw.ImageDraw, element: ElementTree.Element) -> None:
    x, y, size = _numbers(element, "x", "y", "font-size")
    anchor = ANCHORS[element.get("text-anchor", "start")]
    for shift in (0, 1) if element.get("font-weight") == "bold" else (0,):  # Pillow's font has no bold face
        pen.text((x + shift, y), element.text or "", element.get("fill"), font(size), anchor)


def _path(pen: ImageDraw.ImageDraw, element: ElementTree.Element) -> None:
    points = FINER * _points(element.attrib["d"])
    colour, width = element.get("stroke"), round(FINER * float(element.attrib["stroke-width"]))
    along = points[-1] - points[-2]
    along /= np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    tip, length = points[-1] + along * FINER * HEAD / 8, FINER * HEAD
    points[-1] = tip - along * length / 2  # the line ends within the head, whose tip is as thin as a point
    for piece in _dashes(points, element.get("stroke-dasharray")):
        pen.line([tuple(point) for point in piece], fill=colour, width=width, joint="curve")
    base = tip - along * length
    pen.polygon([tuple(tip), tuple(base + across * length / 2), tuple(base - across * length / 2)], fill=colour)


SHAPES = {"rect": _rectangle, "circle": _circle, "text": _text, "path": _path}
"""What draws an element, by its name. A title and the definition of a head draw nothing."""


def _points(path: str) -> Points:
    """Returns the positions along a path of lines (``L``) and cubic Bézier curves (``C``)."""
    points: list[Points] = []
    for letter, numbers in re.findall(r"([MLC])([^MLC]*)", path):
        corners = np.array(numbers.split(), float).reshape(-1, 2)
        if letter == "C":
            t = np.linspace(0, 1, BEND + 1)[1:, None]
            a, (b, c, d) = points[-1], corners
            corners = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        points += list(corners)
    return np.array(points)


def _dashes(points: Points, pattern: str | None) -> Iterator[Points]:
    """Yields the pieces of a line that are drawn: all of it, or its dashes."""
    if pattern is None:
        yield points
        return
    dash, gap = (FINER * float(length) for length in pattern.split())
    lengths = np.hypot(*np.diff(points, axis=0).T)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    for start in np.arange(0, ends[-1], dash + gap):
        end = min(start + dash, ends[-1])
        inside = ends[(ends > start) & (ends < end)]
        places = np.concatenate([[start], inside, [end]])
        yield np.stack([np.interp(places, ends, points[:, axis]) for axis in (0, 1)], axis=1)
