"""One manager starts at a time on a machine, whosever home its records are in."""

import time
from multiprocessing import get_context
from pathlib import Path

from experiment.manager import control


def enter(file: Path) -> None:
    with control._alone(), file.open("a", buffering=1) as said:
        said.write("in ")
        time.sleep(0.3)
        said.write("out ")


def test_processes_take_turns_and_one_that_is_killed_lets_the_next_one_in(tmp_path):
    fork = get_context("fork")
    waiting = [fork.Process(target=enter, args=(tmp_path / "said",)) for _ in range(3)]
    for process in waiting:
        process.start()
    for process in waiting:
        process.join()
    assert (tmp_path / "said").read_text().split() == ["in", "out"] * 3
    killed = fork.Process(target=enter, args=(tmp_path / "other",))
    killed.start()
    while not (tmp_path / "other").exists():
        time.sleep(0.01)
    killed.kill()
    enter(tmp_path / "after")
    assert (tmp_path / "after").read_text().split() == ["in", "out"]
