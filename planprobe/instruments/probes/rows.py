"""From tallies to the rows of the probe table: scores, controls, differences, each with its interval over levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from planprobe.core.records import Effect, Row
from planprobe.instruments.addresses import tick_and_layer
from planprobe.instruments.probes.controls import CONTROL_TASK, SAME_LABELS
from planprobe.instruments.probes.scoreboard import BINS, SIDES, Scoreboard, Tally
from planprobe.instruments.statistics.net_spread import MIN_NETS, lead_over_nets, mean_of_nets, smaller_lead
from planprobe.instruments.statistics.stats import Statistic, bootstrap_table, difference_table, holm, ratio

RANDOM = "random_weights"
"""How names of untrained nets begin; two or more of them are one control, their mean."""


class FittedProbe(Protocol):
    """What a row says of the read-out behind it."""

    @property
    def weights(self) -> Tensor: ...

    @property
    def l2(self) -> float: ...

    @property
    def num_train_rows(self) -> int: ...


ProbeKey = tuple[str, str, int | str]
"""Label source, site, and the side of the window or the name of a read-out of whole boards."""


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    source of labels; kernel: side of the window, or the name of a read-out of whole boards; controls: name -> readers,
    of which the best on valid counts.
    """

    source: str
    site: str
    kernel: int | str
    controls: dict[str, list[str]]

    @property
    def reader(self) -> str:
        return f"agent|{self.site}|{self.kernel}"

    @property
    def nets(self) -> list[str]:
        """Controls with random weights, where there are enough of them to see how much they differ."""
        names = [name for name in self.controls if name.startswith(RANDOM)]
        return names if len(names) >= MIN_NETS else []

    @property
    def rivals(self) -> dict[str, list[str]]:
        """Controls that a probe has to beat, each as it is; `nets` besides."""
        apart = {CONTROL_TASK, *self.nets}
        return {name: readers for name, readers in self.controls.items() if name not in apart}

    @property
    def same_label_rivals(self) -> dict[str, list[str]]:
        """Those that predict the concept itself, so that one can look at them square by square."""
        return {name: readers for name, readers in self.rivals.items() if name.startswith(SAME_LABELS)}

    def key(self, concept: str) -> Row:
        tick, layer = tick_and_layer(self.site)
        of_squares = isinstance(self.kernel, int)
        return {
            "concept": concept, "labels": self.source, "site": self.site, "tick": tick, "layer": layer,
            "kernel": self.kernel if of_squares else None,
            "readout": f"{self.kernel}x{self.kernel}" if of_squares else self.kernel,
        }  # fmt: skip

    def tally(self, board: Scoreboard) -> Tally:
        return board.best_of(self.source, [self.reader])

    def best_control(self, board: Scoreboard, controls: dict[str, list[str]]) -> tuple[str, Tally]:
        """Name and tally of the control that did best on valid, seed by seed."""
        name_of = {reader: name for name, readers in controls.items() for reader in readers}
        tally = board.best_of(self.source, list(name_of))
        return " / ".join(dict.fromkeys(name_of[reader] for reader in tally.readers)), tally

    def net_tallies(self, board: Scoreboard) -> list[Tally]:
        return [board.best_of(self.source, self.controls[name]) for name in self.nets]


