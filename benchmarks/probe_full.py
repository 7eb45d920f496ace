"""The whole probe battery in one command: every concept, control and split, on the sites of a real agent.

    python -m benchmarks.probe_full [AGENT [NUM_LEVELS ...]]

Run by hand: minutes for each number of levels. CPU seconds stand beside the clock's, which also counts what else the
machine does; several numbers of levels say whether memory grows with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stopwatch import report

AGENT, NUM_LEVELS = "drc12-rl-maze11-s0", (150,)
OPTIONS = (
    "--concept", "all", "--sites", "ticks.*.*.hook_h", "ticks.*.*.hook_c", "--kernels", "1", "3", "--source", "optimal",
    "--clone", "--seeds", "5",
)  # fmt: skip


def main() -> None:
    agent = sys.argv[1] if len(sys.argv) > 1 else AGENT
    numbers = [int(number) for number in sys.argv[2:]] or NUM_LEVELS
    peaks = []
    for num_levels in numbers:
        seconds, cpu_seconds, peak = run(agent, num_levels)
        peaks.append(peak)
        measured = {"minutes": seconds / 60, "CPU minutes": cpu_seconds / 60, "peak memory, MB": peak}
        report(f"probe battery, {agent}, {num_levels} levels, 5 splits", measured, "", "<= 15 minutes on two cores")
    if len(peaks) > 1:
        grown = {f"peak memory, {numbers[-1]} over {numbers[0]} levels": peaks[-1] / peaks[0]}
        report("memory", grown, "x", "<= 1.2 x from 1,000 to 10,000 levels")


def run(agent: str, num_levels: int) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in MB of one run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "planprobe", "probe", agent, *OPTIONS, "--num-levels", str(num_levels)]
        began = time.perf_counter()
        process = subprocess.Popen([*command, "--out", str(Path(folder) / "out")], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
