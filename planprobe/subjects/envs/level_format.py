"""One level as text, both ways: the symbols, the padding, and everything that can be wrong with a hand-made board.

Boards drawn by hand are ragged, indented and open to the outside of their walls. We pad them, turn everything outside
the walls into wall and crop to the drawn walls, so that every board that leaves this module is closed by a wall border.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from planprobe.core.errors import LevelFormatError
from planprobe.core.grid import BOX, TARGET, WALL

MAX_SIDE = 32  # squares; the published collections stay below it, and a longer row is rarely a level
PLAYER = 8  # only inside this module: the player is not part of a board
CODES = {
    " ": 0, "-": 0, "_": 0, "#": WALL, ".": TARGET, "$": BOX, "*": BOX | TARGET, "@": PLAYER, "+": PLAYER | TARGET,
}  # fmt: skip
SYMBOLS = {0: " ", WALL: "#", TARGET: ".", BOX: "$", BOX | TARGET: "*", PLAYER: "@", PLAYER | TARGET: "+"}
LEGEND = "'#' wall, '@' player, '+' player on target, '$' box, '*' box on target, '.' target, ' ' '-' '_' floor"
_FLOOR = " -_"


@dataclass(frozen=True)
class TextBlock:
    """Consecutive lines that draw one board. line: number of the first one, from 1."""

    rows: tuple[str, ...]
    line: int


def level_to_text(board: Tensor | np.ndarray, player: int) -> str:
    """Draw a board (H, W) with its player as H lines without a final newline; also the text renderer of an episode.

    A player drawn on a wall or a box hides it: such a position does not exist in play.
    """
    cells = (board.cpu().numpy() if isinstance(board, Tensor) else board).copy()
    row, column = divmod(int(player), cells.shape[1])
    cells[row, column] = (cells[row, column] & TARGET) | PLAYER
    return "\n".join("".join(SYMBOLS.get(code, "#") for code in line) for line in cells.tolist())


def split_blocks(text: str) -> list[TextBlock]:
    """Find the boards in a text; titles, comments and `; N` headers separate them and are dropped.

    A line belongs to a board when it holds nothing but level symbols, or when a wall is the first thing on it.
    """
    blocks: list[TextBlock] = []
    rows: list[str] = []
    in_comment = False
    lines = re.split(r"\r\n|\r|\n", text)
    for number, line in enumerate([*lines, ""], start=1):
        line = line.rstrip()
        word = line.strip().lower()
        in_comment = word != "comment-end:" and (in_comment or word == "comment:")
        if not in_comment and _draws_board(line):
            rows.append(line)
        elif rows:
            if any("#" in row for row in rows):
                blocks.append(TextBlock(tuple(rows), number - len(rows)))
            rows = []
    return blocks


def _draws_board(line: str) -> bool:
    inside = line.lstrip(_FLOOR + "\t")
    return bool(inside) and (inside.startswith("#") or all(symbol in CODES for symbol in inside))


def parse_block(block: TextBlock, name: str) -> tuple[np.ndarray, int]:
    """Board (H, W) uint8 and flat player index of one drawn level; `name` is the file, for errors.

    Raises: LevelFormatError (unknown symbol, no or several players, boxes and targets differ, open border, too large).
    """
    cells = _to_codes(block, name)
    cells = _close_outside(cells, block, name)
    drawn = np.argwhere(np.array([[symbol == "#" for symbol in row.ljust(cells.shape[1])] for row in block.rows]))
    (top, left), (bottom, right) = drawn.min(0), drawn.max(0)
    cells = cells[top : bottom + 1, left : right + 1]
    player = int(np.flatnonzero(cells & PLAYER)[0])
    return cells & ~np.uint8(PLAYER), player


def _to_codes(block: TextBlock, name: str) -> np.ndarray:
    """Codes (H, W) of the drawn rows, padded with floor, once the counts have been checked."""
    height, width = len(block.rows), max(len(row) for row in block.rows)
    indent = min(len(row) - len(row.lstrip(_FLOOR)) for row in block.rows)
    if max(height, width - indent) > MAX_SIDE:
        raise _error(
            name, block.line, f"this level has {height} x {width - indent} squares", f"at most {MAX_SIDE} a side"
        )
    cells = np.zeros((height, width), dtype=np.uint8)
    for row, symbols in enumerate(block.rows):
        for column, symbol in enumerate(symbols):
            if symbol not in CODES:
                problem = f"unknown symbol {symbol!r} in column {column + 1}"
                raise _error(name, block.line + row, problem, f"symbols are {LEGEND}; start a comment with ';'")
            cells[row, column] = CODES[symbol]
    _check_counts(cells, block, name)
    return cells


def _check_counts(cells: np.ndarray, block: TextBlock, name: str) -> None:
    players, boxes, targets = (int(((cells & flag) != 0).sum()) for flag in (PLAYER, BOX, TARGET))
    if players != 1:
        wanted = "draw exactly one '@' (or '+' where it stands on a target)"
        raise _error(name, block.line, f"this level has {players or 'no'} player{'s' if players > 1 else ''}", wanted)
    if boxes != targets and (boxes, targets) != (0, 1):
        wanted = "draw as many of each; '*' counts as both, '+' as a target. Only a maze has no box and one target"
        raise _error(name, block.line, f"this level has {boxes} boxes and {targets} targets", wanted)
    if not targets:
        raise _error(name, block.line, "this level has neither box nor target", "draw at least one target")


def _close_outside(cells: np.ndarray, block: TextBlock, name: str) -> np.ndarray:
    """Turn floor that is joined to the edge of the drawing into wall, unless something of the level lies there."""
    if all((edge == WALL).all() for edge in (cells[0], cells[-1], cells[:, 0], cells[:, -1])):
        return cells
    framed = np.pad(cells, 1)
    outside = np.zeros(framed.shape, dtype=bool)
    outside[0, 0] = True
    open_squares = framed != WALL
    while True:
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown &= open_squares
        if (grown == outside).all():
            break
        outside = grown
    lost = np.argwhere(outside & (framed != 0))
    if len(lost):
        row, column = lost[0] - 1
        symbol = SYMBOLS[int(cells[row, column])]
        problem = f"open border: {symbol!r} in column {column + 1} is joined to the outside"
        raise _error(name, block.line + int(row), problem, "close the walls around everything but floor")
    return np.where(outside[1:-1, 1:-1], np.uint8(WALL), cells)


def _error(name: str, line: int, problem: str, next_move: str) -> LevelFormatError:
    return LevelFormatError(f"{name}, line {line}: {problem}.\n  Next: {next_move}.")