def table_rows(cells: list[Cell], board: Scoreboard, probes: Mapping[ProbeKey, FittedProbe], concept: str) -> list[Row]:
    """One row a cell; p is Holm-adjusted within each label source (`p_holm`).

    A lead (`delta`) is over two controls, of which the smaller counts: the one that did best on valid, with an interval
    over levels, and the mean of the untrained nets, with an interval over levels and nets (`statistics/net_spread`),
    which also stands alone (`delta_random_weights`).
    Other intervals speak about other levels, with these nets. random_weights_sd: of the test scores of untrained nets.
    """
    measure = board.measure
    tallies = [cell.tally(board) for cell in cells]
    bests = [cell.best_control(board, cell.rivals) for cell in cells]
    counts, best_counts = _stack(tallies), _stack([tally for _, tally in bests])
    rows = [cell.key(concept) for cell in cells]
    for row, cell, tally in zip(rows, cells, tallies, strict=True):
        probe = probes[cell.source, cell.site, cell.kernel]
        row |= {"num_features": probe.weights.shape[1], "l2": probe.l2, "num_train_rows": probe.num_train_rows}
        row |= {"num_test_levels": len(tally.counts), "num_test_rows": measure.count_rows(tally.counts)}
        row |= {"num_seeds": len(tally.readers), "seed_sd": _sd(tally.test_scores)}
        row[f"valid_{measure.name}"] = as_number(tally.valid)
    for name, metric in measure.metrics.items():
        _enter(rows, name, bootstrap_table(counts, metric))
    for row, (name, tally) in zip(rows, bests, strict=True):
        row["best_control"], row[f"best_control_valid_{measure.name}"] = name, as_number(tally.valid)
    net_counts = ([tally.counts for tally in cell.net_tallies(board)] for cell in cells)
    beside = _enter_leads(rows, counts, best_counts, net_counts, measure.score, unit=measure.unit)
    for row, cell, nets in zip(rows, cells, beside, strict=True):
        if nets is None:
            continue
        _enter([row], f"control_{RANDOM}", [nets.mean])
        row[f"{RANDOM}_sd"] = nets.sd
        if nets.are_best:
            valid = np.mean([tally.valid for tally in cell.net_tallies(board)])
            row["best_control"], row[f"best_control_valid_{measure.name}"] = RANDOM, as_number(float(valid))
    decoys = _stack([board.best_of(cell.source, cell.controls[CONTROL_TASK]) for cell in cells])
    _enter(rows, "selectivity", difference_table(counts, decoys, measure.score, unit=measure.unit))
    for name in dict.fromkeys(name for cell in cells for name in cell.controls if name not in cell.nets):
        having = [(row, cell) for row, cell in zip(rows, cells, strict=True) if name in cell.controls]
        of_control = [board.best_of(cell.source, cell.controls[name]) for _, cell in having]
        _enter([row for row, _ in having], f"control_{name}", bootstrap_table(_stack(of_control), measure.score))
    for source in dict.fromkeys(cell.source for cell in cells):
        of_source = [row for row in rows if row["labels"] == source]
        adjusted = holm(np.array([np.nan if row["p"] is None else row["p"] for row in of_source], dtype=float))
        for row, p in zip(of_source, adjusted, strict=True):
            row["p_holm"] = as_number(p)
    return rows


def horizon_rows(cells: list[Cell], board: Scoreboard, concept: str) -> list[Row]:
    """Recall by time to the event, in steps and, where there are pushes, in pushes: one row a (cell, unit, bin).

    A bin in which nothing falls has a row without numbers. The control beside it predicts the same labels.
    """
    rows: list[Row] = []
    for unit, names in BINS.items():
        chosen = [cell for cell in cells if unit in cell.tally(board).units]
        if not chosen:
            continue
        bests = [cell.best_control(board, cell.same_label_rivals) for cell in chosen]
        recalls = np.concatenate([np.moveaxis(cell.tally(board).recall(unit), 1, 0) for cell in chosen])
        of_control = np.concatenate([np.moveaxis(tally.recall(unit), 1, 0) for _, tally in bests])
        nets = ([tally.recall(unit) for tally in cell.net_tallies(board)] for cell in chosen)
        of_nets = ([per_bin[:, place] for per_bin in each] for each in nets for place in range(len(names)))
        added = [
            {**cell.key(concept), "unit": unit, "bin": name, "control": control}
            for cell, (control, _) in zip(chosen, bests, strict=True)
            for name in names
        ]
        for row, per_level in zip(added, recalls, strict=True):
            row["num_events"] = int(per_level[:, 1].sum())
        _enter_pair(added, recalls, of_control, of_nets, ratio, "recall")
        rows += added
    return rows


