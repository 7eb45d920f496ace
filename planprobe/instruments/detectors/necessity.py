"""D9, necessity: take the plan out of the net, and see what it can no longer do.

A plan that is read off the agent may be an echo of what it does, not its reason. If the agent goes by the plan, then
without the linear subspace that holds it, it must solve less, choose worse first moves far from the goal, or gain
nothing from thinking. Any erasure does damage, so the same is done to random subspaces of equal rank, as they come and
scaled to move activations as far; what counts is the drop beyond both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.records import Effect, Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.erasure.erased_play import UNITS, Erased, Measure, Trial
from planprobe.instruments.erasure.erasure import Erasure
from planprobe.instruments.hooks import OpenedPolicy
from planprobe.instruments.statistics.proportions import paired_proportion_power
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, difference_over_best

CLAIM = "The agent needs the plan that is read from it: with the plan's subspace erased it does worse."
NEEDS = ("opened policy", "an erasure fitted on other levels", "levels that it solves")
RANDOM, EQUAL_LENGTH = "random subspaces", "random subspaces, equal length"
CONTROLS = (RANDOM, EQUAL_LENGTH)
FALSIFIES = "that what the agent does rests on the linearly readable plan at these sites"

MIN_LEVELS = 10
NOTHING, PLAN = "nothing erased", "plan erased"


def run(
    opened: OpenedPolicy,
    trial: Trial,
    erasure: Erasure,
    *,
    min_effect: float,
    measure: Measure = "solved",
    parts: Mapping[str, Erasure] | None = None,
    distances: Tensor | None = None,
    num_bins: int = 4,
    num_random: int = 100,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> Evidence:
    """Play every level untouched, with the plan erased, and with random subspaces erased.

    Args:
        trial: the levels, other ones than those of the fit, and what is measured on them.
        erasure: one eraser a site, as `fit_erasure` makes it.
        min_effect: smallest drop beyond controls that counts; measure: what is judged; both fixed beforehand. Rows
            report every measure that the trial takes.
        parts: erasures of parts of the plan by name, as a rule of one horizon each (`concept_target(horizon=...)`);
            they are reported beside the whole, and compared with the same random subspaces, whose rank is theirs.
        distances: (N,) moves from each start to the goal, -1 = not known; rows report bins of equal numbers of levels.
        num_random: draws of each control.
    Returns: effect = the drop; controls = the drop with random subspaces, mean of the draws; beyond_controls = effect
        minus the larger of them, paired by level; its p also counts the draws that do as much damage.
    Raises: TooFewLevelsError; ShapeError (distances of other levels, no draws); UnknownNameError, AddressError
        (measure).
    """
    num_levels = len(trial.levels)
    if num_levels < MIN_LEVELS:
        raise TooFewLevelsError(f"necessity needs {MIN_LEVELS} levels or more, got {num_levels}.")
    if distances is not None and tuple(distances.shape) != (num_levels,):
        raise ShapeError(f"distances must be ({num_levels},), got {tuple(distances.shape)}.")
    if num_random < 1:
        raise ShapeError(f"num_random={num_random}: a drop is compared with one random subspace or more.")
    trial.check_measure(measure)
    conditions: dict[str, Erasure | None] = {
        NOTHING: None,
        PLAN: erasure,
        **{f"{PLAN}, {name}": part for name, part in (parts or {}).items()},
        RANDOM: erasure.randomised(num_random, seed=seed),
        EQUAL_LENGTH: erasure.randomised(num_random, seed=seed + 1, equal_length=True),
    }
    total, done = sum(trial.num_episodes(each) for each in conditions.values()), 0

    def tell(number: int) -> None:
        nonlocal done
        done += number
        if on_progress:
            on_progress(done / total)

    played = {name: trial.run(opened, each, on_batch=tell) for name, each in conditions.items()}
    rows = [
        row
        for subset, mask in _subsets(distances, num_levels, num_bins).items()
        for name in _measures(played)
        for row in _rows(played, name, subset, mask, distances, seed)
    ]
    return replace(_conclude(played, erasure, measure, min_effect, num_random, seed), rows=rows)


def _conclude(
    played: dict[str, Erased], erasure: Erasure, measure: Measure, min_effect: float, num_random: int, seed: int
) -> Evidence:
    unit = f"{UNITS[measure]}, lost"
    values = {name: part.per_level(measure) for name, part in played.items()}
    drops = {name: values[NOTHING] - part for name, part in values.items()}
    effect = _difference(values[NOTHING], values[PLAN], unit, seed)
    controls = {name: _difference(values[NOTHING], values[name], unit, seed) for name in CONTROLS}
    best, beyond = difference_over_best(drops[PLAN], {name: drops[name] for name in CONTROLS}, unit=unit, seed=seed)
    as_bad = max(_share_of_draws_as_bad(played, name, measure) for name in CONTROLS)
    p = max(as_bad, effect.p or 0.0, beyond.p or 0.0)
    # a mean absolute difference bounds the variance of differences in [-1, 1] from above, so this is on the safe side
    differs = float(np.nanmean(np.abs(drops[PLAN] - drops[best])))
    power = paired_proportion_power(beyond.n, effect=min_effect, discordant_rate=min(1.0, differs))
    before = float(np.nanmean(values[NOTHING]))
    outcome = decide(beyond, min_effect=min_effect, power=power, p=p)
    notes = _notes(erasure, best, as_bad, num_random)
    if outcome == "refuted" and before < 2 * min_effect:
        outcome = "inconclusive"
        notes.append(f"Untouched, the agent reaches {before:.3f}: there is no room for a drop of {min_effect:g}.")
    return Evidence(
        detector="D9",
        name="necessity",
        claim=CLAIM,
        effect=effect,
        controls=controls,
        beyond_controls=replace(beyond, p=p),
        min_effect=min_effect,
        power=power,
        outcome=outcome,
        falsifies=FALSIFIES,
        notes=[f"Judged by {UNITS[measure]}.", *notes],
    )


def _difference(first: np.ndarray, second: np.ndarray, unit: str, seed: int) -> Effect:
    return bootstrap_difference(first, second, unit=unit, seed=seed)


def _share_of_draws_as_bad(played: dict[str, Erased], control: str, measure: str) -> float:
    """p of the plan's subspace among random ones: (1 + draws that leave as little or less) / (1 + draws)."""
    left = played[control].per_draw(measure)
    return float((1 + (left <= played[PLAN].per_draw(measure)[0] + 1e-9).sum()) / (1 + len(left)))


