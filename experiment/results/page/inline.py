"""SVG pictures within a page: their names do not clash, and their colours follow the page's."""

import re
from xml.etree import ElementTree

from markupsafe import Markup

from experiment.results.drawing.picture import COLOURS, FAINT, INK, OTHER, SOFT

PAPER, INK_AT_NIGHT = "#14181d", "#e6e9ee"
"""The page's background and text where the reader's system is dark."""
SERIES = ("#0b62a4", "#b54708", "#00704f", "#8f1d5c", "#5b6300", "#6b3fa0", "#334155", "#b42318")
"""The colours of lines in plots, the first one first."""
BY_DAY = {colour: colour for colour in (*COLOURS.values(), OTHER, *SERIES)} | {COLOURS["none"]: "#5f6570"}
"""The colours that change with the page's, as they are in a file of their own → on a light page."""
OF_THE_PAGE = {INK: "currentColor", SOFT: "var(--soft)", FAINT: "var(--rule)", "white": "var(--paper)"}
OF_THE_PAGE |= {"#fafafa": "var(--raised)", "#e5e9f0": "var(--shade)"}
OF_THE_PAGE |= {colour: f"var(--c{colour.removeprefix('#')})" for colour in BY_DAY}
"""A colour of a picture → what it is within a page."""

ElementTree.register_namespace("", "http://www.w3.org/2000/svg")


def legible(text: str) -> str:
    """Returns a text without what no page has, such as a letter that is none or one that turns the direction."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def at_night(colour: str) -> str:
    """Returns a colour that is as legible on a dark page as the given one is on a light page."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(0.6 * part + 0.4 * 255):02x}" for part in parts)


def palette() -> list[tuple[str, str, str]]:
    """Returns the colours of all pictures: the name within the page, the colour by day, that at night."""
    return [(f"c{colour.removeprefix('#')}", day, at_night(colour)) for colour, day in BY_DAY.items()]


def inline(svg: str, name: str, words: str) -> Markup:
    """Returns an SVG file as an element of a page.

    What it defines has the name of the picture before its own, so that no two pictures of a page define the same. Its
    background is that of the page. What files add beside the picture, such as a style that would be the whole page's,
    is left out.

    Args:
        svg: The file.
        name: Names the picture within the page.
        words: What it shows, for those who do not see it.
    """
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in list(parent):
            if _tag(child) in ("metadata", "style") or _is_background(child, root):
                parent.remove(child)
    for title in root.findall("{*}title"):
        root.remove(title)
    for element in root.iter():
        element.tag = _tag(element)
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key in ("style", "fill", "stroke"):
                value = _painted(element.tag, key, value)
            elif key == "id":
                value = f"{name}-{value}"
            elif key == "href":
                value = f"#{name}-{value.removeprefix('#')}"
            element.set(key, re.sub(r"url\(#", f"url(#{name}-", value))
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib.update({"width": f"{float(width):g}", "height": f"{float(height):g}", "role": "img"})
    root.set("aria-label", legible(words))
    for unused in ("version", "font-family"):
        root.attrib.pop(unused, None)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _is_background(element: ElementTree.Element, root: ElementTree.Element) -> bool:
    """Returns whether an element is the white sheet behind a drawing."""
    return _tag(element) == "rect" and "x" not in element.attrib and element.get("width") == root.get("width")


def _painted(tag: str, key: str, value: str) -> str:
    """Returns a colour, or the declarations of a style, with the colours of the page."""
    if key == "style":
        value = re.sub(r"font: ([\d.]+)px [^;]*", r"font-size: \1px", value)
        return re.sub(r"#[0-9a-f]{6}", lambda found: OF_THE_PAGE.get(found[0], found[0]), value)
    if (tag, value) == ("text", "white") or ((tag, key) == ("rect", "fill") and value in BY_DAY):
        return value  # an operation that is filled has white words by day and at night
    return OF_THE_PAGE.get(value, value)
