"""D10 within trials: something makes another course of action best, no reward has said so. Does the agent take it?

Where an agent learns its task within a trial, a habit is what paid before in this very trial: the way that it walked,
less its detours; the choice that was paid. So the world, or the agent's own detour, is such that a course never taken
is the best one, and that the agent could know it from what it has seen. A cached course scores nothing there, by
construction or as a player that is written down. The other control is the agent itself with its memory reset at the
last episode end, which finds the better course by chance as often as its behaviour in a first episode does.

Rules of thumb, such as going straight for the goal, plan nothing either and often find the better course. So support
and refutation are looked for where they do not. Who does no better than a habit on all trials, the easy ones included,
is refuted too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.play_trials import TrialEnvironment, TrialRollout, play_trials
from planprobe.core.protocols import Policy
from planprobe.core.records import Effect, Evidence, Outcome, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.proportions import paired_proportion_power, power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_table, cluster_bootstrap, difference_over_best

CLAIM = "The agent takes the best course though it has never taken it, where what it has seen tells of it."
NEEDS = ("trials in which a course that was never taken is the best one", "a score of each trial")
KEPT = "memory kept"
RESET_EPISODES, RESET_STEPS = "memory reset at episode ends", "memory reset each step"
CONTROLS = ("cached players", RESET_EPISODES, RESET_STEPS)
FALSIFIES = "that the agent works out what to do next, rather than doing again what it did before in the trial"

UNIT = "fraction of trials with a better course never taken before"

MIN_TRIALS = 10  # in which there was a better course to be taken
MakeTrials = Callable[[int], TrialEnvironment]
Score = Callable[[TrialRollout], np.ndarray]
"""(N,): 1 = took the better course, 0 = not, or a share of occasions in between; nan = there was none to be taken."""
CachedScores = Callable[[TrialRollout], Mapping[str, np.ndarray]]
"""What players with a cached course would have scored in the agent's place, (N,) by name."""


@dataclass(frozen=True)
class Change:
    """What makes another course best. name: 'never-walked shortcut'. make_trials: the trials that it happens in.
    rules_of_thumb: of the cached players, those that find the better course now and then; where one does, finding it
    too is no sign of planning, and being no better than it none of the contrary.
    """

    name: str
    make_trials: MakeTrials
    score: Score
    cached: CachedScores
    rules_of_thumb: tuple[str, ...] = ()


def run(
    policy: Policy,
    changes: Sequence[Change],
    *,
    num_trials: int = 1000,
    min_effect: float,
    greedy: bool = False,
    seed: int = 0,
) -> Evidence:
    """Play the same trials with memory kept and reset, and score them beside cached players.

    Args: changes: each is played; a trial's score is its mean over those that gave it a better course. num_trials: of
        each; those without any do not count. min_effect: smallest share of interest, fixed beforehand. greedy, seed: as
        `core.play_trials`.
    Returns: effect = the score with memory kept; beyond_controls = over the best of cached players and resets.
    Raises: TooFewLevelsError (fewer than MIN_TRIALS with a better course); ShapeError (scores of other trials).
    """
    scores = {
        change.name: score_change(policy, change, num_trials=num_trials, greedy=greedy, seed=seed) for change in changes
    }
    thumb = {name for change in changes for name in change.rules_of_thumb}
    return judge(scores, rules_of_thumb=thumb, min_effect=min_effect, seed=seed)


