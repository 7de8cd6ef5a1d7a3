"""The README's picture of a report is the report's first screen."""

import pytest
from PIL import Image

from benchmarks import report_picture
from tests.helpers.browser import browser


def test_it_is_the_first_screen(tmp_path, monkeypatch):
    with browser():  # without one, the test is skipped
        pass
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"results/report.html: not there yet: make search writes it"):
        report_picture.main()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/report.html").write_text("<body style='background: rgb(0, 128, 0)'>")
    report_picture.main()
    with Image.open(tmp_path / "docs/report.png") as picture:
        assert picture.size == tuple(report_picture.SCREEN.values()) and picture.getpixel((9, 9))[:3] == (0, 128, 0)
