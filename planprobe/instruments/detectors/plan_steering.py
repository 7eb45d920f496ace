"""D7, plan steering: write another plan into the agent, and see whether it acts on it.

A plan code that can be read need not be used. If it is, then writing the moves of the long way onto the board must
redirect the agent, all along that way, and no other writing of the same strength may: neither random directions, nor
the right directions under wrong names or on other squares. Strengths are chosen on the first half of the levels, for
each control by itself, and everything is reported on the second half.

Three things decide whether it is the plan that is asked. The agent has settled before anything is written: one that
still searches leaves by either way, or waits, whatever is written. What is written holds no wall, target or player
(`without_percepts`): who has no plan, but reads the board from where the edit is, would go by the board that the edit
has built. And strengths lie no more than a factor of two apart: too weak, the old plan stays; four times that, a code
that is read in part elsewhere is broken rather than changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import AddressError, TooFewLevelsError
from planprobe.core.play import BATCH_BOARDS, EnvMaker
from planprobe.core.protocols import State
from planprobe.core.records import Effect, Evidence, Outcome, Row
from planprobe.instruments.detectors.outcome import LEVEL, MIN_POWER, decide
from planprobe.instruments.hooks import OpenedPolicy
from planprobe.instruments.statistics.proportions import paired_proportion_power, power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, difference_over_best
from planprobe.instruments.steering.directions import PlanDirections, permuted_tables, random_tables, without_percepts
from planprobe.instruments.steering.route_edits import (
    ARMS,
    RouteEdits,
    TwoRoutes,
    players_elsewhere,
    route_edits,
    shuffled_edits,
)
from planprobe.instruments.steering.steering import (
    Steered,
    SteeringPlan,
    measure_spill,
    settle,
    settled_values,
    steer_routes,
)

CLAIM = "The agent acts on the plan that is read from it: writing another plan redirects the whole route."
NEEDS = ("opened policy", "levels with a short and a long way", "plan directions at a site")
CONTROLS = ("random directions", "wrong class", "other concept", "shuffled square")
FALSIFIES = "that the decoded plan is what the agent acts on"

MIN_LEVELS = 20  # ten to choose on, ten to report
NO_EDIT, TRAINED, RANDOM, WRONG, OTHER, SHUFFLED = "no edit", "trained", *CONTROLS
UNIT = "fraction of levels left by the long way"


LEAVING, WHOLE = "until the start is left", "whole episodes"
CHOICE, FEW, ALL = "for choosing strengths", "few", "all"  # of the random draws; the first are other draws


@dataclass(frozen=True)
class Battery:
    """How many tables stand behind each source.

    num_random: for the way that is taken on the arm that is judged; num_random_choice: in choosing strengths, in other
    arms, and for what else an edit does.
    """

    num_random: int = 100
    num_random_choice: int = 10
    num_wrong: int = 8
    num_shuffles: int = 4


def run(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    routes: TwoRoutes,
    directions: PlanDirections,
    *,
    min_effect: float,
    alphas: Sequence[float] = (0.5, 1, 2, 4, 8),
    arm: str = "both",
    plan: SteeringPlan | None = None,
    battery: Battery | None = None,
    other_concept: Tensor | None = None,
    settle_steps: int = 0,
    seed: int = 0,
) -> Evidence:
    """Steer on every level and compare with every control.

    Args:
        routes: N >= 20 levels, in random order; the first half chooses strengths, the second is reported.
        min_effect: smallest rise of the share of levels left by the long way that counts; arm: 'block', 'direct' or
            'both', the one that is judged. Both are fixed beforehand.
        plan: squares, steps and length of an episode.
        other_concept: (5, C) unit directions of something that is no plan, to be used in place of the right ones.
        settle_steps: thinking steps before anything is edited, the same for every arm.
    Returns: effect = the rise with fitted directions; controls = the rise with others, each at its own best strength
        where that does better; beyond_controls = effect minus the best of them.
    Raises: TooFewLevelsError; AddressError (unknown arm).
    """
    num_levels = len(routes.levels)
    if num_levels < MIN_LEVELS:
        raise TooFewLevelsError(f"plan steering needs {MIN_LEVELS} two-route levels or more, got {num_levels}.")
    if arm not in ARMS[1:]:
        raise AddressError(f"there is no arm '{arm}' to judge. Choose {', '.join(ARMS[1:])}.")
    half = num_levels // 2
    choice, report = torch.arange(half), torch.arange(half, num_levels)
    memory = settle(opened, make_env, routes.levels, steps=settle_steps)
    values = settled_values(opened, make_env, routes.levels, directions.site, memory)
    lab = _Lab(
        opened, make_env, routes, directions, plan or SteeringPlan(), battery or Battery(), other_concept, seed,
        vectors=without_percepts(directions.vectors, values, routes, choice, convention=directions.convention),
        memory=memory,
        memory_elsewhere=settle(opened, make_env, players_elsewhere(routes, seed=seed), steps=settle_steps),
    )  # fmt: skip
    scan = [lab.choose(NO_EDIT, "none", 0.0, choice)]
    for strength in alphas:
        scan += [lab.choose(TRAINED, each, strength, choice) for each in ARMS[1:]]
        scan += [lab.choose(source, arm, strength, choice) for source in lab.controls]
    best = {source: _best_alpha(scan, source, arm) for source in (TRAINED, *lab.controls)}

    alpha = best[TRAINED]
    told = [lab.report(NO_EDIT, "none", 0.0, report, judged=False)]
    for each in ARMS[1:]:
        told += [lab.report(source, each, alpha, report, judged=each == arm) for source in (TRAINED, *lab.controls)]
    told += [
        lab.report(source, arm, best[source], report, judged=True) for source in lab.controls if best[source] != alpha
    ]
    return _conclude(scan, told, arm, alpha, min_effect, lab)


def count_environments(num_levels: int, num_alphas: int, battery: Battery) -> int:
    """About as many as `run` makes, for a progress bar: one a batch of ways taken, two where the spill is measured.

    Those of settling besides: levels, levels of the spill, and what stands in memory.
    """
    other_concept, num_arms = 1, len(ARMS) - 1
    controls = battery.num_random_choice + battery.num_wrong + other_concept + battery.num_shuffles
    choosing = 1 + num_alphas * (num_arms + controls)
    with_spill, leaving_only = 1 + num_arms + controls, battery.num_random + (num_arms - 1) * controls
    settling = 3 * 2
    return math.ceil(num_levels / 2 * (settling + choosing + 2 * with_spill + leaving_only) / BATCH_BOARDS)


@dataclass(frozen=True)
class Measured:
    """One arm x source x strength on M levels x D tables.

    steered: what it does to the way that is taken. whole: of whole episodes, with what else the edit does, and spill,
    (M, D) as `measure_spill`; of fewer tables where D is many, None where only the way taken was measured.
    """

    source: str
    arm: str
    alpha: float
    steered: Steered
    whole: Steered | None
    spill: Tensor | None

    @property
    def success(self) -> np.ndarray:
        """(M,) share of tables that redirect the agent, level by level."""
        return self.steered.took_long.mean(1).numpy()


@dataclass(frozen=True)
class _Lab:
    """All that stays the same between arms.

    vectors: the directions as they are written. memory, memory_elsewhere: after settling on the levels, and on those
    that the spill is measured on.
    """

    opened: OpenedPolicy
    make_env: EnvMaker
    routes: TwoRoutes
    directions: PlanDirections
    plan: SteeringPlan
    battery: Battery
    other_concept: Tensor | None
    seed: int
    vectors: Tensor
    memory: State | None
    memory_elsewhere: State | None

    @property
    def controls(self) -> tuple[str, ...]:
        return CONTROLS if self.other_concept is not None else tuple(name for name in CONTROLS if name != OTHER)

    def choose(self, source: str, arm: str, alpha: float, level_ids: Tensor) -> Measured:
        """Enough to choose a strength by: few tables, and no more than leaving the start."""
        return Measured(
            source, arm, float(alpha), self._steer(source, arm, alpha, level_ids, LEAVING, CHOICE), None, None
        )

    def report(self, source: str, arm: str, alpha: float, level_ids: Tensor, *, judged: bool) -> Measured:
        """Whole episodes and the spill, of few random tables; on the judged arm the ways of all random tables too.

        Controls on the other arms are there for the way that is taken, and stop once the start is left.
        """
        if source in CONTROLS and not judged:
            taken = self._steer(source, arm, alpha, level_ids, LEAVING, FEW)
            return Measured(source, arm, float(alpha), taken, None, None)
        whole = self._steer(source, arm, alpha, level_ids, WHOLE, FEW)
        edits, tables = self._edits_and_tables(source, arm, FEW)
        spill = measure_spill(
            self.opened, self.make_env, self.routes, level_ids, edits, alpha * tables, directions=self.directions,
            plan=self.plan, seed=self.seed, memory=self.memory_elsewhere,
        )  # fmt: skip
        many = judged and source == RANDOM
        steered = self._steer(source, arm, alpha, level_ids, LEAVING, ALL) if many else whole
        return Measured(source, arm, float(alpha), steered, whole, spill)

    def _steer(self, source: str, arm: str, alpha: float, level_ids: Tensor, extent: str, draws: str) -> Steered:
        edits, tables = self._edits_and_tables(source, arm, draws)
        plan = replace(self.plan, leaving_only=extent == LEAVING)
        return steer_routes(
            self.opened, self.make_env, self.routes, level_ids, edits, alpha * tables, directions=self.directions,
            plan=plan, memory=self.memory,
        )  # fmt: skip

    def _edits_and_tables(self, source: str, arm: str, draws: str) -> tuple[RouteEdits, Tensor]:
        vectors, battery = self.vectors, self.battery
        num_squares, convention = self.plan.num_squares, self.directions.convention
        edits = route_edits(self.routes, arm, num_squares=num_squares, convention=convention)
        tables = vectors[None]
        if source == RANDOM:
            # other draws than those that chose the strength
            number = battery.num_random if draws == ALL else min(battery.num_random_choice, battery.num_random)
            tables = random_tables(number, vectors.shape[1], seed=2 * self.seed + (draws == CHOICE))
        elif source == WRONG:
            tables = permuted_tables(vectors, battery.num_wrong, seed=self.seed)
        elif source == OTHER and self.other_concept is not None:
            tables = self.other_concept[None]
        elif source == SHUFFLED:
            edits = shuffled_edits(edits, self.routes, battery.num_shuffles, seed=self.seed)
            tables = tables.expand(battery.num_shuffles, -1, -1)
        return edits, tables


def _best_alpha(scan: list[Measured], source: str, arm: str) -> float:
    """The strength with the highest success; the smaller one in a tie."""
    tried = [part for part in scan if part.source == source and part.arm == arm]
    return max(tried, key=lambda part: (part.success.mean(), -part.alpha)).alpha


def _conclude(
    scan: list[Measured], told: list[Measured], arm: str, alpha: float, min_effect: float, lab: _Lab
) -> Evidence:
    nothing = told[0]
    by_arm = {part.arm: part for part in told if part.source == TRAINED}
    trained = by_arm[arm]
    rivals = {_title(part, alpha): part for part in told if part.arm == arm and part.source in lab.controls}
    seed = lab.seed
    rises = {name: part.success - nothing.success for name, part in rivals.items()}
    best, beyond = difference_over_best(trained.success - nothing.success, rises, unit=UNIT, seed=seed)
    effect = bootstrap_difference(trained.success, nothing.success, unit=UNIT, seed=seed)
    controls = {
        name: bootstrap_difference(part.success, nothing.success, unit=UNIT, seed=seed) for name, part in rivals.items()
    }
    randoms = [part for part in rivals.values() if part.source == RANDOM]
    above = _share_of_draws_as_good(trained, randoms)
    power = power_of_interval(beyond, min_effect=min_effect)
    if math.isnan(power):  # no level differs from another
        power = paired_proportion_power(beyond.n, effect=min_effect, discordant_rate=0.0)
    p = max(above, effect.p or 0.0, beyond.p or 0.0)
    rows = [_row("choice", part, scan[0], None, seed) for part in scan]
    rows += [_row("report", part, nothing, by_arm.get(part.arm), seed) for part in told]
    rows = [row | {"judged": row["half"] == "report" and row["arm"] == arm} for row in rows]
    return Evidence(
        detector="D7",
        name="plan_steering",
        claim=CLAIM,
        effect=effect,
        controls=controls,
        beyond_controls=replace(beyond, p=p),
        min_effect=min_effect,
        power=power,
        outcome=_decide(float(trained.success.mean()), beyond, min_effect, power, p, above, randoms),
        falsifies=FALSIFIES,
        rows=rows,
        notes=_notes(told, arm, alpha, best, above),
    )


def _decide(
    success: float, beyond: Effect, min_effect: float, power: float, p: float, above: float, randoms: list[Measured]
) -> Outcome:
    """As every detector, and refuted too where random directions do as well.

    That is so where the fitted one lies within their spread, and they leave room above or do better than it by what
    matters. (Whatever is written into the board that a table recognises, it loses its way.)
    """
    outcome = decide(beyond, min_effect=min_effect, power=power, p=p)
    draws = [part.steered.took_long.mean(0).numpy() for part in randoms]
    widest = max(float(np.quantile(each, 0.95)) for each in draws)
    enough = min(len(each) for each in draws) >= 1 / LEVEL - 1  # with fewer, `above` could not be small
    settled = enough and (widest <= 1 - min_effect or widest >= success + min_effect)
    if outcome == "inconclusive" and above >= LEVEL and settled and power >= MIN_POWER:
        return "refuted"
    return outcome


def _title(part: Measured, alpha: float) -> str:
    return part.source if part.alpha == alpha else f"{part.source}, own best strength"


def _share_of_draws_as_good(trained: Measured, randoms: list[Measured]) -> float:
    """p of the fitted directions among random ones: the largest (1 + draws at least as good) / (1 + draws)."""
    score = trained.success.mean()
    shares = []
    for part in randoms:
        draws = part.steered.took_long.mean(0).numpy()
        shares.append((1 + (draws >= score - 1e-9).sum()) / (1 + len(draws)))
    return float(max(shares))


def _row(half: str, part: Measured, nothing: Measured, trained: Measured | None, seed: int) -> Row:
    """Everything about one arm x source x strength on one half of the levels; `trained` is of the same arm."""
    steered = part.steered
    success = cluster_bootstrap(part.success, unit=UNIT, seed=seed)
    rise = bootstrap_difference(part.success, nothing.success, unit=UNIT, seed=seed)
    draws = steered.took_long.mean(0).numpy()
    row: Row = {
        "half": half, "arm": part.arm, "source": part.source, "alpha": part.alpha, "num_levels": len(part.success),
        "num_tables": len(draws), "success": success.value, "success_low": success.low, "success_high": success.high,
        "rise": rise.value, "rise_low": rise.low, "rise_high": rise.high, "rise_p": rise.p,
        "success_p95_of_tables": float(np.quantile(draws, 0.95)), "took_short": _mean(steered.took_short),
        **_whole_columns(part),
    }  # fmt: skip
    if trained is not None and part.source in CONTROLS:
        over = bootstrap_difference(trained.success, part.success, unit=UNIT, seed=seed)
        row |= {"trained_minus_this": over.value, "trained_minus_this_low": over.low, "trained_minus_this_p": over.p}
    return row


def _whole_columns(part: Measured) -> Row:
    """What whole episodes came to; None in each where only the way that was taken is known."""
    whole, names = part.whole, ("route_agreement", "whole_route", "solved", "num_steps", "num_steps_if_solved")
    if whole is None or part.spill is None:
        return dict.fromkeys(("num_whole_tables", *names, "kl_elsewhere_nats", "long_decoded", "short_decoded"))
    values = (
        whole.agreement, (whole.agreement == 1).double(), whole.solved, whole.num_steps,
        whole.num_steps.masked_fill(whole.solved == 0, float("nan")),
    )  # fmt: skip
    return {
        "num_whole_tables": whole.solved.shape[1],
        **{name: _mean(value) for name, value in zip(names, values, strict=True)},
        "kl_elsewhere_nats": _mean(part.spill), "long_decoded": _mean(whole.long_decoded),
        "short_decoded": _mean(whole.short_decoded),
    }  # fmt: skip


def _mean(values: Tensor) -> float | None:
    value = float(values.nanmean())
    return None if value != value else value


def _notes(told: list[Measured], arm: str, alpha: float, best: str, above: float) -> list[str]:
    def success(source: str, which: str) -> float:
        parts = [part for part in told if part.source == source and part.arm == which and part.alpha in (alpha, 0.0)]
        return float(parts[0].success.mean())

    nothing = told[0].steered
    by_arm = ", ".join(f"{each} {success(TRAINED, each):.3f}" for each in ARMS[1:])
    return [
        f"Left alone, the agent goes the short way on {_mean(nothing.took_short):.3f} of the levels and the long way "
        f"on {success(NO_EDIT, 'none'):.3f}.",
        f"Share redirected by arm at strength {alpha:g}: {by_arm}. Judged: '{arm}'. Where blocking alone does it all, "
        "the agent was kept from one way, not given another.",
        f"Best control: {best}. Share of random tables as good as the fitted one: p = {above:.4f}.",
    ]
