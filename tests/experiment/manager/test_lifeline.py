"""What a process started ends with it."""

import subprocess
import sys

import psutil

from tests.helpers.paths import ROOT

POOL = """
import os, time
from experiment.manager.lifeline import pool

if __name__ == "__main__":
    with pool(1, time.sleep, 0) as processes:
        print(processes.submit(os.getpid).result(), flush=True)
        processes.submit(time.sleep, 600).result()
"""


def test_a_process_of_a_pool_ends_with_the_one_that_was_killed(tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    ) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        parent.kill()
    assert not psutil.wait_procs([worker], timeout=10)[1]
