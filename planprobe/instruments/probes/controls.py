"""The controls of a probe: what could be read without any plan, and what a probe finds where there is nothing.

| control | what it is | what it answers |
|---|---|---|
| observation_1x1, _3x3 | the observation in windows of that size | do the surroundings give the class away? |
| observation_full | D principal components of the observation, centred on the square | do D numbers about the board? |
| history_1x1, _3x3, _full | the same over the last K observations | does remembering what was seen? |
| geometry_1x1, _3x3 | the observation and, on each square, which moves lead to the goal | does the map alone? |
| random_weights | the same site of untrained nets on the same trajectories, their mean | do architecture and board? |
| shuffled_labels | the probe itself, on the label maps of other levels | do base rates and capacity? |
| control_task | the probe itself, on a random, fixed class for each (square, content) | does it memorise? |
| majority | the most frequent class everywhere | do base rates? |
| twin | the best layer of a memoryless net trained on the same task | does one pass through a net? |
| clone | the best layer of a memoryless net that imitates the agent | does what it does now? |

D is the number of features of the probe that stands beside it: equal capacity. All are fitted, chosen and scored on the
same rows and splits as the probe.

The control task is reported as selectivity (score minus control-task score) and is no candidate for the best control.
Its classes are a function of what is on the board, so a perfect score exists, while how well an agent's future can be
known at all is bounded: the two scores share a scale, not a ceiling. Whatever memorising squares is worth for the
concept itself is in the observation controls.

Sources: Hewitt & Liang 2019 (control task); Bush et al. 2025 (observation probes).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.rng import draw_bits, draw_uniform
from planprobe.instruments.probes.square_rows import SquareRows

SAME_LABELS = (
    "observation", "history", "geometry", "random_weights", "twin", "clone", "majority",
)  # fmt: skip
"""Names that begin so predict the concept itself from something else; the others read the activations for other labels.
"""

SHUFFLED, CONTROL_TASK = "shuffled_labels", "control_task"

MAX_PCA_STATES = 600  # some 30,000 rows settle a few hundred components
_ITERATIONS, _EXTRA = 10, 16


def stack_history(recent: Tensor, seen: Tensor) -> Tensor:
    """The last F observations as planes of one image, (M, P, H, W) uint8.

    Planes that never move (walls, targets) say the same in every frame and are kept once, so that principal components
    are not spent on copies. Frames before the start of an episode are blank.

    Args: recent (M, F, C, H, W), the present one first; seen (M, F) bool: the frame lies in the episode.
    """
    present, earlier = recent[:, :1], recent[:, 1:]
    moves = ((earlier != present) & seen[:, 1:, None, None, None]).any(dim=(0, 1, 3, 4))
    earlier = earlier[:, :, moves] * seen[:, 1:, None, None, None]
    return torch.cat([present.flatten(1, 2), earlier.flatten(1, 2)], dim=1)


@dataclass(frozen=True)
class WindowPCA:
    """Principal components of a whole board seen from one square of it.

    components (D, P, 2H - 1, 2W - 1): orthonormal, largest variance first; the window is centred on the square and
    blank beyond the board.
    """

    components: Tensor

    def project(self, planes: Tensor, rows: SquareRows, num_features: int) -> Tensor:
        """The first components on each row, (N, num_features) float32; planes (M, P, H, W)."""
        height, width = rows.board
        components = self.components[:num_features]
        boards = planes.flatten(1)
        out = torch.empty(len(rows), len(components), device=planes.device)
        for square, ids in _by_square(rows):
            seen = components[(slice(None), slice(None), *_board_in_window(square, height, width))]
            out[ids] = boards[rows.states[ids]].float() @ seen.flatten(1).T
        return out


def fit_window_pca(planes: Tensor, rows: SquareRows, train: Tensor, *, num_components: int, seed: int) -> WindowPCA:
    """Principal components of centred whole-board windows over the train rows.

    Most of a window lies beyond the board, so second moments are taken square by square, over the board alone, and
    added up in place. The eigenvectors come by subspace iteration from a seeded start.

    Args: planes (M, P, H, W); train (N,) bool; num_components, at most the window's size P (2H - 1)(2W - 1).
    """
    height, width = rows.board
    window = (planes.shape[1], 2 * height - 1, 2 * width - 1)
    first = torch.zeros(*window, device=planes.device)
    second = torch.zeros(*window, *window, device=planes.device)
    chosen = train & _some_states(rows, train, seed)
    boards = planes.flatten(1)
    for square, ids in _by_square(rows, chosen):
        x = boards[rows.states[ids]].float()
        here = (slice(None), *_board_in_window(square, height, width))
        first[here] += x.sum(0).view(planes.shape[1:])
        second[here + here] += (x.T @ x).view(*planes.shape[1:], *planes.shape[1:])
    size = first.numel()
    count = max(int(chosen.sum()), 1)
    mean = first.flatten() / count
    covariance = second.view(size, size) / count - mean[:, None] * mean
    return WindowPCA(_largest_eigenvectors(covariance, min(num_components, size), seed).view(-1, *window))


def _board_in_window(square: int, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a centred (2H - 1) x (2W - 1) window that the board fills, seen from a square."""
    row, column = divmod(square, width)
    return slice(height - 1 - row, 2 * height - 1 - row), slice(width - 1 - column, 2 * width - 1 - column)


