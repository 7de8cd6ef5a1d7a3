"""The icons of NNI's web portal, as a font of this machine.

The portal is made with Fluent UI, whose icons are private characters of fonts that are fetched from the web, and whose
licence allows no copy of them here. So :func:`write` makes a font with the same characters, as many as the portal
shows: its drawings are signs of DejaVu Sans, which comes with matplotlib, and lines where no sign fits. ``loopback.js``
gives it to the page in the place of all of Fluent UI's.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import matplotlib
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.basePen import AbstractPen
from fontTools.pens.boundsPen import BoundsPen
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

from model_space.files import write_whole

EM = 2048
"""The units of a side of the square that an icon fills; below, all lengths are parts of it, from the lower left."""
STROKE = 0.08

Point = tuple[float, float]
Part = Callable[[AbstractPen, TTFont], None]
"""Draws a part of an icon with a pen; the font is DejaVu Sans."""


def _sign(character: str, size: float = 0.8, at: Point = (0.5, 0.5)) -> Part:
    """A sign of DejaVu Sans, whose longer side has this size, around a point."""

    def draw(pen: AbstractPen, signs: TTFont) -> None:
        outline = DecomposingRecordingPen(signs.getGlyphSet())
        outline.glyphSet[signs.getBestCmap()[ord(character)]].draw(outline)
        bounds = BoundsPen(None)
        outline.replay(bounds)
        left, bottom, right, top = bounds.bounds
        scale = size * EM / max(right - left, top - bottom)
        shift = [centre * EM - scale * (low + high) / 2 for centre, low, high in zip(at, (left, bottom), (right, top))]
        outline.replay(TransformPen(pen, (scale, 0, 0, scale, *shift)))

    return draw


def _line(*points: Point) -> Part:
    """A line through points. Its pieces overlap, and all of them turn to the right: together they are one shape."""

    def draw(pen: AbstractPen, _: TTFont) -> None:
        for (x, y), (to_x, to_y) in pairwise(points):
            length = math.hypot(to_x - x, to_y - y)
            along = ((to_x - x) / length * STROKE / 2, (to_y - y) / length * STROKE / 2)
            start, end = (x - along[0], y - along[1]), (to_x + along[0], to_y + along[1])
            aside = (-along[1], along[0])
            corners = [(start, 1), (end, 1), (end, -1), (start, -1)]
            _shape(pen, [(px + side * aside[0], py + side * aside[1]) for (px, py), side in corners])

    return draw


def _circle(radius: float = 0.42, at: Point = (0.5, 0.5)) -> Part:
    def draw(pen: AbstractPen, _: TTFont) -> None:
        turns = [2 * math.pi * step / 48 for step in range(48)]
        for of, direction in ((radius, -1), (radius - STROKE, 1)):  # the hole turns the other way
            _shape(pen, [(at[0] + of * math.cos(direction * t), at[1] + of * math.sin(direction * t)) for t in turns])

    return draw


def _box(left: float, bottom: float, right: float, top: float) -> Part:
    return _line((left, bottom), (left, top), (right, top), (right, bottom), (left, bottom))


def _shape(pen: AbstractPen, points: Iterable[Point]) -> None:
    start, *others = [(round(x * EM), round(y * EM)) for x, y in points]
    pen.moveTo(start)
    for point in others:
        pen.lineTo(point)
    pen.closePath()


CROSS = [_line((0.18, 0.18), (0.82, 0.82)), _line((0.18, 0.82), (0.82, 0.18))]
TICK = [_line((0.12, 0.48), (0.38, 0.22), (0.88, 0.76))]
LEFT = [_line((0.66, 0.86), (0.3, 0.5), (0.66, 0.14))]
RIGHT = [_line((0.34, 0.86), (0.7, 0.5), (0.34, 0.14))]
PAGE = [_box(0.2, 0.08, 0.8, 0.92), *[_line((0.36, y), (0.64, y)) for y in (0.3, 0.5, 0.7)]]
LIST = [part for y in (0.2, 0.5, 0.8) for part in (_sign("●", 0.12, (0.12, y)), _line((0.32, y), (0.92, y)))]
AXES = [_line((0.08, 0.92), (0.08, 0.08), (0.92, 0.08))]
CLOCK = [_circle(), _line((0.5, 0.76), (0.5, 0.48), (0.7, 0.36))]
FORBIDDEN = [_circle(), _line((0.24, 0.76), (0.76, 0.24))]

ICONS: dict[str, tuple[int, list[Part]]] = {
    "BarChartHorizontal": (
        0xE9EB,
        [*AXES, *[_line((0.1, y), (x, y)) for x, y in ((0.8, 0.78), (0.5, 0.53), (0.65, 0.28))]],
    ),
    "Blocked2": (0xECE4, FORBIDDEN),
    "BulletedList": (0xE8FD, LIST),
    "CalculatorMultiply": (0xE947, CROSS),
    "Calendar": (
        0xE787,
        [
            _box(0.08, 0.08, 0.92, 0.84),
            _line((0.08, 0.62), (0.92, 0.62)),
            *[_line((x, 0.8), (x, 0.96)) for x in (0.3, 0.7)],
        ],
    ),
    "Cancel": (0xE711, CROSS),
    "CheckMark": (0xE73E, TICK),
    "ChevronDown": (0xE70D, [_line((0.14, 0.66), (0.5, 0.3), (0.86, 0.66))]),
    "ChevronLeft": (0xE76B, LEFT),
    "ChevronLeftMed": (0xE973, LEFT),
    "ChevronRight": (0xE76C, RIGHT),
    "ChevronRightMed": (0xE974, RIGHT),
    "CircleRing": (0xEA3A, [_circle(0.46)]),
    "CircleShapeSolid": (0xF63C, [_sign("●", 0.92)]),
    "Clear": (0xE894, CROSS),
    "Completed": (0xE930, [_circle(0.46), _line((0.28, 0.48), (0.44, 0.32), (0.73, 0.63))]),
    "Copy": (
        0xE8C8,
        [_box(0.14, 0.08, 0.64, 0.72), _line((0.36, 0.72), (0.36, 0.92), (0.86, 0.92), (0.86, 0.28), (0.64, 0.28))],
    ),
    "CustomList": (0xEEBE, LIST),
    "DisableUpdates": (0xE8D8, [_sign("↻", 0.88), _line((0.14, 0.14), (0.86, 0.86))]),
    "Document": (0xE8A5, PAGE),
    "DoubleChevronDown": (0xEE04, [_line((0.2, y), (0.5, y - 0.3), (0.8, y)) for y in (0.86, 0.48)]),
    "DoubleChevronUp": (0xEDBD, [_line((0.2, y), (0.5, y + 0.3), (0.8, y)) for y in (0.14, 0.52)]),
    "Down": (0xE74B, [_sign("↓")]),
    "Download": (0xE896, [_sign("↓", 0.66, (0.5, 0.6)), _line((0.14, 0.08), (0.86, 0.08))]),
    "Edit": (0xE70F, [_sign("✎", 0.9)]),
    "Equalizer": (
        0xE9E9,
        [
            part
            for x, y in ((0.2, 0.66), (0.5, 0.32), (0.8, 0.58))
            for part in (_line((x, 0.1), (x, 0.9)), _line((x - 0.08, y), (x + 0.08, y)))
        ],
    ),
    "ErrorBadge": (0xEA39, [_circle(0.46), _line((0.34, 0.34), (0.66, 0.66)), _line((0.34, 0.66), (0.66, 0.34))]),
    "Feedback": (0xED15, [_sign("✉", 0.92)]),
    "Filter": (
        0xE71C,
        [_line((0.08, 0.88), (0.92, 0.88), (0.58, 0.46), (0.58, 0.1), (0.42, 0.2), (0.42, 0.46), (0.08, 0.88))],
    ),
    "FlowChart": (
        0xE9D4,
        [
            _box(0.34, 0.66, 0.66, 0.92),
            _box(0.06, 0.08, 0.36, 0.32),
            _box(0.64, 0.08, 0.94, 0.32),
            _line((0.21, 0.32), (0.21, 0.5), (0.79, 0.5), (0.79, 0.32)),
            _line((0.5, 0.5), (0.5, 0.66)),
        ],
    ),
    "GripperBarVertical": (0xE784, [_sign("⋮", 0.8, (x, 0.5)) for x in (0.36, 0.64)]),
    "GroupedDescending": (0xEE66, [_sign("⇟")]),
    "Hide": (0xED1A, [_sign("◉", 0.7), _line((0.08, 0.08), (0.92, 0.92))]),
    "HomeGroup": (
        0xEC26,
        [*AXES, *[_sign("●", 0.16, at) for at in ((0.32, 0.34), (0.46, 0.68), (0.64, 0.46), (0.8, 0.78))]],
    ),
    "Important": (0xE8C9, [_sign("!")]),
    "Info": (0xE946, [_circle(0.46), _sign("i", 0.5)]),
    "LineChart": (0xE9E6, [*AXES, _line((0.2, 0.3), (0.42, 0.56), (0.6, 0.42), (0.88, 0.8))]),
    "M365InvoicingLogo": (0xF7C1, PAGE),
    "Market": (
        0xEAFC,
        [_line((0.08, 0.2), (0.38, 0.52), (0.56, 0.36), (0.9, 0.78)), _line((0.62, 0.8), (0.9, 0.8), (0.9, 0.52))],
    ),
    "MarketDown": (
        0xEF42,
        [_line((0.08, 0.8), (0.38, 0.48), (0.56, 0.64), (0.9, 0.22)), _line((0.62, 0.2), (0.9, 0.2), (0.9, 0.48))],
    ),
    "More": (0xE712, [_sign("⋯")]),
    "Move": (0xE7C2, [_sign("✥", 0.9)]),
    "RedEye": (0xE7B3, [_sign("◉", 0.7)]),
    "Refresh": (0xE72C, [_sign("↻", 0.88)]),
    "ReminderTime": (0xEBF9, CLOCK),
    "ReplyAll": (0xEE0A, [_sign("↩", 0.9)]),
    "RevToggleKey": (0xE845, [_sign("↩", 0.9)]),
    "Search": (0xE721, [_circle(0.32, (0.6, 0.6)), _line((0.38, 0.38), (0.1, 0.1))]),
    "Sort": (0xE8CB, [_sign("↕", 0.9)]),
    "SortDown": (0xEE69, [_sign("↓", 0.9)]),
    "SortUp": (0xEE68, [_sign("↑", 0.9)]),
    "StackedLineChart": (
        0xF24E,
        [
            *AXES,
            _line((0.2, 0.24), (0.42, 0.4), (0.6, 0.32), (0.9, 0.52)),
            _line((0.2, 0.5), (0.42, 0.7), (0.6, 0.62), (0.9, 0.9)),
        ],
    ),
    "StatusCircleBlock": (0xF140, FORBIDDEN),
    "StatusCircleCheckmark": (0xF13E, [_sign("✓", 0.5)]),
    "Tag": (
        0xE8EC,
        [
            _line((0.08, 0.9), (0.5, 0.9), (0.92, 0.48), (0.5, 0.08), (0.08, 0.5), (0.08, 0.9)),
            _sign("●", 0.14, (0.28, 0.7)),
        ],
    ),
    "TestParameter": (0xF3AD, [_sign("⚙", 0.92)]),
    "Timer": (0xE91E, [_circle(0.38, (0.5, 0.42)), _line((0.5, 0.62), (0.5, 0.42)), _line((0.38, 0.94), (0.62, 0.94))]),
    "Up": (0xE74A, [_sign("↑")]),
    "Warning": (0xE7BA, [_sign("⚠", 0.94)]),
}
"""Each icon's character and drawing, by Fluent UI's name of it."""


def write(file: Path) -> None:
    """Writes the font, a WOFF file of 9 kB.

    Raises:
        InputError: The file cannot be written.
    """
    with TTFont(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")) as signs:
        glyphs = {".notdef": TTGlyphPen(None).glyph()}
        for name, (_, parts) in ICONS.items():
            pen = TTGlyphPen(None)
            for draw in parts:
                draw(pen, signs)
            glyphs[name] = pen.glyph()
        notices = {"copyright": signs["name"].getDebugName(0), "licenseDescription": signs["name"].getDebugName(13)}
    builder = FontBuilder(EM, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({code: name for name, (code, _) in ICONS.items()})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (EM, glyph.xMin) for name, glyph in builder.font["glyf"].glyphs.items()})
    builder.setupHorizontalHeader(ascent=EM, descent=0)
    builder.setupNameTable({"familyName": "Portal icons", "styleName": "Regular"} | notices)
    builder.setupOS2(sTypoAscender=EM, sTypoDescender=0, sTypoLineGap=0, usWinAscent=EM, usWinDescent=0)
    builder.setupPost()
    builder.font.flavor = "woff"
    with write_whole(file) as partial:
        builder.save(partial)
