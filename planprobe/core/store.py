"""Files: atomic writes, tensors without pickle, JSON. Nothing here knows what it stores.

A write goes to a temporary file beside the target and is renamed over it, so that a reader sees the old file or the new
one, and a full disk or a kill leaves no half file.
"""

from __future__ import annotations

import glob
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planprobe.core.errors import CheckpointError, OutputError


def write_atomic(path: str | Path, write: Callable[[str], Any] | bytes | str) -> Path:
    """Write bytes, text, or whatever `write(temporary path)` writes. Raises: OutputError (cannot be written)."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        os.chmod(temporary, 0o644)
        if callable(write):
            write(temporary)
        else:
            Path(temporary).write_bytes(write.encode() if isinstance(write, str) else write)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}. Choose another folder.") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
    return path


def remove_unfinished(path: str | Path) -> None:
    """Delete what killed processes left of `write_atomic` to this file; nobody may be writing it."""
    path = Path(path)
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> Path:
    """Indented JSON; floats as they are (NaN is an error, since other readers refuse it)."""
    return write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def save_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Path:
    """safetensors with one JSON metadata entry."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return write_atomic(path, lambda temporary: save_file(contiguous, temporary, {"planprobe": json.dumps(metadata)}))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata. Raises: CheckpointError (missing, truncated, or not written by planprobe)."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file '{path}'.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("planprobe", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"'{path}' is not a safetensors file, or it is truncated: {error}.\n"
            "  Pickled checkpoints are refused because loading one runs its code; convert it with safetensors first."
        ) from None
    if not isinstance(metadata, dict):
        raise CheckpointError(f"'{path}' was not written by planprobe: it holds no planprobe metadata.")
    return tensors, metadata


def load_strictly(module: torch.nn.Module, tensors: dict[str, Tensor], *, where: str) -> None:
    """Load every weight or none. Raises: CheckpointError with the difference in keys and shapes."""
    expected = module.state_dict()
    missing = sorted(set(expected) - set(tensors))
    extra = sorted(set(tensors) - set(expected))
    misshapen = [
        f"{key}: file {tuple(tensors[key].shape)}, net {tuple(expected[key].shape)}"
        for key in sorted(set(expected) & set(tensors))
        if tensors[key].shape != expected[key].shape
    ]
    if missing or extra or misshapen:
        lines = [f"{where} does not fit the net of its recipe; nothing was loaded."]
        for label, keys in (("missing", missing), ("unexpected", extra), ("other shape", misshapen)):
            if keys:
                more = f", ... ({len(keys)} in all)" if len(keys) > 8 else ""
                lines.append(f"  {label}: {', '.join(keys[:8])}{more}")
        raise CheckpointError("\n".join(lines))
    module.load_state_dict(tensors)
