"""The page of an experiment in a real browser: drawn, on a phone, by day and night, by keyboard, in print."""

import pytest

from tests.helpers.browser import browser
from tests.helpers.reported import Reported

OPEN_ALL = "document.querySelectorAll('details').forEach(each => { each.open = true; })"

WITHOUT_MARKS = """() => [...document.querySelectorAll('svg[role=img]')].filter(svg => {
    const marks = [...svg.querySelectorAll('path, rect, circle')].filter(mark => {
        const box = mark.getBoundingClientRect();
        return !mark.closest('defs') && box.width + box.height > 0;
    });
    const box = svg.getBoundingClientRect();
    return marks.length < 2 || box.width < 50 || box.height < 30;
}).map(svg => svg.getAttribute('aria-label'))"""
"""Labels of the pictures in which nothing is to be seen."""

FAINT = """() => {
    const channels = text => {
        const parts = text.match(/[\\d.]+/g).map(Number);
        return text.startsWith('color(') ? [...parts.slice(0, 3).map(p => 255 * p), parts[3] ?? 1]
            : [...parts.slice(0, 3), parts[3] ?? 1];
    };
    const over = (top, below) => below.map((value, i) => top[3] * top[i] + (1 - top[3]) * value);
    const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const contrast = (a, b) => {
        const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
        return (high + 0.05) / (low + 0.05);
    };
    const paint = element => {  // what an element lays under the text above it
        const style = getComputedStyle(element);
        const shape = element instanceof SVGGeometryElement;
        const text = shape ? style.fill : style.backgroundColor;
        if (text === 'none' || element instanceof SVGTextElement) return [0, 0, 0, 0];
        const colour = channels(text);
        return shape ? [...colour.slice(0, 3), colour[3] * style.fillOpacity * style.opacity] : colour;
    };
    const faint = [];
    let texts = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || element.closest('title, style')) continue;
        element.scrollIntoView({block: 'center', inline: 'center'});
        const range = document.createRange();
        range.selectNodeContents(walker.currentNode);
        const box = [...range.getClientRects()].find(each => each.width);
        if (!box) { faint.push('not shown: ' + walker.currentNode.textContent); continue; }
        const below = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        if (!below.includes(document.documentElement)) below.push(document.documentElement);
        const ground = below.reverse().reduce((colour, each) => over(paint(each), colour), [255, 255, 255]);
        const style = getComputedStyle(element);
        const ink = over(channels(element instanceof SVGElement ? style.fill : style.color), ground);
        texts += 1;
        if (contrast(ink, ground) < 4.5)
            faint.push(`${walker.currentNode.textContent.trim()}: ${contrast(ink, ground).toFixed(2)}`);
    }
    return [texts, faint];
}"""
"""How many texts there are, and those of them whose contrast against what is under them is below 4.5."""

BY_KEYBOARD = "[...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]"


@pytest.fixture(scope="module")
def opened(tmp_path_factory, tiny_data_settings, tiny_data):
    """Opens the page of a whole experiment; in the end nothing may have been said on the console or asked for."""
    folder = tmp_path_factory.mktemp("reported")
    said, asked = [], []
    with browser() as started, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Reported(folder, tiny_data_settings, tiny_data).whole()
        address = (folder / "results/report.html").as_uri()

        def page(width: int = 1100, scheme: str = "light"):
            new = started.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            new.on("console", lambda message: said.append(message.text))
            new.on("pageerror", lambda error: said.append(str(error)))
            new.on("request", lambda request: asked.append(request.url))
            new.goto(address)
            new.evaluate(OPEN_ALL)
            return new

        yield page
    assert not said and set(asked) == {address}


def test_every_plot_has_marks(opened):
    page = opened()
    assert page.locator("svg[role=img]").count() > 12
    assert page.evaluate(WITHOUT_MARKS) == []


@pytest.mark.parametrize("width", [360, 800])
def test_it_does_not_scroll_sideways(opened, width):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.locator(".scroll").evaluate_all("all => all.filter(each => each.scrollWidth > each.clientWidth).length")
    assert wide or width > 360  # a table scrolls in itself


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(opened, scheme):
    page = opened(scheme=scheme)
    texts, faint = page.evaluate(FAINT)
    assert texts > 300 and faint == []
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_every_link_and_all_that_opens_or_scrolls_is_reached_by_the_tab_key(opened):
    page = opened()
    number = page.evaluate(f"{BY_KEYBOARD}.length")
    reached = []
    for _ in range(number):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(f"{BY_KEYBOARD}.indexOf(document.activeElement)"))
    assert number > 20 and reached == list(range(number))


def test_on_paper_it_is_light_and_what_is_closed_is_there_too(opened):
    page = opened(700, "dark")
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = false; })")
    heights = "all => all.map(each => each.checkVisibility({contentVisibilityAuto: true}) && each.clientHeight > 0)"
    assert not any(page.locator("details > .inner").evaluate_all(heights))
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert all(page.locator("details > .inner").evaluate_all(heights))
