"""NNI's web portal as a user sees it, with an experiment of short trials, in a real browser."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from benchmarks.portal_picture import picture
from experiment.manager import control, icons, records
from experiment.manager.follow import follow
from experiment.manager.process import portal
from tests.helpers.browser import browser
from tests.helpers.experiments import fake, own_home, start, uninterrupted, write_config

SECONDS = 1000  # of Playwright's milliseconds


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A home folder of its own."""
    yield from own_home(tmp_path, monkeypatch)


def pixels(element) -> np.ndarray:
    """An element as it is drawn: height, width and the three colours from 0 to 255."""
    element.scroll_into_view_if_needed()
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB")).astype(int)


def wait_for_drawing(page, element, condition: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Waits until an element is drawn, which happens piece by piece; returns its pixels."""
    for _ in range(100):
        if condition(drawn := pixels(element)):
            return drawn
        page.wait_for_timeout(0.2 * SECONDS)
    pytest.fail(f"{element} is blank")


def check_icon(page, name: str) -> None:
    """An icon is drawn, by the font of this project, and by no box that stands for a missing character."""
    icon = page.locator(f"i[data-icon-name={name}]:visible").first
    icon.wait_for()
    character, fonts = icon.evaluate(
        """async icon => {
            const { fontSize, fontFamily } = getComputedStyle(icon);
            const fonts = await document.fonts.load(`${fontSize} ${fontFamily}`, icon.textContent);
            return [icon.textContent, fonts.map(font => font.status)];
        }"""
    )
    assert (ord(character), fonts) == (icons.ICONS[name][0], ["loaded"]), name
    drawn = wait_for_drawing(page, icon, lambda colours: np.ptp(colours, axis=(0, 1)).max() > 60)
    icon.evaluate("e => { e.dataset.was = e.textContent; e.textContent = '\\ue001'; }")  # a character of no font
    missing = pixels(icon)
    icon.evaluate("e => { e.textContent = e.dataset.was; }")
    assert missing.shape != drawn.shape or (missing != drawn).any(), f"{name} is the box of a missing character"


def check_curve(page, drawing) -> None:
    """Something of a colour is drawn, as a line with its marks is: axes and words are grey."""
    wait_for_drawing(page, drawing, lambda colours: (np.ptp(colours, axis=2) > 60).sum() > 100)


def row_of(page, trial: records.Trial):
    return page.locator("#tableList [role=row]", has=page.get_by_text(trial.id, exact=True))


def test_portal(home: Path):
    """Trials, parameters, states, curves, scores and architectures can be seen, icons too, and nothing is asked of the
    web."""
    with browser() as launched:
        folder = start(write_config(home, searchSpace=fake(seed=[0, 1], pause=[0.02]), maxTrialNumber=2))
        with control.held(folder):
            *_, last = follow(folder)
            page = launched.new_page(viewport={"width": 1600, "height": 1000})
            asked, said = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
            page.set_default_timeout(60 * SECONDS)
            page.on("pageerror", lambda error: said.append(str(error)))
            look(page, portal(folder), last.trials, home)
            page.close()  # it asks again every ten seconds, and the manager is about to end
            with Image.open(io.BytesIO(picture(launched, portal(folder), trials=2))) as image:
                assert image.format == "PNG" and image.width == 1280
    foreign = [url for url in asked if urlsplit(url).hostname != "127.0.0.1" and not url.startswith(("data:", "blob:"))]
    assert asked and not foreign
    assert not said


def look(page, address: str, trials: list[records.Trial], home: Path) -> None:
    """Goes through the portal as its user does."""
    page.goto(address)
    page.get_by_text("vqa-architecture-search").wait_for()
    for name in ("Market", "MarketDown", "ChevronDown", "ReminderTime"):
        check_icon(page, name)

    for panel in ("summary", "search-space", "config", "log"):
        page.locator(f"img[alt={panel}]").click()
        page.locator(".ms-Panel-main .view-line").nth(1).wait_for()  # of the editor that shows it
        page.get_by_role("button", name="Close").last.click()
        page.locator(".ms-Panel-main").wait_for(state="detached")
    page.goto(f"{address}/experiment")
    check_icon(page, "RevToggleKey")

    page.goto(f"{address}/detail")
    for trial in trials:
        row = row_of(page, trial)
        score = uninterrupted(trial.parameters["seed"], home)[-1]
        row.get_by_text("SUCCEEDED").wait_for()  # the page asks again every ten seconds
        row.get_by_text(f"{score} (FINAL)").first.wait_for()
    for name in ("HomeGroup", "Equalizer", "StackedLineChart", "BulletedList", "Search", "LineChart", "Copy"):
        check_icon(page, name)

    page.get_by_role("tab", name="Intermediate result").click()
    check_curve(page, page.locator("canvas:visible").first)

    row = row_of(page, trials[0])
    row.locator("i[data-icon-name=ChevronRight]").click()
    check_icon(page, "TestParameter")
    opened = page.locator(".openRow")
    for key, value in trials[0].parameters.items():
        assert f"{key}:" in opened.inner_text() and str(value) in opened.inner_text()
    row.get_by_title("Intermediate").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Intermediate results").wait_for()
    check_curve(page, dialog.locator("canvas").first)
    check_icon(page, "Cancel")
    dialog.locator("i[data-icon-name=Cancel]").click()

    page.get_by_role("button", name="Add/Remove columns").click()
    page.get_by_role("dialog").get_by_text("architecture (metric)").click()
    page.get_by_role("button", name="Save").click()
    row_of(page, trials[1]).get_by_text(trials[1].final["architecture"]).first.wait_for()
