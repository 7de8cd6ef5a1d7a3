"""Draws docs/portal.png: NNI's web portal after an experiment of four searches, two of each of two strategies.

python -m benchmarks.portal_picture    (needs Chromium, and playwright of requirements-dev.txt)

The searches are those of ``settings/digits.yml``, with fewer steps. They stay in ``runs/portal_picture``.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console

from benchmarks.browser import browser
from experiment.actions.search import follow
from experiment.manager import control
from experiment.manager.configuration import Configuration, read_configuration
from experiment.manager.process import portal
from model_space.files import write_text, write_whole

if TYPE_CHECKING:
    from playwright.sync_api import Browser  # of requirements-dev.txt

FOLDER = Path("runs/portal_picture")
PICTURE = Path("docs/portal.png")
TRIALS: dict[str, list] = {"strategy": ["progressive_shrinking", "single_path"], "seed": [0, 1]}
"""What the searches differ by."""
COUNT = math.prod(map(len, TRIALS.values()))
SEARCH = {
    "epochs": 12,
    "steps_per_epoch": 25,
    "warmup": "75 steps",
    "decay_epochs": [10],
    "samples": 32,
    "shortlist": 4,
    "tuning_steps": 30,
}
"""What is not as in ``settings/digits.yml``: a fifth of its steps, so that the picture takes minutes."""
COLUMNS = {"Trial No.": False, "ID": False, "Duration": False, "seed (space)": True, "strategy (space)": True}
"""The columns of the table that are not as the portal shows them first, so that it is not wider than the picture."""


def configuration() -> Configuration:
    """Returns ``config.yml`` with these searches."""
    settings = {"base": "../../settings/digits.yml", "search": SEARCH}
    write_text(FOLDER / "settings.yml", yaml.safe_dump(settings))
    content = read_configuration(Path("config.yml")).content | {
        "searchSpace": {key: {"_type": "choice", "_value": values} for key, values in TRIALS.items()},
        "trialCommand": f"OMP_NUM_THREADS=1 python -m experiment.manager.trial {FOLDER / 'settings.yml'}",
        "trialCodeDirectory": str(Path.cwd()),
        "tuner": {"codeDirectory": str(Path.cwd()), "className": "experiment.manager.grid.Grid"},
        "experimentWorkingDirectory": ".",
        "maxTrialNumber": COUNT,
    }
    return Configuration(FOLDER / "config.yml", content)


def picture(chromium: "Browser", address: str, trials: int) -> bytes:
    """Returns a picture, as PNG, of the curves of all trials with the table of the trials below them.

    Args:
        chromium: It opens a page of its own.
        address: That of the portal.
        trials: The number of trials, all of which have succeeded or will.
    """
    page = chromium.new_page(viewport={"width": 1280, "height": 960}, color_scheme="light")
    page.set_default_timeout(60_000)  # milliseconds, as below
    page.goto(f"{address}/detail")
    page.get_by_text("SUCCEEDED").nth(trials - 1).wait_for()
    page.get_by_role("button", name="Add/Remove columns").click()
    for column, shown in COLUMNS.items():
        page.get_by_role("checkbox", name=column, exact=True).set_checked(shown, force=True)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("tab", name="Intermediate result").click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(3_000)  # the curves are drawn from left to right
    png = page.screenshot()
    page.close()
    return png


def main() -> None:
    """Searches, and writes the picture."""
    console = Console()
    with browser() as chromium, control.held(folder := control.start(configuration())):
        console.print(f"NNI's portal while it runs: {portal(folder)}")
        follow(console, folder)
        with write_whole(PICTURE) as partial:
            partial.write_bytes(picture(chromium, str(portal(folder)), COUNT))
    console.print(f"written: {PICTURE}, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
