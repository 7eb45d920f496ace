"""Training and evaluation on a device that is not the CPU, pretended where there is none."""

import subprocess
import sys
from pathlib import Path

CHECKS = Path(__file__).with_name("on_another_device.py")


def test_the_whole_loop_runs_on_another_device():
    """In a process of its own: autograd counts the devices when it first runs, and they stay for good."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(CHECKS)]
    done = subprocess.run(command, cwd=CHECKS.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
