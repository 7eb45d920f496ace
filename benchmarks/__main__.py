"""Run every benchmark, or the named ones, each in a process of its own, and print what they found."""

from __future__ import annotations

import os
import subprocess
import sys

NAMES = ("training_lstm", "training_drc", "environment", "capture", "probe_battery", "steering")
BY_HAND = ("probe_calibration", "probe_full")  # minutes


def main() -> int:
    names = sys.argv[1:] or NAMES
    unknown = sorted(set(names) - set(NAMES) - set(BY_HAND))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES + BY_HAND)}", file=sys.stderr)
        return 2
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    print(f"{os.cpu_count()} cores, {environment['OMP_NUM_THREADS']} thread(s) a run")
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], env=environment).returncode for name in names]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