def _measures(played: dict[str, Erased]) -> list[str]:
    """Measures that were taken on some level."""
    return [name for name, values in played[NOTHING].values.items() if not np.isnan(values).all()]


def _subsets(distances: Tensor | None, num_levels: int, num_bins: int) -> dict[str, np.ndarray]:
    """All levels, and bins of equal numbers of levels by distance."""
    subsets = {"all": np.ones(num_levels, dtype=bool)}
    if distances is None:
        return subsets
    known = (distances >= 0).nonzero().squeeze(1)
    order = known[distances[known].argsort(stable=True)]
    for number, ids in enumerate(part for part in order.chunk(num_bins) if len(part) > 1):
        mask = np.zeros(num_levels, dtype=bool)
        mask[ids.numpy()] = True
        subsets[f"distance bin {number + 1}"] = mask
    return subsets


def _rows(
    played: dict[str, Erased], measure: str, subset: str, mask: np.ndarray, distances: Tensor | None, seed: int
) -> list[Row]:
    """One row a condition: the rate, what was lost, and how much more than with random subspaces."""
    values = {name: part.per_level(measure)[mask] for name, part in played.items()}
    if (~np.isnan(values[NOTHING])).sum() < 2:
        return []
    rows = []
    for name, part in values.items():
        rate = cluster_bootstrap(part, unit=UNITS[measure], seed=seed)
        lost = _difference(values[NOTHING], part, UNITS[measure], seed)
        draws = played[name].values[measure][mask]
        row: Row = {"condition": name, "measure": measure, "levels": subset, "num_levels": rate.n}
        if distances is not None and subset != "all":
            inside = distances[torch.as_tensor(mask)]
            row |= {"distance_low": int(inside.min()), "distance_high": int(inside.max())}
        row |= {"num_draws": draws.shape[1], "rate": rate.value, "rate_low": rate.low, "rate_high": rate.high}
        row |= {"lost": lost.value, "lost_low": lost.low, "lost_high": lost.high, "lost_p": lost.p}
        row["least_rate_of_draws"] = float(np.nanmean(draws, axis=0).min())
        if name.startswith(PLAN):
            more = _difference(values[RANDOM], part, UNITS[measure], seed)
            row |= {"more_than_random": more.value, "more_than_random_low": more.low}
            row |= {"more_than_random_high": more.high, "more_than_random_p": more.p}
        rows.append(row)
    return rows


def _notes(erasure: Erasure, best: str, as_bad: float, num_random: int) -> list[str]:
    sites = ", ".join(erasure.erasers)
    explained = max(erasure.explained.values())
    ranks = sorted({eraser.rank for eraser in erasure.erasers.values()})
    notes = [
        f"Erased at {sites}, rank {' or '.join(map(str, ranks))}, {'jointly' if erasure.joint else 'site by site'}.",
        f"Before, a linear guess accounted for up to {explained:.3f} of the concept's variance.",
        f"Best control: {best}. Share of random draws that do as much damage: p = {as_bad:.4f}.",
    ]
    if num_random < 100:
        notes.append(f"{num_random} random draws are too few to place the plan's erasure among them; take 100.")
    return notes
