"""Who reads what how well: confusions of every reader on every test level, over all probe seeds.

A *reader* is anything that predicts a label map: a probe at a site, or one of its controls. Each seed is another split
of the levels. What a reader got right on a level is added up over the seeds in which that level was a test level, and
the level stays the unit of every interval. Among several readers the better one is always chosen on the valid levels of
the same seed, so that no test level has a say in the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.instruments.concepts.catalog import NEVER, Labels
from planprobe.instruments.probes.measures import Measure, leave_out

STEP_BINS = {"0-1": 0, "2-4": 2, "5-9": 5, "10+": 10}
PUSH_BINS = {"0": 0, "1": 1, "2-3": 2, "4+": 4}
"""Bins of the horizon by their first value; a label without an event is in the bin 'never'."""

SIDES = "sides"
BINS = {"steps": (*STEP_BINS, "never"), "pushes": (*PUSH_BINS, "never")}


@dataclass(frozen=True)
class Truth:
    """What is known about the N rows under one label source.

    labels (N,) int64, -1 left out, or numbers (N, V), nan left out; bins[unit] (N,) int64: position in BINS[unit], -1
    none; subsets[name] (N,) bool. rival (N,) int64: what the other label source says, where there is one.
    """

    labels: Tensor
    bins: dict[str, Tensor] = field(default_factory=dict)
    subsets: dict[str, Tensor] = field(default_factory=dict)
    rival: Tensor | None = None


@dataclass(frozen=True)
class Tally:
    """One reader on the levels of one or several seeds.

    valid: score on the valid rows, mean over seeds. counts (L, ...): of the board's measure. subsets[name] likewise.
    recalls[unit] (L, bins, 2): rows read right, rows. With a rival source also recalls[SIDES] (L, 2, 2), over the
    squares on which the two sources differ: rows read as this source says, and as the other says.
    readers: who was chosen in each seed. test_scores: by seed.
    """

    valid: float
    counts: np.ndarray
    subsets: dict[str, np.ndarray]
    recalls: dict[str, np.ndarray]
    readers: tuple[str, ...]
    test_scores: tuple[float, ...]


class Scoreboard:
    """Tallies of readers by (label source, reader, seed). num_levels L; levels are named 0..L - 1."""

    def __init__(self, num_levels: int, measure: Measure) -> None:
        self.num_levels, self.measure = num_levels, measure
        self.tested = np.zeros(num_levels, dtype=bool)
        self._tallies: dict[tuple[str, str], list[Tally]] = {}

    def add(
        self, source: str, reader: str, truth: Truth, test_rows: Tensor, level_index: Tensor, predicted: Tensor, *,
        valid: float,
    ) -> None:  # fmt: skip
        """Enter what a reader predicted (test rows, ...) in the present seed; level_index (N,) of all rows."""
        labels, levels = truth.labels[test_rows], level_index[test_rows]
        self.tested[levels.unique().cpu().numpy()] = True

        def count(true: Tensor) -> np.ndarray:
            return self.measure.count(true, predicted, level_index=levels, num_levels=self.num_levels)

        counts = count(labels)
        subsets = {name: count(leave_out(labels, ~mask[test_rows])) for name, mask in truth.subsets.items()}
        recalls = {
            unit: _recall_counts(bins[test_rows], labels, predicted, levels, len(BINS[unit]), self.num_levels)
            for unit, bins in truth.bins.items()
        }
        if truth.rival is not None:
            recalls[SIDES] = _side_counts(labels, truth.rival[test_rows], predicted, levels, self.num_levels)
        score = float(self.measure.score(counts.sum(0)))
        tally = Tally(valid, counts, subsets, recalls, (reader,), (score,))
        self._tallies.setdefault((source, reader), []).append(tally)

    def best_of(self, source: str, readers: Sequence[str]) -> Tally:
        """In each seed the reader that did best on the valid levels; their tallies added up."""
        by_seed = zip(*(self._tallies[source, reader] for reader in readers), strict=True)
        chosen = [max(tallies, key=lambda tally: np.nan_to_num(tally.valid, nan=-1.0)) for tallies in by_seed]
        subsets = set.intersection(*(set(tally.subsets) for tally in chosen))  # readers of other labels have none
        units = set.intersection(*(set(tally.recalls) for tally in chosen))
        return Tally(
            float(np.mean([tally.valid for tally in chosen])),
            self._add_up([tally.counts for tally in chosen]),
            {name: self._add_up([tally.subsets[name] for tally in chosen]) for name in sorted(subsets)},
            {unit: self._add_up([tally.recalls[unit] for tally in chosen]) for unit in sorted(units)},
            tuple(tally.readers[0] for tally in chosen),
            tuple(tally.test_scores[0] for tally in chosen),
        )

    def _add_up(self, parts: list[np.ndarray]) -> np.ndarray:
        """Over the seeds, levels that were tested in any of them."""
        return np.sum(parts, axis=0)[self.tested]


def bin_horizon(horizon: Tensor, labels: Tensor, unit: str) -> Tensor:
    """Position in BINS[unit] of each row (N,), -1 where the row is left out; horizon (N,) in steps or pushes."""
    if unit not in BINS:
        raise ShapeError(f"horizons are in 'steps' or 'pushes', not '{unit}'.")
    edges = torch.tensor(list((STEP_BINS if unit == "steps" else PUSH_BINS).values()), device=horizon.device)
    bins = torch.searchsorted(edges, horizon.to(torch.int64), right=True) - 1
    bins = torch.where(labels == NEVER, len(edges), bins)
    return bins.masked_fill(labels < 0, -1)


def make_truth(
    labels: Tensor, horizon: Tensor, pushes: Tensor, *, subsets: dict[str, Tensor], rival: Tensor | None
) -> Truth:
    """Of the N rows of one label source; the pushes bins only where something is pushed at all."""
    bins = {"steps": bin_horizon(horizon, labels, "steps")}
    if bool((pushes > 0).any()):
        bins["pushes"] = bin_horizon(pushes, labels, "pushes")
    return Truth(labels, bins, subsets, rival)


def differing_states(first: Labels, second: Labels) -> Tensor:
    """States whose two label maps disagree on some square that is a row in both, (M,) bool."""
    return ((first.values != second.values) & first.is_row & second.is_row).flatten(1).any(1)


def _recall_counts(
    bins: Tensor, labels: Tensor, predicted: Tensor, levels: Tensor, num_bins: int, num_levels: int
) -> np.ndarray:
    """(L, bins, 2): rows read right, rows."""
    kept = bins >= 0
    cells = levels[kept] * num_bins + bins[kept]
    right = (predicted.to(torch.int64) == labels)[kept].double()
    total = torch.bincount(cells, minlength=num_levels * num_bins).double()
    hits = torch.bincount(cells, weights=right, minlength=num_levels * num_bins)
    return torch.stack([hits, total], dim=-1).view(num_levels, num_bins, 2).cpu().numpy()


def _side_counts(labels: Tensor, rival: Tensor, predicted: Tensor, levels: Tensor, num_levels: int) -> np.ndarray:
    """(L, 2, 2): rows read as `labels` say and as `rival` says, each beside the number of rows on which they differ."""
    differ = (labels >= 0) & (rival >= 0) & (labels != rival)
    sides = [
        _recall_counts(differ.to(torch.int64) - 1, said, predicted, levels, 1, num_levels) for said in (labels, rival)
    ]
    return np.concatenate(sides, axis=1)
