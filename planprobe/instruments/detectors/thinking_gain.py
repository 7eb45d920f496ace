"""D1, thinking gain: does the agent do better when it may look at the first observation for longer before it acts?

Only a computation that goes on over ticks can gain. The number of thinking steps that is judged is fixed beforehand, or
chosen on other levels: the best of many counts on the same levels would show a gain where there is none. Everything is
paired by level. A memory that has merely warmed up may help as well, so the same is measured with memory that has run
as long and cannot hold a plan for this level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, ShapeError, TooFewLevelsError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Effect, Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.proportions import paired_difference, paired_proportion_power, proportion
from planprobe.instruments.statistics.stats import bootstrap_difference
from planprobe.instruments.thinking import (
    BLANK,
    NOISE,
    OTHER_LEVEL,
    LevelBank,
    Played,
    play_more_ticks,
    play_uninformed,
)  # fmt: skip

CLAIM = "The agent goes on working out what to do while it waits: steps on a frozen first observation make it better."
NEEDS = ("a recurrent policy", "levels that it does not solve anyway")
MEMORY_RESET = "memory reset"
CONTROLS = (MEMORY_RESET, BLANK, NOISE, OTHER_LEVEL)
FALSIFIES = "that the agent works out what to do over its ticks and has too few of them on these levels"

MIN_LEVELS = 10
Measure = Literal["solved", "first_move"]
UNITS = {"solved": "fraction solved", "first_move": "fraction of first moves that are optimal"}
Pair = tuple[Played, Played]
"""With and without thinking."""


def run(
    policy: Policy,
    make_env: EnvMaker,
    levels: LevelSet,
    *,
    thinking_steps: Sequence[int] = (0, 1, 2, 4, 8, 16),
    judged_steps: int = 8,
    choice_levels: LevelSet | None = None,
    choice_first_moves: Tensor | None = None,
    measure: Measure = "solved",
    min_effect: float = 0.02,
    optimal_first_moves: Tensor | None = None,
    far: Tensor | None = None,
    tick_factors: Sequence[int] = (2,),
    greedy: bool = True,
    seed: int = 0,
) -> Evidence:
    """Play every level with each number of thinking steps, and with each control at the judged number.

    Args:
        judged_steps: the number that is judged. choice_levels: choose it among `thinking_steps` on these instead; those
            that are also in `levels`, up to symmetry, are left out.
        measure: what is judged, 'solved' or 'first_move'; rows report both. min_effect: smallest gain that counts.
        optimal_first_moves: (N, 4) bool, every optimal move at the start of each level; choice_first_moves likewise.
        far: (N,) bool; rows report these levels and the others apart too.
        tick_factors: multiples of the net's own ticks a step, for nets with `set_num_ticks`; rows only.
    Raises: TooFewLevelsError; ShapeError (masks disagree with the levels); AddressError (unknown or missing measure).
    """
    _check(levels, optimal_first_moves, far, measure, judged_steps)
    options = {"greedy": greedy, "seed": seed}
    if choice_levels is not None:
        others = _without(LevelBank(make_env, choice_levels, choice_first_moves), levels)
        judged_steps = _choose(policy, others, thinking_steps, measure, options)
    bank = LevelBank(make_env, levels, optimal_first_moves)
    recurrent = len(policy.initial_state(1, (levels.height, levels.width))) > 0
    counts = sorted({0, judged_steps, *thinking_steps}) if recurrent else [0, judged_steps]

    thought = {count: bank.play(policy, thinking_steps=count, **options) for count in counts}
    forgetful = {
        count: bank.play(policy, thinking_steps=count, reset_memory=True, **options) for count in (0, judged_steps)
    }
    uninformed = play_uninformed(policy, bank, judged_steps, **options) if recurrent else {}
    more_ticks = play_more_ticks(policy, bank, tick_factors, **options)

    alone = thought[0]
    table = [("thinking", count, (part, alone)) for count, part in thought.items()]
    table += [(MEMORY_RESET, count, (part, forgetful[0])) for count, part in forgetful.items()]
    table += [(name, judged_steps, (part, alone)) for name, part in uninformed.items()]
    table += [(f"{ticks} ticks a step", 0, (part, alone)) for ticks, part in more_ticks.items()]
    rows = [
        _row(variant, count, subset, mask, pair)
        for subset, mask in _subsets(far, len(levels)).items()
        for variant, count, pair in table
    ]
    controls = {MEMORY_RESET: (forgetful[judged_steps], forgetful[0])}
    controls |= {name: (part, alone) for name, part in uninformed.items()}
    evidence = _conclude((thought[judged_steps], alone), controls, measure, min_effect, seed)
    notes = [f"Judged at {judged_steps} thinking steps, by {UNITS[measure]}.", *evidence.notes]
    if not recurrent:
        notes.append("A feed-forward net has no memory and is flat by construction: that is no evidence of anything.")
        evidence = replace(evidence, outcome="inconclusive")
    return replace(evidence, rows=rows, notes=notes)


def _conclude(pair: Pair, controls: dict[str, Pair], measure: Measure, min_effect: float, seed: int) -> Evidence:
    effect = _gain(pair, measure)
    beyond = {name: _beyond(pair, each, measure, seed) for name, each in controls.items()}
    best = min(beyond, key=lambda name: beyond[name].value)
    # 'above every control' needs each difference to hold
    p = max(each.p or 0.0 for each in (effect, *beyond.values()))
    changed = np.abs(_less_control(pair, controls[best], measure))
    power = paired_proportion_power(len(changed), effect=min_effect, discordant_rate=float(changed.mean()))
    notes = [f"Best control: {best}."]
    if _differences(controls[MEMORY_RESET], measure).any():
        notes.append("With memory reset, thinking still changed something: the policy keeps memory outside its state.")
    return Evidence(
        detector="D1",
        name="thinking_gain",
        claim=CLAIM,
        effect=effect,
        controls={name: _gain(each, measure) for name, each in controls.items()},
        beyond_controls=replace(beyond[best], p=p),
        min_effect=min_effect,
        power=power,
        outcome=decide(beyond[best], min_effect=min_effect, power=power, p=p),
        falsifies=FALSIFIES,
        notes=notes,
    )


def _known(part: Played, measure: str) -> np.ndarray:
    """The measure on levels that have it."""
    values = getattr(part, measure)
    return values[~np.isnan(values)]


def _differences(pair: Pair, measure: str) -> np.ndarray:
    return _known(pair[0], measure) - _known(pair[1], measure)


def _gain(pair: Pair, measure: str) -> Effect:
    """Paired difference with Newcombe's interval and McNemar's exact p."""
    return paired_difference(*(_known(part, measure) for part in pair), unit=UNITS[measure])


def _beyond(pair: Pair, control: Pair, measure: str, seed: int) -> Effect:
    """The gain less that of a control, paired by level."""
    if control[1] is pair[1]:
        return _gain((pair[0], control[0]), measure)
    if not _differences(control, measure).any():
        return _gain(pair, measure)
    differences = _less_control(pair, control, measure)
    return bootstrap_difference(differences, np.zeros_like(differences), unit=UNITS[measure], seed=seed)


def _less_control(pair: Pair, control: Pair, measure: str) -> np.ndarray:
    return _differences(pair, measure) - _differences(control, measure)


def _row(variant: str, count: int, subset: str, mask: np.ndarray, pair: Pair) -> Row:
    now, before = (part.some(mask) for part in pair)
    row: Row = {"variant": variant, "thinking_steps": count, "levels": subset, "num_levels": int(mask.sum())}
    for measure, unit in UNITS.items():
        if len(values := _known(now, measure)) == 0:
            continue
        rate, gain = proportion(values, unit=unit), _gain((now, before), measure)
        row |= {f"{measure}_rate": rate.value, f"{measure}_rate_low": rate.low, f"{measure}_rate_high": rate.high}
        row |= {f"{measure}_gain": gain.value, f"{measure}_gain_low": gain.low, f"{measure}_gain_high": gain.high}
        row[f"{measure}_gain_p"] = gain.p
    both = (now.solved == 1) & (before.solved == 1)
    row["more_steps_where_both_solve"] = float((now.lengths - before.lengths)[both].mean()) if both.any() else None
    return row


def _subsets(far: Tensor | None, num_levels: int) -> dict[str, np.ndarray]:
    subsets = {"all": np.ones(num_levels, dtype=bool)}
    if far is not None:
        subsets |= {"far": far.cpu().numpy(), "near": ~far.cpu().numpy()}
    return subsets


def _without(bank: LevelBank, levels: LevelSet) -> LevelBank:
    """The bank less its levels that are also in `levels`, turned and mirrored ones included."""
    taken = set(levels.canonical_keys())
    kept = torch.tensor([key not in taken for key in bank.levels.canonical_keys()])
    if int(kept.sum()) < MIN_LEVELS:
        raise TooFewLevelsError(
            f"{int(kept.sum())} of {len(kept)} levels for choosing are not among those that are judged; {MIN_LEVELS} "
            "are needed. Take another split, e.g. 'valid'."
        )
    first_moves = None if bank.first_moves is None else bank.first_moves[kept]
    return LevelBank(bank.make_env, bank.levels[kept], first_moves)


def _choose(policy: Policy, bank: LevelBank, counts: Sequence[int], measure: Measure, options: dict) -> int:
    """The positive number of thinking steps with the best measure; the smallest of equals."""
    if measure == "first_move" and bank.first_moves is None:
        raise AddressError("choosing by first moves needs choice_first_moves, the optimal ones on the choice levels.")
    scores = {
        count: np.nanmean(getattr(bank.play(policy, thinking_steps=count, **options), measure))
        for count in sorted(set(counts))
        if count > 0
    }
    if not scores:
        raise AddressError(f"thinking_steps {tuple(counts)}: nothing above 0 to choose from.")
    return max(scores, key=lambda count: (scores[count], -count))


def _check(levels: LevelSet, first_moves: Tensor | None, far: Tensor | None, measure: str, judged_steps: int) -> None:
    if len(levels) < MIN_LEVELS:
        raise TooFewLevelsError(f"thinking gain needs {MIN_LEVELS} levels or more, got {len(levels)}.")
    if measure not in UNITS:
        raise AddressError(f"there is no measure '{measure}'. Choose {', '.join(UNITS)}.")
    if measure == "first_move" and first_moves is None:
        raise AddressError("judging by first moves needs optimal_first_moves.")
    if judged_steps < 1:
        raise AddressError(f"judged_steps {judged_steps}: a gain needs at least one thinking step.")
    for name, mask, shape in (("optimal_first_moves", first_moves, (len(levels), 4)), ("far", far, (len(levels),))):
        if mask is not None and (tuple(mask.shape) != shape or mask.dtype != torch.bool):
            raise ShapeError(f"{name} must be {shape} bool, got {tuple(mask.shape)} {mask.dtype}.")
