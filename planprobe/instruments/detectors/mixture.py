"""D13, mixture: are the agent's choices those of one who samples from its belief, or those of one who maximises?

On the same forced histories, three readings say how likely each action is: the posterior-weighted mixture (an action is
taken as often as it is the best one, Thompson 1933), the Bayes-optimal values, the posterior means. Each is softened by
a temperature and a lapse, both fitted, and they are compared by BIC. Before anything is said of the agent, choices are
simulated from every reading, each as predictable as the agent's are, and must be attributed to the reading they came
of: where that fails, the histories cannot tell the readings apart and nothing is concluded.

Where the values that the agent acts for are known, a fourth reading is fitted: it goes through them in an order of its
own (`search_order`). It holds the mixture as the order in which all are alike, so that a lead over it cannot be asked
for; but where an order explains choices on other histories better than the mixture, nothing is said to be matched.

How much a lead means depends on the histories: on two arms a softened greedy player does what the mixture does but for
a thousandth of a nat. So leads are measured by that which the mixture itself has on the very same histories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import ShapeError, unknown_name
from planprobe.core.records import Effect, Evidence, Outcome, Row
from planprobe.core.rng import draw_uniform
from planprobe.instruments.detectors.outcome import MIN_POWER, decide
from planprobe.instruments.detectors.search_order import Search, fit_search_order, score_in_order, score_strictly
from planprobe.instruments.statistics.proportions import power_of_interval, proportion
from planprobe.instruments.statistics.stats import bootstrap_difference, bootstrap_table, difference_over_best, ratio

CLAIM = "The agent matches its choices to its belief: it takes an action as often as that action is the best one."
NEEDS = ("a policy's chances on forced histories", "exact scores of every reading on the same histories")
CONTROLS = ("every other reading, softened alike",)
FALSIFIES = "that the agent acts on samples of the latent variable, or on their mixture (the Thompson reading)"
UNIT = "nats a choice, over choosing at random"

MIXTURE, RANDOM, ORDERED = "mixture (Thompson)", "random", "one value after another, in an order of its own"
MATCHED = f"{MIXTURE}, temperature 1"  # of the rows alone: it is the mixture itself, nothing sharpened
MIN_RECOVERY = 0.95  # of simulated choices that must be attributed to the reading they came of
MATCHING = (0.5, 2.0)  # temperatures at which choices still follow the chances, and not the likeliest action alone
TEMPERATURES, LAPSES = np.logspace(-4, 2, 19), np.array([0.0, 0.01, 0.1, 0.4, 1.0])
_SIMULATE = 501  # stream of the counter-based draws


@dataclass(frozen=True)
class Softening:
    """How a reading's scores become chances: (1 - lapse) softmax(scores / temperature) + lapse / A, fitted.

    log_likelihood: of all choices, nats. per_history (H,) float64: of each history's. bic: -2 log_likelihood +
    num_parameters ln(number of choices), less is better.
    """

    temperature: float
    lapse: float
    log_likelihood: float
    bic: float
    num_parameters: int
    per_history: Tensor


def soften(scores: Tensor, temperature: float, lapse: float) -> Tensor:
    """Chances (H, A) float64 from scores (H, A), values or log chances; -inf is an action never taken but by lapse."""
    return (1 - lapse) * (scores.double() / temperature).softmax(1) + lapse / scores.shape[1]


def fit_softening(scores: Tensor, choices: Tensor, *, temperature: float | None = None) -> Softening:
    """Temperature and lapse of greatest likelihood.

    Args: scores (H, A). choices (H, A): how often each action was chosen on each history, or, of a policy whose chances
        are known, these chances: one choice a history, without the noise of drawing it. temperature: keep it at this.
    Raises: ShapeError (scores and choices of other histories).
    """
    if scores.shape != choices.shape or scores.ndim != 2:
        raise ShapeError(f"scores {tuple(scores.shape)} and choices {tuple(choices.shape)}: need the same (H, A).")
    distinct, counts = _collapse(scores.double(), choices.double())
    temperatures = TEMPERATURES if temperature is None else np.array([temperature])
    grid = _losses(distinct, counts, temperatures, LAPSES)
    row, column = np.unravel_index(grid.argmin(), grid.shape)
    start = np.array([math.log(temperatures[row]), LAPSES[column]])
    bounds = np.array([np.log(temperatures[[0, -1]]), [0.0, 1.0]])
    step = np.array([0.2, 0.02])
    step = np.where(start + step <= bounds[:, 1], step, -step) * [temperature is None, True]
    found = minimize(
        lambda at: float(_losses(distinct, counts, np.exp(at[:1]), at[1:])[0, 0]), start, method="Nelder-Mead",
        bounds=bounds, options={"initial_simplex": [start, start + step * (1, 0), start + step * (0, 1)]},
    )  # fmt: skip
    best = found.x if found.fun <= grid.min() else start
    num_parameters = 2 if temperature is None else 1
    return _softened(scores, choices, float(np.exp(best[0])), float(best[1]), num_parameters=num_parameters)


def fit_readings(
    readings: Mapping[str, Tensor], choices: Tensor, *, search: Search | None = None
) -> dict[str, Softening]:
    """Every reading softened to fit the same choices, and choosing at random, which has nothing to fit.

    search: with it, also the order that fits the choices best; its weights count as parameters.
    """
    fits = {name: fit_softening(scores, choices) for name, scores in readings.items()}
    if search is not None:
        found = fit_softening(score_in_order(search, choices), choices)
        penalty = search.num_parameters * math.log(max(float(choices.sum()), 1.0))
        fits[ORDERED] = replace(
            found, num_parameters=found.num_parameters + search.num_parameters, bic=found.bic + penalty
        )
    return fits | {RANDOM: _softened(torch.zeros_like(choices), choices, 1.0, 0.0, num_parameters=0)}


def best_reading(fits: Mapping[str, Softening]) -> str:
    """The reading of least BIC."""
    return min(fits, key=lambda name: fits[name].bic)


def fit_rows(fits: Mapping[str, Softening]) -> list[Row]:
    """One row a reading: what was fitted, and how far its BIC lies above the best."""
    least = min(fit.bic for fit in fits.values())
    return [
        {
            "reading": name, "temperature": fit.temperature, "lapse": fit.lapse, "num_parameters": fit.num_parameters,
            "log_likelihood": fit.log_likelihood, "bic": fit.bic, "bic_above_best": fit.bic - least,
            "nats_a_choice": fit.log_likelihood / len(fit.per_history), "num_histories": len(fit.per_history),
        }
        for name, fit in fits.items()
    ]  # fmt: skip


def recover(
    readings: Mapping[str, Tensor],
    fits: Mapping[str, Softening],
    *,
    search: Search | None = None,
    order: Tensor | None = None,
    num_repeats: int = 20,
    seed: int = 0,
) -> list[Row]:
    """Simulate one choice a history from every reading, fit all of them anew, and see where it is attributed.

    fits: to the agent. Every reading is softened until its choices are as predictable as the agent's are to whichever
    fits best; as it was fitted, a wrong reading would be next to random, and no test of anything. search, order (G,):
    choices are then simulated also from who always acts for the first value in this order that is left.
    Returns: one row for each pair (simulated, attributed): the share of repeats with Wilson's interval.
    """
    rows: list[Row] = []
    certainty = max(fit.log_likelihood / len(fit.per_history) for fit in fits.values())
    planted = (
        dict(readings) if search is None or order is None else {**readings, ORDERED: score_strictly(search, order)}
    )
    for number, (name, scores) in enumerate(planted.items() if num_repeats else ()):
        chances = soften(scores, _as_predictable(scores, certainty), 0.0)
        found = []
        for repeat in range(num_repeats):
            luck = draw_uniform(seed, _SIMULATE, number, repeat, torch.arange(len(scores))).double()
            drawn = (chances.cumsum(1)[:, :-1] <= luck[:, None]).sum(1)
            found.append(
                best_reading(fit_readings(readings, F.one_hot(drawn, scores.shape[1]).double(), search=search))
            )
        rows += attribution_rows(name, found, [*fits])
    return rows


def attribution_rows(truth: str, attributed: list[str], names: list[str]) -> list[Row]:
    """Share of simulations of one known reading that went to each of `names`."""
    rows: list[Row] = []
    for name in names:
        share = proportion(np.array([found == name for found in attributed]))
        rows.append({
            "simulated": truth, "attributed": name, "value": share.value, "low": share.low, "high": share.high,
            "n": share.n,
        })  # fmt: skip
    return rows


def recovery_rate(rows: list[Row]) -> float:
    """The least share that was attributed rightly, over the simulated readings."""
    rates = [float(row["value"] or 0) for row in rows if row["simulated"] == row["attributed"]]
    return min(rates, default=0.0)


def run(
    readings: Mapping[str, Tensor],
    chances: Tensor,
    *,
    history_ids: Tensor | None = None,
    search: Search | None = None,
    min_share: float,
    num_repeats: int = 20,
    seed: int = 0,
) -> Evidence:
    """Fit every reading to a policy's chances on the same histories, after simulating and recovering each.

    Args: readings: name -> scores (H, A); one of them is `MIXTURE`, its scores log chances. chances (H, A): the policy.
        history_ids (H,): histories of one number are no independent units (say, steps of one trial); each for itself by
        default. search: the same histories under each value of psi, for the reading of who goes through them in order.
        min_share: smallest lead of interest, as a share of the one that the mixture itself would have.
        num_repeats: simulations of each reading.
    Returns: effect = likelihood of the mixture; beyond_controls = its lead over the best other reading, in nats a
        choice; min_effect in the same unit; power: to see the mixture itself. Supported only at a temperature near one:
        one who always takes the likeliest action samples nothing. Inconclusive where the mixture itself has no lead.
    Raises: UnknownNameError (no mixture among the readings); ShapeError.
    """
    if MIXTURE not in readings:
        raise unknown_name("reading", MIXTURE, readings, where="these readings")
    ids = torch.arange(len(chances)) if history_ids is None else history_ids
    fits = fit_readings(readings, chances, search=search)
    matched = fit_softening(readings[MIXTURE], chances, temperature=1.0)
    order = None if search is None else fit_search_order(search, chances, torch.ones(len(chances), dtype=torch.bool))
    recovery = recover(readings, fits, search=search, order=order, num_repeats=num_repeats, seed=seed)
    possible = possible_lead(readings, ids, seed=seed)
    min_effect = max(min_share * possible.value, 0.0)
    sums = _sums_over_chance(fits, ids)
    controls = {name: part for name, part in sums.items() if name != MIXTURE}
    effects = dict(
        zip(controls, bootstrap_table(np.stack([*controls.values()]), ratio, unit=UNIT, seed=seed), strict=True)
    )
    rivals = {name: part for name, part in controls.items() if name != ORDERED}
    best, beyond = difference_over_best(sums[MIXTURE], rivals, ratio, unit=UNIT, seed=seed)
    power = power_of_interval(possible, min_effect=min_effect)
    power = 0.0 if math.isnan(power) else power
    outcome = decide(beyond, min_effect=min_effect, power=power)
    rate, temperature = recovery_rate(recovery), fits[MIXTURE].temperature
    notes = [
        f"Least BIC: {best_reading(fits)}. Best control of the mixture: {best}. The mixture fits best at temperature "
        f"{temperature:.2g} (1 is matching, 0 the likeliest action) with lapse {fits[MIXTURE].lapse:.2g}.",
        f"Simulated from the readings, as predictable as the agent, {rate:.0%} or more of {num_repeats} were "
        "attributed to the one they came of.",
        f"The mixture itself would lead by {possible.value:.2g} nats a choice on these histories.",
    ]
    if search is not None:
        outcome, note = _weigh_order(outcome, sums, min_effect=min_effect, power=power, seed=seed)
        notes.append(note)
    if not possible.low > 0:
        outcome = "inconclusive"
    if rate < MIN_RECOVERY and outcome != "inconclusive":
        outcome = "inconclusive"
        notes.append(f"Under {MIN_RECOVERY:.0%} recovered: these histories do not tell the readings apart.")
    if outcome == "supported" and not MATCHING[0] <= temperature <= MATCHING[1]:
        outcome = "inconclusive"
        notes.append("The mixture leads, but at a temperature at which the agent does not match its choices to it.")
    nothing = np.stack([np.zeros(len(sums[MIXTURE])), sums[MIXTURE][:, 1]], axis=-1)
    return Evidence(
        detector="D13", name="mixture", claim=CLAIM,
        effect=bootstrap_difference(sums[MIXTURE], nothing, ratio, unit=UNIT, seed=seed),
        controls=effects, beyond_controls=beyond, min_effect=min_effect, power=power, outcome=outcome,
        falsifies=FALSIFIES,
        rows=[{"table": "fits", **row} for row in fit_rows(fits | {MATCHED: matched})]
        + [{"table": "recovery", **row} for row in recovery],
        notes=notes,
    )  # fmt: skip


def _weigh_order(
    outcome: Outcome, sums: Mapping[str, np.ndarray], *, min_effect: float, power: float, seed: int
) -> tuple[Outcome, str]:
    """What is left of an outcome once an order of the agent's own is known, and a note.

    Nothing is supported where an order fitted to other histories explains the choices better. Where it does so by as
    much as counts, with power, matching is refuted.
    """
    lead = bootstrap_difference(sums[ORDERED], sums[MIXTURE], ratio, unit=UNIT, seed=seed)
    note = (
        f"An order of its own, fitted to other histories, explains the choices {lead.value:+.3f} [{lead.low:+.3f}, "
        f"{lead.high:+.3f}] nats a choice better than the mixture."
    )
    if not lead.low > 0:
        return outcome, note
    if lead.value >= min_effect and power >= MIN_POWER:
        return "refuted", f"{note} So choices follow that order, not the belief."
    return "inconclusive" if outcome == "supported" else outcome, f"{note} So they are not said to follow the belief."


def possible_lead(readings: Mapping[str, Tensor], ids: Tensor, *, seed: int = 0) -> Effect:
    """Lead over the best other reading that the mixture's own choices have on the histories, nats a choice."""
    fits = fit_readings(readings, soften(readings[MIXTURE], 1.0, 0.0))
    sums = _sums_over_chance(fits, ids)
    own = sums.pop(MIXTURE)
    return difference_over_best(own, sums, ratio, unit=UNIT, seed=seed)[1]


