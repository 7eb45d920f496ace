"""How this process asks for memory: nets make thousands of tensors of a few sizes, and glibc gives each back."""

from __future__ import annotations

import ctypes


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed blocks: mapping and clearing 4 MB afresh for every tensor costs a third of a run."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # not glibc: nothing to tune
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        libc.mallopt(option, value)