def _by_square(rows: SquareRows, mask: Tensor | None = None):
    """(square, ids of its rows) for every square that has rows in the mask."""
    for square in rows.squares.unique().tolist():
        here = rows.squares == square
        ids = (here if mask is None else here & mask).nonzero().squeeze(1)
        if len(ids):
            yield square, ids


def _some_states(rows: SquareRows, mask: Tensor, seed: int) -> Tensor:
    """(N,) bool: rows of at most MAX_PCA_STATES of the states that have rows in the mask."""
    states = rows.states[mask].unique()
    if len(states) <= MAX_PCA_STATES:
        return mask
    states = states[draw_bits(seed, states).argsort(stable=True)[:MAX_PCA_STATES]]
    return torch.isin(rows.states, states)


def _largest_eigenvectors(matrix: Tensor, count: int, seed: int) -> Tensor:
    """(count, size) orthonormal, by decreasing eigenvalue; matrix (size, size) positive semidefinite."""
    size = len(matrix)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(size, min(count + _EXTRA, size), generator=generator).to(matrix.device)
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(matrix @ basis).Q
    _, rotation = torch.linalg.eigh((basis.T @ matrix @ basis).double())
    return (basis @ rotation.flip(1)[:, :count].float()).T.contiguous()


def shuffle_label_maps(values: Tensor, level_ids: Tensor, parts: tuple[Tensor, ...], *, seed: int) -> Tensor:
    """Label maps (M, H, W) in which every level has the maps of another level of its part of the split.

    Whole maps keep their base rates and their shape. Squares that are walls in the other level stay -1, no row.

    Args: level_ids (M,); parts: masks (M,) bool over the states, e.g. train, valid, test.
    """
    shuffled = values.clone()
    for part in parts:
        states = part.nonzero().squeeze(1)
        levels = level_ids[states].unique()
        order = levels[draw_bits(seed, levels).argsort(stable=True)]
        for level, partner in zip(order.tolist(), order.roll(1).tolist(), strict=True):
            own, other = ((part & (level_ids == number)).nonzero().squeeze(1) for number in (level, partner))
            shuffled[own] = values[other[torch.arange(len(own), device=other.device) % len(other)]]
    return shuffled


def control_task_labels(rows: SquareRows, observations: Tensor, frequencies: Tensor, *, seed: int) -> Tensor:
    """A class for each row (N,) that depends on nothing but (square, what stands on it), drawn once at random.

    A probe can only learn it by memorising; the concept's score minus the score of this is the probe's selectivity.

    Args: observations (M, C, H, W) uint8; frequencies (classes,) of the concept's classes, so that base rates agree.
    """
    contents = observations.flatten(2)[rows.states, :, rows.squares].to(torch.int64)
    draws = draw_uniform(seed, rows.squares, *contents.unbind(1)).double()
    edges = (frequencies.double() / frequencies.sum()).cumsum(0)
    return torch.searchsorted(edges, draws, right=True).clamp(max=len(frequencies) - 1)


def majority_class(labels: Tensor, num_classes: int) -> int:
    """The most frequent class of labels (N,), rows of -1 left out."""
    return int(torch.bincount(labels[labels >= 0], minlength=num_classes).argmax())
