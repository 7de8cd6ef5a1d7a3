"""The icons that NNI's portal shows are in the font that is drawn for it."""

import re
from pathlib import Path

import nni_node
import pytest
from fontTools.ttLib import TTFont

from experiment.manager.icons import EM, ICONS, write

SCRIPTS = sorted(Path(nni_node.__path__[0], "static", "static", "js").glob("*.js"))


@pytest.fixture(scope="module")
def portal_icons() -> dict[str, int]:
    """The characters that the portal's own scripts give to Fluent UI's icons, by their names."""
    found = {}
    for file in SCRIPTS:
        for family in re.findall(r'fontFamily:\'"FabricMDL2Icons.*?icons:\{(.*?)\}', file.read_text()):
            found |= {name: int(code, 16) for name, code in re.findall(r'"?(\w+)"?:"\\u([0-9a-f]{4})"', family)}
    return found


def test_characters_are_those_of_the_portal(portal_icons):
    assert len(portal_icons) > 1000
    assert {name: code for name, (code, _) in ICONS.items()}.items() <= portal_icons.items()


def test_every_icon_that_the_portal_names_is_drawn(portal_icons):
    """Fluent UI finds a name in whatever case. Some names are those of pictures beside the page, and not of icons."""
    known = {name.lower() for name in portal_icons}
    named = set()
    for file in SCRIPTS:
        for values in re.findall(
            r'(?:iconName|itemIcon|icon|\w+Navigation|closeIcon):([^,{}]*"[^,{}]*)', file.read_text()
        ):
            named |= {name.lower() for name in re.findall(r'"(\w+)"', values)} & known
    assert len(named) > 40
    assert named <= {name.lower() for name in ICONS}


def test_font(tmp_path):
    """Each icon has a drawing of its own within its square; the licence of the signs goes with them, not their name."""
    write(tmp_path / "icons.woff")
    assert (tmp_path / "icons.woff").read_bytes()[:4] == b"wOFF"
    with TTFont(tmp_path / "icons.woff") as font:
        glyphs, characters = font["glyf"], font.getBestCmap()
        assert characters == {code: name for name, (code, _) in ICONS.items()}
        for name in characters.values():
            glyph = glyphs[name]
            assert glyph.numberOfContours > 0
            assert min(glyph.xMin, glyph.yMin) >= 0 and max(glyph.xMax, glyph.yMax) <= EM, name
        assert "DejaVu changes are in public domain" in font["name"].getDebugName(13)
        assert not re.search("bitstream|vera|dejavu", font["name"].getDebugName(1).lower())
