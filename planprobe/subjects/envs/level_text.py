"""Level files: read and write hand-made collections (XSB) and DeepMind's Boxoban, and load Boxoban in bulk.

A file may hold boards of several sizes, and a `LevelSet` holds one, so reading gives one set per size.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from planprobe.core.errors import LevelFormatError, OutputError
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.level_format import CODES, PLAYER, level_to_text, parse_block, split_blocks

__all__ = [
    "boxoban_levels", "boxoban_root", "level_to_text", "levels_from_text", "read_levels", "render_text", "write_levels",
]  # fmt: skip

Style = Literal["boxoban", "xsb"]
Difficulty = Literal["unfiltered", "medium", "hard"]
Split = Literal["train", "valid", "test"]
BOXOBAN_VARIABLE = "PLANPROBE_BOXOBAN"
BOXOBAN_SIZE, BOXOBAN_BOXES = 10, 4
# What must not be trained (or tuned) on: the published splits share boards.
HELD_OUT = {
    "train": ("unfiltered/test", "unfiltered/valid", "medium/valid", "hard"),
    "valid": ("unfiltered/test", "hard"),
}
render_text = level_to_text


def read_levels(path: Path | str) -> list[LevelSet]:
    """Every level of a text file, one set per board size in order of first appearance, in file order within a size.

    Raises: LevelFormatError (unreadable, empty, or a malformed level: says the line).
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise LevelFormatError(
            f"cannot read levels from '{path}': {problem.strerror}.\n  Next: check the path."
        ) from problem
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:  # old collections carry titles in Latin-1, which never fails
        text = raw.decode("latin-1")
    return levels_from_text(text, path.name)


def levels_from_text(text: str, name: str) -> list[LevelSet]:
    """As `read_levels`, from a string; `name` (a file name) names the sets and appears in errors."""
    blocks = split_blocks(text)
    if not blocks:
        raise LevelFormatError(f"{name}: no level in it.\n  Next: draw boards with '#' walls and one '@' player.")
    groups: dict[tuple[int, int], list[tuple[np.ndarray, int]]] = {}
    for block in blocks:
        board, player = parse_block(block, name)
        groups.setdefault(board.shape, []).append((board, player))
    stem = name.rsplit(".", 1)[0] or name
    return [
        LevelSet(
            torch.from_numpy(np.stack([board for board, _ in group])),
            torch.tensor([player for _, player in group], dtype=torch.int64),
            f"{stem}/{height}x{width}",
        )
        for (height, width), group in groups.items()
    ]


def write_levels(path: Path | str, levels: LevelSet | Iterable[LevelSet], *, style: Style = "xsb") -> None:
    """Write levels as text; the file appears complete or not at all.

    Args:
        levels: one set, or several (of several sizes).
        style: 'xsb' numbers levels from 1 and takes everything; 'boxoban' numbers them from 0 and refuses boxes or
            players on targets, which its readers do not know (generated levels may start the player on one).
    Raises: LevelFormatError (not writable in this style); OutputError (the file could not be written).
    """
    sets = [levels] if isinstance(levels, LevelSet) else list(levels)
    drawings = [
        level_to_text(board, int(player))
        for level_set in sets
        for board, player in zip(level_set.boards.cpu(), level_set.players.cpu(), strict=True)
    ]
    if style not in ("boxoban", "xsb"):
        raise LevelFormatError(f"style {style!r} is not one of 'boxoban', 'xsb'.")
    if style == "boxoban":
        for number, drawing in enumerate(drawings):
            if "*" in drawing or "+" in drawing:
                raise LevelFormatError(
                    f"level {number} has a box or the player on a target, which Boxoban files cannot hold.\n"
                    "  Next: style 'xsb', which takes everything."
                )
    first = 0 if style == "boxoban" else 1
    _write_atomically(Path(path), "".join(f"; {n}\n{drawing}\n\n" for n, drawing in enumerate(drawings, start=first)))


def _write_atomically(path: Path, text: str) -> None:
    temporary = None
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as problem:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        message = f"cannot write levels to '{path}': {problem.strerror}; nothing was written."
        raise OutputError(f"{message}\n  Next: check that the folder exists, is writable and has room.") from problem


def boxoban_root() -> Path | None:
    """The folder of the Boxoban levels, from the environment variable PLANPROBE_BOXOBAN, or None where it is unset."""
    root = os.environ.get(BOXOBAN_VARIABLE)
    return Path(root) if root else None


def boxoban_levels(difficulty: Difficulty, split: Split, *, num_files: int | None = None) -> LevelSet:
    """DeepMind's Boxoban levels: 10 x 10, four boxes.

    The published splits share boards. Whatever also occurs in a validation or test file of any difficulty, up to
    rotation, reflection and start square, is left out of 'train', and what occurs in a test file out of 'valid', so a
    set may be a few levels short of a thousand a file. 'hard' comes without splits and counts as 'test'.

    Args:
        num_files: only the first n files (1000 levels each; all of them where there are fewer), None = all.
    Raises: LevelFormatError (the folder is missing, a file is malformed, or no file is asked for).
    """
    if num_files is not None and num_files < 1:
        raise LevelFormatError(f"boxoban_levels({difficulty!r}, {split!r}, num_files={num_files}): ask for 1 or more.")
    folder = f"{difficulty}/{split}" if difficulty != "hard" else "hard"
    files = _boxoban_files(folder)
    if not files or (difficulty == "hard" and split != "test"):
        raise _missing_boxoban(f"{difficulty}/{split}")
    boards, players = _read_boxoban(files[:num_files])
    held_out = [file for other in HELD_OUT.get(split, ()) for file in _boxoban_files(other)]
    name = f"boxoban/{difficulty}/{split}"
    levels = LevelSet(torch.from_numpy(boards), torch.from_numpy(players), name)
    if not held_out:
        return levels
    leaked = _find_shared(levels, torch.from_numpy(_read_boxoban(held_out)[0]))
    return levels[torch.from_numpy(~leaked)] if leaked.any() else levels