def score_change(
    policy: Policy, change: Change, *, num_trials: int, greedy: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """Scores (N,) by condition: memory kept, memory reset, cached players."""

    def play(**options) -> TrialRollout:
        return play_trials(policy, change.make_trials(num_trials), greedy=greedy, seed=seed, **options)

    kept = play()
    several = kept.episode_returns.shape[1] > 1
    name, reset = (RESET_EPISODES, "each episode") if several else (RESET_STEPS, "each step")
    cached = {player: np.asarray(values, dtype=np.float64) for player, values in change.cached(kept).items()}
    return {KEPT: change.score(kept), name: change.score(play(reset_memory=reset)), **cached}


def judge(
    scores_by_change: Mapping[str, Mapping[str, np.ndarray]],
    *,
    rules_of_thumb: Collection[str] = (),
    min_effect: float,
    seed: int = 0,
) -> Evidence:
    """Evidence from scores (N,) by change and condition, `KEPT` in each; arguments of `run`.

    Judged where no rule of thumb finds the better course, if that is so on MIN_TRIALS or more; see the module.
    """
    everywhere, hard = _pool(scores_by_change), _pool(_where_thumbs_fail(scores_by_change, rules_of_thumb))
    changes, known = ", ".join(scores_by_change), _count(everywhere)
    if known < MIN_TRIALS:
        raise TooFewLevelsError(
            f"revaluation by {changes} needs {MIN_TRIALS} trials with a better course or more: {known} of "
            f"{len(everywhere[KEPT])} have one.\n  Play more trials."
        )
    scores = hard if _count(hard) >= MIN_TRIALS else everywhere
    notes = [f"Change: {changes}; {known} of {len(scores[KEPT])} trials have a better course."]
    if rules_of_thumb:
        notes.append(f"On {_count(hard)} of these no rule of thumb finds it ({', '.join(rules_of_thumb)}).")
    lead = _lead(scores, min_effect=min_effect, seed=seed)
    strict = {name: values for name, values in everywhere.items() if name not in rules_of_thumb}
    settled = lead.outcome == "supported" or (lead.outcome == "refuted" and scores is hard)
    if not settled and rules_of_thumb and len(strict) > 1:
        lead, over_habits = replace(lead, outcome="inconclusive"), _lead(strict, min_effect=min_effect, seed=seed)
        if over_habits.outcome == "refuted":
            lead, scores = over_habits, strict
            notes.append("It does no better than a habit, also where a rule of thumb would do.")
    effects = dict(zip(scores, bootstrap_table(np.stack(list(scores.values())), unit=UNIT, seed=seed), strict=True))
    return Evidence(
        detector="D10", name="trial_revaluation", claim=CLAIM, effect=effects.pop(KEPT), controls=effects,
        beyond_controls=lead.beyond, min_effect=min_effect, power=lead.power, outcome=lead.outcome,
        falsifies=FALSIFIES,
        rows=[
            _row(name, change, values, seed)
            for change, conditions in scores_by_change.items()
            for name, values in conditions.items()
        ],
        notes=[*notes, f"Best control: {lead.control}."],
    )  # fmt: skip


@dataclass(frozen=True)
class _Lead:
    """How far the agent is beyond its best control."""

    control: str
    beyond: Effect
    power: float
    outcome: Outcome


def _lead(scores: Mapping[str, np.ndarray], *, min_effect: float, seed: int) -> _Lead:
    own, controls = scores[KEPT], {name: values for name, values in scores.items() if name != KEPT}
    best, beyond = difference_over_best(own, controls, unit=UNIT, seed=seed)
    power = _power(own, controls[best], min_effect, beyond)
    return _Lead(best, beyond, power, decide(beyond, min_effect=min_effect, power=power))


def _where_thumbs_fail(
    scores_by_change: Mapping[str, Mapping[str, np.ndarray]], rules_of_thumb: Collection[str]
) -> dict[str, dict[str, np.ndarray]]:
    """The same, nan in trials in which a rule of thumb finds the better course."""
    kept = {}
    for change, conditions in scores_by_change.items():
        thumbs = [conditions[name] for name in rules_of_thumb if name in conditions]
        found = np.any(np.stack(thumbs) > 0, axis=0) if thumbs else False
        kept[change] = {name: np.where(found, np.nan, values) for name, values in conditions.items()}
    return kept


def _count(scores: Mapping[str, np.ndarray]) -> int:
    return int((~np.isnan(scores[KEPT])).sum())


def _pool(scores_by_change: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Mean of each trial over the changes that gave it a better course; conditions that every change has."""
    lengths = {name: {key: np.shape(values) for key, values in part.items()} for name, part in scores_by_change.items()}
    shapes = {shape for part in lengths.values() for shape in part.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ShapeError(f"one score a trial is needed, of the same trials: got {lengths}.")
    parts = list(scores_by_change.values())
    pooled = {}
    for name in parts[0]:
        if all(name in part for part in parts):
            stacked = np.stack([part[name] for part in parts])
            counts = (~np.isnan(stacked)).sum(0)
            pooled[name] = np.where(counts > 0, np.nansum(stacked, 0) / np.maximum(counts, 1), np.nan)
    return pooled


def _power(own: np.ndarray, control: np.ndarray, min_effect: float, beyond: Effect) -> float:
    """Of paired proportions where every score is 0 or 1, else from the width of the interval."""
    both = ~(np.isnan(own) | np.isnan(control))
    pair = np.stack([own[both], control[both]])
    if both.any() and np.isin(pair, (0.0, 1.0)).all():
        differs = float((pair[0] != pair[1]).mean())
        return paired_proportion_power(int(both.sum()), effect=min_effect, discordant_rate=differs)
    power = power_of_interval(beyond, min_effect=min_effect)
    return 0.0 if np.isnan(power) else power


def _row(name: str, change: str, values: np.ndarray, seed: int) -> Row:
    some = int((~np.isnan(values)).sum())
    if some < 2:  # no interval
        return {"condition": name, "change": change, "value": None, "low": None, "high": None, "n": some}
    mean = cluster_bootstrap(values, seed=seed)
    return {"condition": name, "change": change, "value": mean.value, "low": mean.low, "high": mean.high, "n": mean.n}
