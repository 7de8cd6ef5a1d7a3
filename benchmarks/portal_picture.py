"""Draws docs/portal.png: NNI's web portal after an experiment of four searches, one of each of four strategies.

python -m benchmarks.portal_picture    (needs Chromium, and playwright of requirements-dev.txt)

The searches are those of ``settings/digits.yml``, with fewer steps. They stay in ``runs/portal_picture``.
"""

import shutil
import sys
from pathlib import Path

import yaml
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from experiment.actions.search import follow
from experiment.manager import control
from experiment.manager.configuration import Configuration, read_configuration
from experiment.manager.process import portal
from model_space.files import write_text, write_whole

FOLDER = Path("runs/portal_picture")
PICTURE = Path("docs/portal.png")
STRATEGIES = ["progressive_shrinking", "darts", "single_path", "random_one_shot"]
SEARCH = {"epochs": 15, "steps_per_epoch": 40, "decay_epochs": [13]}
"""What is not as in ``settings/digits.yml``: 600 steps, not 1,500."""
COLUMNS = {"ID": False, "Duration": False, "strategy (space)": True}
"""The columns of the table that are not as the portal shows them first, so that it is not wider than the picture."""


def configuration() -> Configuration:
    """Returns ``config.yml`` with these searches."""
    settings = {"base": "../../settings/digits.yml", "search": SEARCH}
    write_text(FOLDER / "settings.yml", yaml.safe_dump(settings))
    content = read_configuration(Path("config.yml")).content | {
        "searchSpace": {"strategy": {"_type": "choice", "_value": STRATEGIES}},
        "trialCommand": f"OMP_NUM_THREADS=1 python -m experiment.manager.trial {FOLDER / 'settings.yml'}",
        "trialCodeDirectory": str(Path.cwd()),
        "tuner": {"codeDirectory": str(Path.cwd()), "className": "experiment.manager.grid.Grid"},
        "experimentWorkingDirectory": ".",
        "maxTrialNumber": len(STRATEGIES),
    }
    return Configuration(FOLDER / "config.yml", content)


def show(page: Page, address: str) -> None:
    """Opens the curves of all trials, with the table of the trials below them."""
    page.goto(f"{address}/detail")
    page.get_by_text("SUCCEEDED").nth(len(STRATEGIES) - 1).wait_for()
    page.get_by_role("button", name="Add/Remove columns").click()
    for column, shown in COLUMNS.items():
        page.get_by_role("checkbox", name=column).set_checked(shown, force=True)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("tab", name="Intermediate result").click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(3000)  # the curves are drawn from left to right


def main() -> None:
    """Searches, and writes the picture."""
    console = Console()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sys.exit("no browser: install chromium")
    folder = control.start(configuration())
    with control.held(folder):
        console.print(f"NNI's portal while it runs: {portal(folder)}")
        follow(console, folder)
        with sync_playwright() as playwright, write_whole(PICTURE) as partial:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 960}, color_scheme="light")
            show(page, str(portal(folder)))
            partial.write_bytes(page.screenshot())
            browser.close()
    console.print(f"written: {PICTURE}, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