def _boxoban_files(folder: str) -> list[Path]:
    root = boxoban_root()
    return sorted((root / folder).glob("[0-9]*.txt")) if root is not None else []


def _missing_boxoban(wanted: str) -> LevelFormatError:
    root = boxoban_root()
    if root is None:
        return LevelFormatError(
            f"no Boxoban levels '{wanted}': {BOXOBAN_VARIABLE} is not set.\n"
            f"  Next: clone github.com/google-deepmind/boxoban-levels and set {BOXOBAN_VARIABLE} to its folder."
        )
    known = [
        f"{d}/{s}" for d in ("unfiltered", "medium") for s in HELD_OUT | {"test": ()} if _boxoban_files(f"{d}/{s}")
    ]
    known += ["hard/test"] if _boxoban_files("hard") else []
    return LevelFormatError(
        f"no Boxoban levels '{wanted}' under {root} ({BOXOBAN_VARIABLE}).\n"
        f"  It has: {', '.join(known) or 'no level files'}."
    )


def _read_boxoban(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Boards (N, 10, 10) uint8 and players (N,) int64 of many files; an odd one is parsed slowly."""
    parts = []
    for file in files:
        part = _parse_boxoban(file.read_bytes())
        if part is None:
            sets = read_levels(file)
            if [level_set.boards.shape[1:] for level_set in sets] != [(BOXOBAN_SIZE, BOXOBAN_SIZE)]:
                raise LevelFormatError(f"{file}: not all boards are {BOXOBAN_SIZE} x {BOXOBAN_SIZE} as Boxoban's are.")
            part = sets[0].boards.numpy(), sets[0].players.numpy()
        parts.append(part)
    return np.concatenate([boards for boards, _ in parts]), np.concatenate([players for _, players in parts])


def _parse_boxoban(raw: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """All boards of a regular Boxoban file at once; None where anything is out of the ordinary."""
    table = np.full(256, 255, dtype=np.uint8)
    for symbol, code in CODES.items():
        table[ord(symbol)] = code
    data = np.frombuffer(raw, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    rows = starts[(ends - starts == BOXOBAN_SIZE) & (data[starts] == ord("#"))] if len(ends) else ends
    if len(rows) == 0 or len(rows) % BOXOBAN_SIZE or len(rows) != BOXOBAN_SIZE * raw.count(b";"):
        return None
    cells = table[data[rows[:, None] + np.arange(BOXOBAN_SIZE)]].reshape(-1, BOXOBAN_SIZE**2)
    framed = cells.reshape(-1, BOXOBAN_SIZE, BOXOBAN_SIZE)
    closed = (framed[:, [0, -1]] == WALL).all() and (framed[:, :, [0, -1]] == WALL).all()
    counts = [((cells & flag) != 0).sum(1) for flag in (PLAYER, BOX, TARGET)]
    regular = (counts[0] == 1) & (counts[1] == BOXOBAN_BOXES) & (counts[2] == BOXOBAN_BOXES)
    if (cells == 255).any() or not closed or not regular.all():
        return None
    return framed & ~np.uint8(PLAYER), ((cells & PLAYER) != 0).argmax(1)


def _find_shared(levels: LevelSet, others: torch.Tensor) -> np.ndarray:
    """Which levels (N,) bool share their layout with one of `others` (M, H, W), up to symmetry.

    Sums over squares with weights that are equal on symmetric squares are equal for symmetric boards and almost never
    otherwise; only the few candidates they leave are compared exactly, so a million levels take a second.
    """
    size = BOXOBAN_SIZE
    weights = np.random.default_rng(0).integers(1, 2**62, size=(8, size, size), dtype=np.uint64)
    weights = np.minimum(weights, weights.swapaxes(1, 2))
    for axis in (1, 2):
        weights = np.minimum(weights, np.flip(weights, axis))
    weights = weights.reshape(8, -1)

    def symmetric_sums(boards: np.ndarray) -> np.ndarray:
        cells = boards.reshape(len(boards), -1)
        sums = np.zeros(len(boards), dtype=np.uint64)
        for square in range(size * size):
            sums += weights[cells[:, square], square]
        return sums

    candidates = np.flatnonzero(np.isin(symmetric_sums(levels.boards.numpy()), symmetric_sums(others.numpy())))
    shared = np.zeros(len(levels), dtype=bool)
    if len(candidates):
        no_players = torch.zeros(len(others), dtype=torch.int64)
        known = set(LevelSet(others, no_players).canonical_keys(with_player=False))
        keys = levels[torch.from_numpy(candidates)].canonical_keys(with_player=False)
        shared[candidates] = [key in known for key in keys]
    return shared