def subset_rows(cells: list[Cell], board: Scoreboard, concept: str) -> list[Row]:
    """The score on part of the rows, the best control with the same labels beside it: one row a (cell, subset).

    Subset 'sources_differ' holds the states in which the agent's way and the optimal way differ somewhere; there,
    `follows_own` and `follows_other` say how often the probe agrees with its own and with the other label source on the
    squares where the two differ.
    """
    rows: list[Row] = []
    measure = board.measure
    tallies = [cell.tally(board) for cell in cells]
    bests = [cell.best_control(board, cell.same_label_rivals) for cell in cells]
    for name in dict.fromkeys(name for tally in tallies for name in tally.subsets):
        counts = np.stack([tally.subset(name) for tally in tallies])
        of_control = np.stack([tally.subset(name) for _, tally in bests])
        added = [
            {**cell.key(concept), "subset": name, "control": control, "num_rows": measure.count_rows(part)}
            for cell, (control, _), part in zip(cells, bests, counts, strict=True)
        ]
        of_nets = ([tally.subset(name) for tally in cell.net_tallies(board)] for cell in cells)
        _enter_pair(added, counts, of_control, of_nets, measure.score, measure.name)
        if name == "sources_differ" and all(SIDES in tally.units for tally in tallies):
            for side, column in enumerate(("follows_own", "follows_other")):
                sides = np.stack([tally.recall(SIDES)[:, side] for tally in tallies])
                _enter(added, column, bootstrap_table(sides, ratio))
        rows += added
    return rows


def as_number(value: float | None) -> float | None:
    """None in the place of nan, which JSON does not know."""
    return None if value is None or np.isnan(value) else float(value)


@dataclass(frozen=True)
class _Nets:
    """Untrained nets beside one row: their mean score, their spread, and whether they are the control to beat."""

    mean: Effect
    sd: float
    are_best: bool


def _enter_pair(
    rows: list[Row], own: np.ndarray, other: np.ndarray, nets: Iterable[list[np.ndarray]], statistic: Statistic,
    name: str,
) -> None:  # fmt: skip
    """Score, that of the best control, and the lead over it; `control` becomes the nets where these did better."""
    _enter(rows, name, bootstrap_table(own, statistic))
    _enter(rows, f"control_{name}", bootstrap_table(other, statistic))
    for row, beside in zip(rows, _enter_leads(rows, own, other, nets, statistic), strict=True):
        if beside is not None and beside.are_best:
            row["control"] = RANDOM
            _enter([row], f"control_{name}", [beside.mean])


def _enter_leads(
    rows: list[Row], own: np.ndarray, other: np.ndarray, nets: Iterable[list[np.ndarray]], statistic: Statistic, *,
    unit: str = "",
) -> list[_Nets | None]:  # fmt: skip
    """Enter the lead over a control and over untrained nets, where there are any; what was seen of these.

    own, other (rows, levels, ...); nets: for each row one (levels, ...) a net, or none.
    """
    leads = difference_table(own, other, statistic, unit=unit)
    found: list[_Nets | None] = []
    for place, (mine, counts) in enumerate(zip(own, nets, strict=True)):
        if not counts:
            found.append(None)
            continue
        untrained = np.stack(counts)
        over = lead_over_nets(mine, untrained, statistic, unit=unit)
        _enter([rows[place]], f"delta_{RANDOM}", [over])
        sd = float(statistic(untrained.sum(1)).std(ddof=1))
        found.append(_Nets(mean_of_nets(untrained, statistic, unit=unit), sd, over.value < leads[place].value))
        leads[place] = smaller_lead(leads[place], over)
    _enter(rows, "delta", leads, with_p=True)
    return found


def _enter(rows: list[Row], name: str, effects: list[Effect], *, with_p: bool = False) -> None:
    """Value and interval of one effect a row."""
    for row, effect in zip(rows, effects, strict=True):
        row[name] = as_number(effect.value)
        row |= {f"{name}_low": as_number(effect.low), f"{name}_high": as_number(effect.high)}
        if with_p:
            row["p"] = as_number(effect.p)


def _stack(tallies: list[Tally]) -> np.ndarray:
    return np.stack([tally.counts for tally in tallies])


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
