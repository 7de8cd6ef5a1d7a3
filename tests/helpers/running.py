"""Runs programs of the project as processes of their own."""

import os
import subprocess
import sys

from tests.helpers.paths import ROOT


def run(*command) -> str:
    """Runs Python with these arguments and returns what it printed; it must succeed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def launch(*arguments) -> subprocess.CompletedProcess:
    """Runs launch.py with these arguments."""
    command = [sys.executable, str(ROOT / "launch.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