def _sums_over_chance(fits: Mapping[str, Softening], ids: Tensor) -> dict[str, np.ndarray]:
    """Log likelihood over that of choosing at random, by reading: (sum, number) of each unit, (U, 2)."""
    return {name: _by_unit(fit.per_history - fits[RANDOM].per_history, ids) for name, fit in fits.items()}


def _as_predictable(scores: Tensor, certainty: float) -> float:
    """The temperature at which choices made by the scores have this mean log chance, as nearly as there is one."""
    low, high = math.log(TEMPERATURES[0]), math.log(TEMPERATURES[-1])
    for _ in range(30):
        middle = (low + high) / 2
        chances = soften(scores, math.exp(middle), 0.0)
        softer = float(torch.special.xlogy(chances, chances).sum(1).mean()) > certainty
        low, high = (middle, high) if softer else (low, middle)
    return math.exp(low)


def _softened(scores: Tensor, choices: Tensor, temperature: float, lapse: float, *, num_parameters: int) -> Softening:
    chances = soften(scores, temperature, lapse).clamp(min=1e-300)
    per_history = torch.special.xlogy(choices.double(), chances).sum(1)
    total = float(per_history.sum())
    bic = num_parameters * math.log(max(float(choices.sum()), 1.0)) - 2 * total
    return Softening(temperature, lapse, total, bic, num_parameters, per_history)


