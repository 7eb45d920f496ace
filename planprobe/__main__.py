"""`python -m planprobe` and the `planprobe` command."""

from __future__ import annotations

import sys

from planprobe.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
