"""The whole probe battery in one command: every concept, control and split, on the sites of a real agent.

    python -m benchmarks.probe_full [AGENT [NUM_LEVELS]]
    python -m benchmarks.probe_full --memory [AGENT [FEW MANY]]

By hand: some 25 CPU minutes, as its parts add up, a third of them the clone's where boards are 11 x 11. CPU seconds
stand beside the clock's, which also counts what else the machine does. 150 levels are those of a quick study: over five
splits 98 of them are tested, and intervals reach .04 to either side of a score and .03 of a lead, under the .05 that
counts as one. Fewer save less than they seem to: with fewer rows than weights, fits take several times the steps.

`--memory` asks whether memory grows with the levels, on one concept of squares and one of states: what is recorded and
kept is of the same kind for every concept, and all of them would take hours on a thousand levels. States are no more
than `recording.MAX_STATES`, so of many levels each gives fewer, and of more levels than that only the first are played.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stopwatch import report

AGENT, NUM_LEVELS, FEW_AND_MANY = "drc12-rl-maze11-s0", 150, (1_000, 10_000)
SITES = ("--sites", "ticks.*.*.hook_h", "ticks.*.*.hook_c", "--source", "optimal")
WHOLE = ("--concept", "all", *SITES, "--kernels", "1", "3", "--clone", "--seeds", "5")
OF_MEMORY = ("--concept", "agent-approach-direction", "action-ahead-1", *SITES, "--readouts", "pooled", "--seeds", "1")


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--memory"]
    agent, numbers = arguments[0] if arguments else AGENT, [int(number) for number in arguments[1:]]
    if "--memory" in sys.argv:
        few, many = numbers or FEW_AND_MANY
        peaks = [run(agent, number, OF_MEMORY)[2] for number in (few, many)]
        grown = {f"peak memory, {few} levels, MB": peaks[0], f"{many} levels, MB": peaks[1], "x": peaks[1] / peaks[0]}
        report(f"memory of a probe table, {agent}", grown, "", "<= 1.2 x from 1,000 to 10,000 levels")
        return
    num_levels = numbers[0] if numbers else NUM_LEVELS
    seconds, cpu_seconds, peak = run(agent, num_levels, WHOLE)
    measured = {"minutes": seconds / 60, "CPU minutes": cpu_seconds / 60, "peak memory, MB": peak}
    report(f"probe battery, {agent}, {num_levels} levels, 5 splits", measured, "", "<= 15 minutes on two cores")


def run(agent: str, num_levels: int, options: tuple[str, ...]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in MB of one run of the command on two threads."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "planprobe", "probe", agent, *options, "--num-levels", str(num_levels)]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--threads", "2", "--out", str(Path(folder) / "out")], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
