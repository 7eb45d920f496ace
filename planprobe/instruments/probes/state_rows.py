"""The rows of a probe of whole states: one a state, and what a read-out of the board sees there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, unknown_name
from planprobe.instruments.probes.square_rows import SquareRows, gather_windows

READOUTS = ("pooled", "flat", "agent", "around")
"""pooled: mean and maximum of each channel over the board; flat: every channel of every square; agent: the agent's own
square; around: the 3x3 squares about it. Sites without squares are taken as they are, whatever the read-out."""


@dataclass(frozen=True)
class StateRows:
    """N states. positions (N,) int64: the agent's square; level_ids (N,); board (H, W)."""

    positions: Tensor
    level_ids: Tensor
    board: tuple[int, int]

    def __len__(self) -> int:
        return len(self.positions)


def gather_states(values: Tensor, rows: StateRows, readout: str) -> Tensor:
    """What a read-out sees of each state, (N, D) float32.

    Args: values (N, C, H, W) of a site or of observation planes, or (N, D) of a site without squares, any dtype.
    Raises: UnknownNameError (read-out); ShapeError (values of other states or boards).
    """
    if readout not in READOUTS:
        raise unknown_name("read-out", readout, READOUTS)
    if len(values) != len(rows) or values.ndim not in (2, 4):
        raise ShapeError(f"values {tuple(values.shape)} for {len(rows)} states: need (N, C, H, W) or (N, D).")
    if values.ndim == 2:
        return values.float()
    if readout == "flat":
        return values.float().flatten(1)
    if readout == "pooled":
        squares = values.float().flatten(2)
        return torch.cat([squares.mean(2), squares.amax(2)], dim=1)
    ids = torch.arange(len(rows), device=values.device)
    return gather_windows(
        values, SquareRows(ids, rows.positions, rows.level_ids, rows.board), 1 if readout == "agent" else 3
    )


@dataclass(frozen=True)
class BoardPCA:
    """Principal components of flattened boards. mean (P,), components (D, P), orthonormal, largest variance first."""

    mean: Tensor
    components: Tensor

    def project(self, flat: Tensor, num_features: int) -> Tensor:
        """(N, P) -> (N, num_features) float32, fewer where there are fewer components."""
        return (flat.float() - self.mean) @ self.components[:num_features].T


def fit_board_pca(flat: Tensor, train: Tensor, *, num_components: int) -> BoardPCA:
    """Components of the train rows of flat (N, P); train (N,) bool."""
    rows = flat[train].float()
    mean = rows.mean(0)
    rows = (rows - mean).double()
    if rows.shape[1] <= len(rows):
        _, vectors = torch.linalg.eigh(rows.T @ rows)
        return BoardPCA(mean, vectors.flip(1)[:, :num_components].T.float().contiguous())
    scales, vectors = torch.linalg.eigh(rows @ rows.T)  # fewer rows than features: the same from the rows' side
    count = min(num_components, int((scales > 1e-9 * scales[-1].clamp(min=1e-12)).sum()))
    vectors = rows.T @ (vectors.flip(1)[:, :count] / scales.flip(0)[:count].sqrt())
    return BoardPCA(mean, vectors.T.float().contiguous())
