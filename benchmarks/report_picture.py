"""Draws docs/report.png: the first screen of the report that a search wrote.

python -m benchmarks.report_picture    (after make search; needs Chromium, and playwright of requirements-dev.txt)
"""

import sys
from pathlib import Path

from benchmarks.browser import browser
from model_space.files import write_whole

REPORT = Path("results/report.html")
PICTURE = Path("docs/report.png")
SCREEN = {"width": 1100, "height": 1400}


def main() -> None:
    if not REPORT.exists():
        sys.exit(f"{REPORT}: not there yet: make search writes it")
    with browser() as chromium, write_whole(PICTURE) as partial:
        page = chromium.new_page(viewport=SCREEN, color_scheme="light")  # type: ignore[arg-type]  # a dict of ints
        page.goto(REPORT.resolve().as_uri())
        partial.write_bytes(page.screenshot())
    print(f"written: {PICTURE}, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
