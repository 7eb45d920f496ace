"""Which channel codes what, where, and with which sign: for nets whose channels are shifted or bear no labels.

Padding and strided encoders may move a channel by a square or two, so that what it says of a square stands beside it
(published nets: most channels are off by one). Each channel is correlated with every candidate map at every offset of
up to two squares; the best pair is chosen on one half of the levels and told from the other. Maps of other levels are
the control: board geometry alone correlates with much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from planprobe.core.errors import ShapeError
from planprobe.core.records import Effect, Row
from planprobe.instruments.concepts.catalog import Labels
from planprobe.instruments.probes.splits import split_by_level
from planprobe.instruments.statistics.stats import bootstrap_table, difference_table, holm

LEVEL = 0.05
BLOCK_STATES = 256  # at once, to bound memory
_HALVES = (0.4, 0.1, 0.5)  # train and valid choose, test tells


@dataclass(frozen=True)
class ChannelRole:
    """What one channel codes, as far as a correlation tells.

    role: name of the map it follows best, None where nothing was found; best_role: found or not. offset (rows,
    columns): the value for square s stands at s + offset. sign: +1 or -1. correlation: on held-out levels, times the
    sign; control: with maps of other levels; beyond: the difference, paired by level. p_holm: over all channels.
    agrees: the held-out levels by themselves choose the same role, offset and sign.
    """

    channel: int
    role: str | None
    best_role: str
    offset: tuple[int, int]
    sign: int
    correlation: Effect
    control: Effect
    beyond: Effect
    p_holm: float
    agrees: bool

    def row(self) -> Row:
        """One line of a table."""
        return {
            "channel": self.channel, "role": self.role, "best_role": self.best_role, "row_offset": self.offset[0],
            "column_offset": self.offset[1], "sign": self.sign, "correlation": self.correlation.value,
            "correlation_low": self.correlation.low, "correlation_high": self.correlation.high,
            "control": self.control.value, "beyond": self.beyond.value, "beyond_low": self.beyond.low,
            "beyond_high": self.beyond.high, "p_holm": self.p_holm, "agrees": self.agrees,
        }  # fmt: skip


def class_maps(labels: Labels, *, name: str) -> tuple[list[str], Tensor]:
    """Candidate maps of a concept: one a class but 'never', (M, K, H, W) float32; names 'NAME=CLASS'."""
    values = labels.values.to(torch.int64)
    maps = [(values == number).float() for number in range(1, labels.num_classes)]
    return [f"{name}={each}" for each in labels.class_names[1:]], torch.stack(maps, dim=1)


def align_channels(
    activations: Tensor,
    maps: Tensor,
    names: Sequence[str],
    *,
    level_ids: Tensor,
    is_row: Tensor | None = None,
    reach: int = 2,
    min_correlation: float = 0.1,
    seed: int = 0,
) -> list[ChannelRole]:
    """Offset, sign and role of every channel.

    Args:
        activations (M, C, H, W) of one site on M states; maps (M, K, H, W): what might be coded, on the same states.
        names: of the K maps. level_ids (M,): unit of the split and of the intervals.
        is_row (M, H, W) bool: squares that count, as a rule the floor. reach: largest offset, in squares.
        min_correlation: smallest held-out correlation beyond the control that makes a role, fixed beforehand.
    Returns: one a channel, in order. Raises: ShapeError; TooFewLevelsError (under 10).
    """
    is_row = torch.ones_like(maps[:, 0], dtype=torch.bool) if is_row is None else is_row
    _check(activations, maps, names, level_ids, is_row, reach)
    split = split_by_level(level_ids, fractions=_HALVES, seed=seed)
    chosen = _Sums(activations, maps, level_ids, is_row, split.train | split.valid, reach)
    told = _Sums(activations, maps, level_ids, is_row, split.test, reach)
    best, signs = chosen.best()
    best_again, signs_again = told.best()
    own, other = (told.pick(sums, best) * _sign_factors(signs) for sums in (told.own, told.other))
    correlations, controls = (bootstrap_table(part, correlate, unit="correlation", seed=seed) for part in (own, other))
    beyond = difference_table(own, other, correlate, unit="correlation", seed=seed)
    adjusted = holm(np.array([np.nan if effect.p is None else effect.p for effect in beyond]))
    roles = []
    for channel, p in enumerate(adjusted.tolist()):
        shift, concept = divmod(int(best[channel]), maps.shape[1])
        found = p < LEVEL and beyond[channel].low > 0 and beyond[channel].value >= min_correlation
        roles.append(
            ChannelRole(
                channel=channel, role=names[concept] if found else None, best_role=names[concept],
                offset=_offsets(reach)[shift], sign=int(signs[channel]), correlation=correlations[channel],
                control=controls[channel], beyond=replace(beyond[channel]), p_holm=p,
                agrees=bool(best[channel] == best_again[channel] and signs[channel] == signs_again[channel]),
            )
        )  # fmt: skip
    return roles


def realign(activations: Tensor, roles: Sequence[ChannelRole]) -> Tensor:
    """Channels with a role moved back to the squares they speak of and turned to a positive sign; others as they are.

    (M, C, H, W) -> the same; squares beyond the board are 0. Raises: ShapeError (roles of another number of channels).
    """
    if activations.ndim != 4 or activations.shape[1] != len(roles):
        raise ShapeError(f"{len(roles)} channel roles, but activations of shape {tuple(activations.shape)}.")
    moved = [
        role.sign * _shifted(activations[:, channel], *role.offset) if role.role else activations[:, channel]
        for channel, role in enumerate(roles)
    ]
    return torch.stack(moved, dim=1)


def correlate(sums: np.ndarray) -> np.ndarray:
    """Pearson's correlation from (n, sum a, sum z, sum aa, sum zz, sum az) on the last axis; 0 where undefined."""
    n, a, z, aa, zz, az = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    spread = np.maximum(n * aa - a**2, 0) * np.maximum(n * zz - z**2, 0)
    return np.where(spread > 0, (n * az - a * z) / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


class _Sums:
    """Sums per level behind every correlation, with the maps of a state and with those of a state of another level.

    own, other: (L, shifts, C, K, 6), axes of the last as `correlate` reads them.
    """

    def __init__(
        self, activations: Tensor, maps: Tensor, level_ids: Tensor, is_row: Tensor, part: Tensor, reach: int
    ) -> None:
        order = level_ids[part].argsort(stable=True)
        values, candidates, rows = (tensor[part][order] for tensor in (activations, maps, is_row))
        _, level_index = level_ids[part][order].unique(return_inverse=True)
        donors = torch.arange(len(order)).roll(len(order) // 2)  # sorted by level: half way round is another level
        values = values.double() - values.double().mean((0, 2, 3), keepdim=True)  # large means would eat the digits
        setting = (values, level_index, _offsets(reach))
        self.own = _sum_by_level(*setting, candidates.double(), rows)
        self.other = _sum_by_level(*setting, candidates[donors].double(), rows & rows[donors])

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """The shift and map, as one flat number, that lies furthest beyond its control, and its sign; (C,) each."""
        own, other = (correlate(part.sum(0)) for part in (self.own, self.other))
        lead = np.moveaxis(np.abs(own) - np.abs(other), 1, 0).reshape(own.shape[1], -1)
        best = lead.argmax(1)
        signs = np.sign(np.take_along_axis(np.moveaxis(own, 1, 0).reshape(lead.shape), best[:, None], 1))[:, 0]
        return best, np.where(signs == 0, 1, signs)

    def pick(self, sums: np.ndarray, best: np.ndarray) -> np.ndarray:
        """The sums of each channel's chosen pair, (C, L, 6)."""
        flat = np.moveaxis(sums, 2, 0).reshape(sums.shape[2], len(sums), -1, 6)
        return np.take_along_axis(flat, best[:, None, None, None], axis=2)[:, :, 0]


def _sum_by_level(
    values: Tensor, level_index: Tensor, offsets: list[tuple[int, int]], maps: Tensor, is_row: Tensor
) -> np.ndarray:
    """(L, shifts, C, K, 6)."""
    num_levels, num_channels, num_maps = int(level_index.max()) + 1, values.shape[1], maps.shape[1]
    totals = values.new_zeros(len(offsets), num_levels, num_channels, num_maps, 6)
    for rows in torch.arange(len(values)).split(BLOCK_STATES):
        kept, inside = is_row[rows][:, None].double(), torch.ones_like(values[rows, :1])
        for total, offset in zip(totals, offsets, strict=True):
            sums = _sums_of_states(_shifted(values[rows], *offset), maps[rows], kept * _shifted(inside, *offset))
            total.index_add_(0, level_index[rows], sums)
    return totals.transpose(0, 1).cpu().numpy()


def _sums_of_states(a: Tensor, maps: Tensor, counted: Tensor) -> Tensor:
    """a (m, C, H, W), maps (m, K, H, W), counted (m, 1, H, W) 0 or 1 -> (m, C, K, 6)."""
    z, num_channels, num_maps = maps * counted, a.shape[1], maps.shape[1]
    sums = [
        counted.sum((2, 3))[:, :, None].expand(-1, num_channels, num_maps),
        (a * counted).sum((2, 3))[:, :, None].expand(-1, -1, num_maps),
        z.sum((2, 3))[:, None].expand(-1, num_channels, -1),
        (a.square() * counted).sum((2, 3))[:, :, None].expand(-1, -1, num_maps),
        (maps * z).sum((2, 3))[:, None].expand(-1, num_channels, -1),
        a.flatten(2) @ z.flatten(2).transpose(1, 2),
    ]
    return torch.stack(sums, dim=-1)


def _sign_factors(signs: np.ndarray) -> np.ndarray:
    """What turns a channel's sums into those of the channel times its sign, (C, 1, 6)."""
    factors = np.ones((len(signs), 1, 6))
    factors[:, 0, 1] = factors[:, 0, 5] = signs
    return factors


def _offsets(reach: int) -> list[tuple[int, int]]:
    span = range(-reach, reach + 1)
    return [(row, column) for row in span for column in span]


def _shifted(planes: Tensor, row: int, column: int) -> Tensor:
    """planes (..., H, W) with the value of square s + (row, column) at square s, 0 beyond the board."""
    height, width = planes.shape[-2:]
    reach = max(abs(row), abs(column))
    padded = pad(planes, (reach,) * 4)
    return padded[..., reach + row : reach + row + height, reach + column : reach + column + width]


def _check(
    activations: Tensor, maps: Tensor, names: Sequence[str], level_ids: Tensor, is_row: Tensor, reach: int
) -> None:
    states, board = len(activations), tuple(activations.shape[-2:])
    fits = activations.ndim == 4 and maps.ndim == 4 and maps.shape[1] == len(names) > 0
    if not fits or tuple(maps.shape[-2:]) != board or {len(maps), len(level_ids), len(is_row)} != {states}:
        raise ShapeError(
            f"activations {tuple(activations.shape)}, maps {tuple(maps.shape)}, {len(names)} names, level_ids "
            f"{tuple(level_ids.shape)}: need (M, C, H, W), (M, K, H, W), K, (M,)."
        )
    if tuple(is_row.shape) != (states, *board):
        raise ShapeError(f"is_row must be {(states, *board)}, got {tuple(is_row.shape)}.")
    if not 0 <= reach < min(board):
        raise ShapeError(f"reach {reach} on a board of {board[0]}x{board[1]}: needs 0 or more, and less than a side.")
