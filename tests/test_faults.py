"""The harness of faults runs, counts, and loses nothing; `make faults` runs it for longer."""

import re

from tests.helpers import faults
from tests.helpers.running import run


def test_nothing_is_lost():
    said = run("-m", "tests.helpers.faults", "--kills", 10, "--broken", 100, "--seed", 1)
    counts = [tuple(map(int, row)) for row in re.findall(r"\| +(\d+) \| +(\d+) \| +(\d+) \|", said)]
    assert len(counts) == 14 and sum(tried for tried, *_ in counts) >= 1010
    assert all(tried == survived and not lost for tried, survived, lost in counts)


def test_what_is_lost_is_counted(tmp_path, monkeypatch):
    """A reader that takes what it should not, or breaks, is found."""
    monkeypatch.setattr(faults.tempfile, "gettempdir", lambda: str(tmp_path))
    file = tmp_path / "file"
    file.write_bytes(bytes(range(100)))
    draw = faults.random.Random(0)
    taking = faults.files("some", faults.Form(file, lambda path: path.read_bytes(), checked=True), 20, draw)
    assert taking.tried == 20 and taking.survived == 20 - len(taking.lost) < 5
    assert "taken, and it differs" in taking.lost[0] and (tmp_path / taking.lost[0].partition(":")[0]).exists()
    whole = file.read_bytes()

    def fails(path):
        assert path.read_bytes() == whole
        return 1

    breaking = faults.files("some", faults.Form(file, fails, checked=False), 20, draw)
    assert "AssertionError" in breaking.lost[0] and len(breaking.lost) > 15
    assert file.read_bytes() == whole
