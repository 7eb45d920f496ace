"""D5, plan refinement: does what can be read of the plan become better from tick to tick, before anything is done?

Two read-outs of single squares are asked at every tick of looking at the first observation: one fitted at the last tick
and used at all of them, and one fitted at each tick anew. The first alone would rise where a code merely changes its
form, the second alone where a probe has more to lean on; what counts is the smaller rise of the two. As D4, it says
that a plan is being made, not that it is used.
"""

from __future__ import annotations

import math

import numpy as np

from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.probes.rows import RANDOM
from planprobe.instruments.probes.tick_reads import Read, TickReads
from planprobe.instruments.statistics.metrics import count_confusions, macro_f1
from planprobe.instruments.statistics.net_spread import MIN_NETS, lead_over_nets, mean_of_nets, smaller_lead
from planprobe.instruments.statistics.proportions import power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_table, cluster_bootstrap, difference_over_best

CLAIM = "What single squares of memory say about the way ahead becomes better from tick to tick."
NEEDS = ("an opened recurrent policy with spatial sites", "levels", "untrained nets of its architecture")
CONTROLS = ("labels of another level", "random_weights", "a net without recurrence (flat by construction)")
FALSIFIES = "that a plan which one matrix can read is worked out over ticks of the first step and of thinking"
UNIT = "macro-F1, rise from the first tick to the last"
LAST, FIXED_FIRST, OWN_FIRST = 0, 1, 2


def run(reads: TickReads, *, min_effect: float, recurrent: bool = True, seed: int = 0) -> Evidence:
    """The rise of macro-F1 over the ticks, beyond that of the controls.

    Args: reads: of `tick_reads.read_ticks`. min_effect: smallest rise beyond the best control that counts; fixed
        beforehand. recurrent: whether the net has memory.
    Returns: effect = the smaller of both rises; rows = both scores at every tick, and those of the controls at the
        first and the last.
    """
    counts = {name: _counts(read, reads) for name, read in {"": reads.agent, **reads.controls}.items()}
    effects = {name: cluster_bootstrap(each, rise, unit=UNIT, seed=seed) for name, each in counts.items()}
    nets = [name for name in reads.controls if name.startswith(RANDOM)]
    many = len(nets) >= MIN_NETS  # one untrained net alone does not tell how much they differ
    controls = {name: counts[name] for name in reads.controls if not (many and name in nets)}
    best, beyond = difference_over_best(counts[""], controls, rise, unit=UNIT, seed=seed)
    if many:
        untrained = np.stack([counts[name] for name in nets])
        effects[RANDOM] = mean_of_nets(untrained, rise, unit=UNIT)
        over = lead_over_nets(counts[""], untrained, rise, unit=UNIT)
        best, beyond = RANDOM if over.value < beyond.value else best, smaller_lead(beyond, over)
    power = power_of_interval(beyond, min_effect=min_effect)
    power = 0.0 if math.isnan(power) else power
    outcome = decide(beyond, min_effect=min_effect, power=power)
    notes = [f"Best control: {best}. {reads.num_ticks} ticks on the frozen first observation."]
    if outcome == "supported" and not many:
        outcome = "inconclusive"
        notes.append(f"The rise is large enough, but it takes {MIN_NETS} nets with random weights beside it.")
    if not recurrent:
        outcome = "inconclusive"
        notes.insert(0, "A net without memory repeats itself on a frozen observation: that is no evidence of anything.")
    return Evidence(
        detector="D5",
        name="plan_refinement",
        claim=CLAIM,
        effect=effects[""],
        controls={name: effects[name] for name in [*controls, *([RANDOM] if many else [])]},
        beyond_controls=beyond,
        min_effect=min_effect,
        power=power,
        outcome=outcome,
        falsifies=FALSIFIES,
        rows=_rows(reads, seed),
        notes=notes,
    )


def rise(counts: np.ndarray) -> np.ndarray:
    """Smaller rise of both read-outs: counts (..., 3, K, K) at the last tick and, by either, at the first -> (...)."""
    scores = macro_f1(counts)
    return scores[..., LAST] - np.maximum(scores[..., FIXED_FIRST], scores[..., OWN_FIRST])


def _counts(read: Read, reads: TickReads) -> np.ndarray:
    """(levels, 3, K, K)."""
    chosen = [read.own[-1], read.fixed[0], read.own[0]]
    return np.stack([_confusions(read, predicted, reads) for predicted in chosen], axis=1)


def _confusions(read: Read, predicted, reads: TickReads) -> np.ndarray:
    return count_confusions(
        read.true, predicted, num_classes=reads.num_classes, level_index=reads.level_index, num_levels=reads.num_levels
    )  # fmt: skip


def _rows(reads: TickReads, seed: int) -> list[Row]:
    """One a tick and net: both scores with intervals over levels."""
    rows: list[Row] = []
    all_ticks = reads.ticks.tolist()
    for name, read in {"agent": reads.agent, **reads.controls}.items():
        ticks = all_ticks if name == "agent" else [all_ticks[0], all_ticks[-1]]
        scores = {
            kind: bootstrap_table(_confusions(read, predicted, reads), macro_f1, seed=seed)
            for kind, predicted in (("fixed", read.fixed), ("own", read.own))
        }
        for place, tick in enumerate(ticks):
            row: Row = {"net": name, "tick": tick + 1, "num_levels": reads.num_levels}
            for kind, each in scores.items():
                effect = each[place]
                row |= {kind: effect.value, f"{kind}_low": effect.low, f"{kind}_high": effect.high}
            rows.append(row)
    return rows
