"""The rows of a square probe's design matrix: one floor square of one state each, and what a window sees there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import ShapeError


@dataclass(frozen=True)
class SquareRows:
    """N rows over M states of H x W boards, in order of state and square.

    states (N,) int64: 0..M - 1; squares (N,) int64: flat index; level_ids (N,): level of the row's state; board (H, W).
    """

    states: Tensor
    squares: Tensor
    level_ids: Tensor
    board: tuple[int, int]

    def __len__(self) -> int:
        return len(self.states)

    def take(self, planes: Tensor) -> Tensor:
        """The value of planes (M, H, W) on each row, (N,)."""
        return planes.flatten(1)[self.states, self.squares]


def list_rows(is_row: Tensor, level_ids: Tensor) -> SquareRows:
    """Rows of the squares marked in is_row (M, H, W) bool; level_ids (M,) of the states."""
    states, squares = is_row.flatten(1).nonzero(as_tuple=True)
    return SquareRows(states, squares, level_ids[states], (is_row.shape[1], is_row.shape[2]))


def gather_windows(planes: Tensor, rows: SquareRows, kernel: int) -> Tensor:
    """What a k x k read-out sees on each row, zeros beyond the board: (N, k * k * C) float32.

    Columns run over window rows, window columns, then channels; `probes.ProbeResult.read_board` undoes that order.

    Args: planes (M, C, H, W) of any dtype.
    Raises: ShapeError (an even kernel, or planes without squares or of another board).
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ShapeError(f"a window needs a centre: kernel must be odd, got {kernel}.")
    if planes.ndim != 4 or tuple(planes.shape[-2:]) != rows.board:
        raise ShapeError(
            f"planes of shape {tuple(planes.shape)} hold no squares of {rows.board[0]}x{rows.board[1]} boards. "
            "Square probes read spatial sites (B, C, H, W)."
        )
    margin, (height, width) = kernel // 2, rows.board
    padded = F.pad(planes.float(), (margin,) * 4).permute(0, 2, 3, 1)
    stride = width + 2 * margin
    flat = padded.reshape(-1, planes.shape[1])
    corner = rows.states * (height + 2 * margin) * stride + rows.squares // width * stride + rows.squares % width
    windows = flat.new_empty(len(rows), kernel * kernel, planes.shape[1])
    for offset in range(kernel * kernel):
        windows[:, offset] = flat[corner + offset // kernel * stride + offset % kernel]
    return windows.flatten(1)