def _collapse(scores: Tensor, choices: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Histories with the same scores taken together: their choices add up, and there are far fewer of them."""
    keys = (scores * 1e9).round()  # closer than that is rounding
    distinct, index = keys.unique(dim=0, return_inverse=True)
    counts = torch.zeros(len(distinct), choices.shape[1], dtype=torch.float64).index_add_(0, index, choices)
    return (distinct / 1e9).numpy(), counts.numpy()


def _losses(scores: np.ndarray, counts: np.ndarray, temperatures: np.ndarray, lapses: np.ndarray) -> np.ndarray:
    """Negative log likelihood (temperatures, lapses) of counts (U, A); the softening is that of `soften`."""
    powers = np.exp((scores - scores.max(1, keepdims=True)) / temperatures[:, None, None])
    chances = powers / powers.sum(2, keepdims=True)
    share = lapses[:, None, None]
    softened = (1 - share) * chances[:, None] + share / scores.shape[1]
    return -(counts * np.log(np.maximum(softened, 1e-300))).sum((2, 3))


def _by_unit(values: Tensor, ids: Tensor) -> np.ndarray:
    """(sum, number) of each independent unit, (U, 2)."""
    _, index = ids.unique(return_inverse=True)
    pairs = torch.stack([values.double(), torch.ones(len(values), dtype=torch.float64)], dim=1)
    return torch.zeros(int(index.max()) + 1, 2, dtype=torch.float64).index_add_(0, index, pairs).numpy()
