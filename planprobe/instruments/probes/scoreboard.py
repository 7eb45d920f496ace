"""Who reads what how well: confusions of every reader on every test level, over all probe seeds.

A *reader* is anything that predicts a label map: a probe at a site, or one of its controls. Each seed is another split
of the levels. What a reader got right on a level is added up over the seeds in which that level was a test level, and
the level stays the unit of every interval. Among several readers the better one is always chosen on the valid levels of
the same seed, so that no test level has a say in the choice.

What is kept of a reader is what it said, a byte a row; counts by level, tens of numbers each, are made when they are
asked for. So memory follows the rows, of which there are no more than `recording.MAX_STATES` allow, and not the levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

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
class Answer:
    """What a reader said in one seed: predicted (R, ...) on test_rows (R,); valid: its score on the valid rows."""

    reader: str
    truth: Truth
    test_rows: Tensor
    predicted: Tensor
    valid: float


class Tally:
    """One reader, or in each seed the best of several, on the levels that were tested in any seed.

    valid: score on the valid rows, mean over seeds. readers: who answered in each seed. L tested levels below.
    """

    def __init__(self, board: Scoreboard, answers: Sequence[Answer]) -> None:
        self._board, self._answers = board, answers
        self.valid = float(np.mean([answer.valid for answer in answers]))
        self.readers = tuple(answer.reader for answer in answers)

    @cached_property
    def counts(self) -> np.ndarray:
        """(L, ...) of the board's measure."""
        return self._add_up(self._board.count)

    @property
    def test_scores(self) -> tuple[float, ...]:
        """By seed."""
        measure = self._board.measure
        return tuple(float(measure.score(self._board.count(answer).sum(0))) for answer in self._answers)

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names for `subset`; readers of other labels have none."""
        return tuple(sorted(set.intersection(*(set(answer.truth.subsets) for answer in self._answers))))

    @property
    def units(self) -> tuple[str, ...]:
        """Names for `recall`; SIDES where there is a rival source."""
        names = [{*truth.bins, *([SIDES] if truth.rival is not None else [])} for truth in self._truths()]
        return tuple(sorted(set.intersection(*names)))

    def subset(self, name: str) -> np.ndarray:
        """Counts as `counts`, of part of the rows."""
        return self._add_up(lambda answer: self._board.count(answer, subset=name))

    def recall(self, unit: str) -> np.ndarray:
        """(L, bins, 2): rows read right, rows.

        Of SIDES (L, 2, 2), over the squares on which two sources differ: rows read as this one says, and as the other.
        """
        return self._add_up(lambda answer: self._board.recall(answer, unit))

    def _truths(self) -> list[Truth]:
        return [answer.truth for answer in self._answers]

    def _add_up(self, count: Callable[[Answer], np.ndarray]) -> np.ndarray:
        return np.sum([count(answer) for answer in self._answers], axis=0)[self._board.tested]


class Scoreboard:
    """Answers of readers by (label source, reader), one a seed. num_levels; levels are named 0..num_levels - 1.

    tested (num_levels,) bool: in any seed.
    """

    def __init__(self, num_levels: int, measure: Measure) -> None:
        self.num_levels, self.measure = num_levels, measure
        self.tested = np.zeros(num_levels, dtype=bool)
        self._answers: dict[tuple[str, str], list[Answer]] = {}
        self._level_index = torch.empty(0, dtype=torch.int64)

    def add(
        self, source: str, reader: str, truth: Truth, test_rows: Tensor, level_index: Tensor, predicted: Tensor, *,
        valid: float,
    ) -> None:  # fmt: skip
        """Enter what a reader predicted (test rows, ...) in the present seed; level_index (N,) of all rows."""
        self._level_index = level_index
        self.tested[level_index[test_rows].unique().cpu().numpy()] = True
        self._answers.setdefault((source, reader), []).append(Answer(reader, truth, test_rows, predicted, valid))

    def best_of(self, source: str, readers: Sequence[str]) -> Tally:
        """In each seed the reader that did best on the valid levels; what they said, added up."""
        by_seed = zip(*(self._answers[source, reader] for reader in readers), strict=True)
        return Tally(self, [max(each, key=lambda one: np.nan_to_num(one.valid, nan=-1.0)) for each in by_seed])

    def count(self, answer: Answer, *, subset: str | None = None) -> np.ndarray:
        """Of the measure, (num_levels, ...)."""
        labels = answer.truth.labels[answer.test_rows]
        if subset is not None:
            labels = leave_out(labels, ~answer.truth.subsets[subset][answer.test_rows])
        levels = self._level_index[answer.test_rows]
        return self.measure.count(labels, answer.predicted, level_index=levels, num_levels=self.num_levels)

    def recall(self, answer: Answer, unit: str) -> np.ndarray:
        """(num_levels, bins, 2), see `Tally.recall`."""
        truth, rows = answer.truth, answer.test_rows
        labels, levels = truth.labels[rows], self._level_index[rows]
        if unit == SIDES and truth.rival is not None:
            return _side_counts(labels, truth.rival[rows], answer.predicted, levels, self.num_levels)
        bins = truth.bins[unit][rows]
        return _recall_counts(bins, labels, answer.predicted, levels, len(BINS[unit]), self.num_levels)


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
