"""D14, commitment: does the agent draw one value of the latent variable and hold it, or is it of no mind at all?

Every value of psi implies actions. One who samples once an episode acts for one and the same value until it is ruled
out; one who samples on every step changes its mind; a mixture goes between. The likelihoods of the actions under both
ways of sampling are exact: the held value is filtered out of what was done. Who goes through the values in an order of
its own holds one at a time too, and draws none: an order is fitted to half of the trials and tried on the others, and
where it explains the choices better than draws from the belief do, nothing is said to be drawn.

Two further questions go to agents that could: does an explicit noise input choose the value (its deterministic twin,
whose noise stands still, shows none of it), and does the value that memory holds change from tick to tick in a step?
Source: Osband et al. 2013 (one sample an episode), Thompson 1933 (one a step).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.protocols import Policy, State
from planprobe.core.records import Effect, Evidence, Row
from planprobe.instruments.detectors.outcome import MIN_POWER, decide
from planprobe.instruments.hooks import OpenedPolicy, capture
from planprobe.instruments.probes.linear_probes import fit_probe
from planprobe.instruments.probes.splits import split_by_level
from planprobe.instruments.statistics.proportions import power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, difference_over_best, ratio

CLAIM = "The agent draws one value of the latent variable from its belief and acts for it until it is ruled out."
NEEDS = ("actions with the chance of each under every value of psi", "the exact belief", "a player that never commits")
CONTROLS = ("a player that samples on every step", "a sweep", "deterministic twin (of noise)")
FALSIFIES = "that the agent holds one sample of the latent variable for an episode"
UNIT = "nats a step, one sample an episode over one a step"

HELD, ANEW = "one sample an episode", "one sample a step"
ORDERED = "one value at a time, in an order of its own"
MIN_TRIALS, ALIVE, SURE = 10, 1e-6, 0.9
ORDER_ROUNDS, RAREST = 12, 1e-4  # of fitting an order; the least weight of a value, of the greatest
LAPSES = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True)
class HypothesisTrials:
    """N trials of T steps, looked at under each of G values of psi.

    chances (N, T, G) float64: of the action that was taken, if the agent acts for that value. belief (N, T, G) float64:
    exact, before each step. episodes (N, T) int64; active (N, T) bool; num_actions A.
    """

    chances: Tensor
    belief: Tensor
    episodes: Tensor
    active: Tensor
    num_actions: int

    def __post_init__(self) -> None:
        if self.chances.shape != self.belief.shape or self.chances.shape[:2] != self.active.shape:
            raise ShapeError(
                f"chances {tuple(self.chances.shape)}, belief {tuple(self.belief.shape)}, active "
                f"{tuple(self.active.shape)}: need (N, T, G) twice and (N, T)."
            )
        if len(self.active) < MIN_TRIALS:
            raise TooFewLevelsError(f"commitment needs {MIN_TRIALS} trials or more, got {len(self.active)}.")

    def softened(self, lapse: float) -> Tensor:
        return (1 - lapse) * self.chances + lapse / self.num_actions

    def take(self, trials: Tensor) -> HypothesisTrials:
        """Some trials, (N,) bool."""
        parts = (self.chances[trials], self.belief[trials], self.episodes[trials], self.active[trials])
        return HypothesisTrials(*parts, self.num_actions)

    def weighted(self, weights: Tensor) -> HypothesisTrials:
        """The same with a belief that is weighted by value, (G,); what is ruled out stays ruled out."""
        belief = self.belief * weights
        return replace(self, belief=belief / belief.sum(2, keepdim=True).clamp(min=ALIVE))

    def begins(self, t: int) -> Tensor:
        """Whether an episode begins with step t, (N, 1) bool."""
        first = torch.ones_like(self.active[:, :1])
        return first if t == 0 else (self.episodes[:, t] != self.episodes[:, t - 1])[:, None]


def likelihood_anew(trials: HypothesisTrials, lapse: float) -> Tensor:
    """Log chance (N, T) of each action of one who samples from the belief on every step."""
    return _log_chances(trials, (trials.belief * trials.chances).sum(2), lapse)


def likelihood_held(trials: HypothesisTrials, lapse: float) -> Tensor:
    """Log chance (N, T) of each action, given those before, of one who samples when an episode begins and whenever its
    sample is ruled out."""
    return _filter(trials, lapse)[0]


def held_values(trials: HypothesisTrials, lapse: float) -> Tensor:
    """Chance that the value held at each step is g, given everything that was done, (N, T, G): forward and back."""
    chances = trials.softened(lapse)
    prior = _filter(trials, lapse)[1]
    back = torch.ones_like(prior[:, 0])
    found = torch.empty_like(prior)
    for t in reversed(range(prior.shape[1])):
        ahead = chances[:, t] * torch.where(trials.active[:, t, None], back, 1.0)
        joint = prior[:, t] * ahead
        found[:, t] = joint / joint.sum(1, keepdim=True)
        if t:
            alive = trials.belief[:, t] > ALIVE
            ahead = ahead / ahead.amax(1, keepdim=True)
            anew = (trials.belief[:, t] * ahead).sum(1, keepdim=True)
            back = torch.where(alive & ~trials.begins(t), ahead, anew)
    return found


def commitment(trials: HypothesisTrials) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Log likelihood of who holds a sample, and of who draws anew: (sum, steps) of each trial (N, 2), with the lapse
    that fits each best."""
    sums, lapses = {}, {}
    for name, measure in ((HELD, likelihood_held), (ANEW, likelihood_anew)):
        sums[name], lapses[name] = _fit_lapse(trials, lambda lapse, measure=measure: measure(trials, lapse))
    return sums, lapses


def sums_in_order(trials: HypothesisTrials, lapse: float) -> np.ndarray:
    """Log likelihood of who holds one value at a time, taken from its belief weighted by an order of its own.

    Each half of the trials is looked at with the order fitted to the other one: (sum, steps) of each trial (N, 2).
    """
    sums = torch.zeros(len(trials.active), dtype=torch.float64)
    halves = torch.arange(len(trials.active)) % 2
    for half in (0, 1):
        weights = fit_order(trials.take(halves != half), lapse)
        own = trials.take(halves == half)
        sums[halves == half] = likelihood_held(own.weighted(weights), lapse).sum(1)
    return torch.stack([sums, trials.active.sum(1).double()], dim=1).numpy()


def fit_order(trials: HypothesisTrials, lapse: float) -> Tensor:
    """Weights (G,) of the values: how much more often each is drawn than it is believed in, found by going over the
    trials several times; all alike for who draws from its belief."""
    weights = torch.ones(trials.belief.shape[2], dtype=torch.float64)
    begins = torch.stack([trials.begins(t).expand(len(trials.active), 1) for t in range(trials.belief.shape[1])], dim=1)
    for _ in range(ORDER_ROUNDS):
        tilted = trials.weighted(weights)
        held = held_values(tilted, lapse)
        before = held.roll(1, dims=1).masked_fill(begins, 0.0)  # nothing is kept from the episode before
        drawn = (held - before).clamp(min=0) * trials.active[..., None]
        expected = drawn.sum(2, keepdim=True) * tilted.belief
        weights = weights * (drawn.sum((0, 1)) + 1) / (expected.sum((0, 1)) + 1)
        weights = (weights / weights.max()).clamp(min=RAREST)
    return weights


def run(
    trials: HypothesisTrials,
    *,
    controls: Mapping[str, HypothesisTrials],
    rivals: Mapping[str, Tensor] | None = None,
    min_effect: float,
    further: Sequence[Row] = (),
    seed: int = 0,
) -> Evidence:
    """Judge whether a sample is held.

    Args: controls: the same of players that never commit, on as many trials of the same draws. rivals: other readings
        of the agent's own actions, the chance (N, T) that each gives to the action that was taken: who sweeps through
        the values holds one too, and draws none. further: rows of `noise_rows` and `tick_rows`, shown and not judged.
    Returns: effect = log likelihood of holding less that of sampling anew, a step, clustered by trial; beyond_controls:
    the least of the leads over sampling anew, over every rival, and over what the controls show.
    Raises: TooFewLevelsError; ShapeError (a control or rival of other trials).
    """
    sums, lapses = commitment(trials)
    leads = {name: _lead(commitment(each)[0]) for name, each in controls.items()}
    beaten = {ANEW: sums[ANEW]} | {name: sums[ANEW] + lead * [1, 0] for name, lead in leads.items()}
    for name, chances in (rivals or {}).items():
        beaten[name], lapses[name] = _fit_lapse(trials, lambda lapse, q=chances: _log_chances(trials, q, lapse))
    best, beyond = difference_over_best(sums[HELD], beaten, ratio, unit=UNIT, seed=seed)
    effect = bootstrap_difference(sums[HELD], sums[ANEW], ratio, unit=UNIT, seed=seed)
    power = power_of_interval(beyond, min_effect=min_effect)
    power = 0.0 if math.isnan(power) else power
    outcome = decide(beyond, min_effect=min_effect, power=power)
    order = bootstrap_difference(sums_in_order(trials, lapses[HELD]), sums[HELD], ratio, unit=UNIT, seed=seed)
    fitted = ", ".join(f"{lapse:g} for {name}" for name, lapse in lapses.items())
    notes = [
        f"Lapses that fit best: {fitted}. The least lead is that over: {best}. An order fitted to other trials "
        f"explains the choices {order.value:+.3f} [{order.low:+.3f}, {order.high:+.3f}] nats a step better than draws."
    ]
    if outcome == "supported" and order.low > 0:
        outcome = "refuted" if power >= MIN_POWER else "inconclusive"
        notes.append("It holds one value at a time, and takes them in an order of its own: nothing is drawn.")
    return Evidence(
        detector="D14", name="commitment", claim=CLAIM, effect=effect,
        controls={name: cluster_bootstrap(part, ratio, unit=UNIT, seed=seed) for name, part in leads.items()},
        beyond_controls=beyond, min_effect=min_effect, power=power,
        outcome=outcome, falsifies=FALSIFIES, rows=list(further), notes=notes,
    )  # fmt: skip


def noise_rows(
    policy: Policy, observations: Tensor, active: Tensor, noises: Sequence[State], *, seed: int = 0
) -> list[Row]:
    """What an explicit noise input decides: nats that it tells of the action, on the same observations.

    Args: observations (N, T, C, H, W), active (N, T); noises: memories to begin with that differ in the noise alone.
    Returns: a row for the agent, and one for its deterministic twin, whose noise is the first throughout.
    """
    policies = torch.stack([_replay_policy(policy, observations, noise) for noise in noises])  # (R, N, T, A)
    twin = torch.stack([policies[0], _replay_policy(policy, observations, noises[0])])
    rows: list[Row] = []
    for name, part in (("noise varied", policies), ("deterministic twin", twin)):
        mean = part.mean(0)
        told = _entropy(mean) - _entropy(part).mean(0)
        pairs = torch.stack([(told * active).sum(1), active.sum(1).double()], dim=1).numpy()
        effect = cluster_bootstrap(pairs, ratio, unit="nats a step", seed=seed)
        rows.append({"table": "noise", "source": name, **_limits(effect)})
    return rows


def tick_rows(
    opened: OpenedPolicy, observations: Tensor, trials: HypothesisTrials, *, lapse: float, seed: int = 0
) -> list[Row]:
    """Whether the value that memory holds alternates over ticks, as a probe of the last tick reads it on each tick.

    The probe is fitted to the value that the actions show to be held, where they leave little doubt. Beside the changes
    from tick to tick within a step stand those from a step to the next of an episode. Nets of one tick have no rows.
    """
    sites = [site for site in opened.hook_dict if site.startswith("ticks.") and site.endswith(".0.hook_h")]
    if len(sites) < 2:
        return []
    state = opened.initial_state(len(observations), (observations.shape[-2], observations.shape[-1]))
    with torch.no_grad(), capture(opened, sites) as cache:
        for t in range(observations.shape[1]):
            _, _, state = opened.step(observations[:, t], state)
    held = held_values(trials, lapse)
    certain, labels = held.max(2)
    labels = torch.where(trials.active & (certain > SURE), labels, -1)
    ticks = torch.stack([cache[site].flatten(2) for site in sites], dim=2)  # (N, T, K, D)
    trial_ids = torch.arange(len(labels))[:, None].expand_as(labels).flatten()
    split = split_by_level(trial_ids, seed=seed)
    probe = fit_probe(
        ticks[:, :, -1].flatten(0, 1), labels.flatten(), level_ids=trial_ids, split=split, num_classes=held.shape[2],
        l2_strengths=(1e-2,), tolerance=1e-4,
    )  # fmt: skip
    test = split.test.view_as(labels)[:, 0]
    read = probe.logits(ticks[test].flatten(0, 2)).argmax(1).view(int(test.sum()), labels.shape[1], -1)
    active, known = trials.active[test], labels[test] >= 0
    same_episode = active[:, 1:] & (trials.episodes[test, 1:] == trials.episodes[test, :-1])
    parts = [
        ("changes from tick to tick", (read[:, :, 1:] != read[:, :, :-1]).double().mean(2), active),
        ("changes from step to step", (read[:, 1:, -1] != read[:, :-1, -1]).double(), same_episode),
        ("read rightly at the last tick", (read[:, :, -1] == labels[test]).double(), known),
    ]
    rows: list[Row] = []
    for name, values, where in parts:
        pairs = torch.stack([(values * where).sum(1), where.sum(1).double()], dim=1).numpy()
        rows.append({"table": "ticks", "source": name, **_limits(cluster_bootstrap(pairs, ratio, seed=seed))})
    return rows


def _filter(trials: HypothesisTrials, lapse: float) -> tuple[Tensor, Tensor]:
    """Log chances (N, T), and the chance of each held value before each action (N, T, G), given the actions before."""
    chances, held = trials.softened(lapse), trials.belief[:, 0]
    logs, priors = [], []
    for t in range(chances.shape[1]):
        belief = trials.belief[:, t]
        held = held * (belief > ALIVE)
        held = held + (1 - held.sum(1, keepdim=True)).clamp(min=0) * belief  # what was ruled out is drawn anew
        held = torch.where(trials.begins(t), belief, held)
        joint = held * chances[:, t]
        total = joint.sum(1, keepdim=True)
        priors.append(held)
        logs.append(total.squeeze(1).log())
        held = torch.where(trials.active[:, t, None], joint / total, held)
    return torch.stack(logs, dim=1) * trials.active, torch.stack(priors, dim=1)


def _fit_lapse(trials: HypothesisTrials, measure: Callable[[float], Tensor]) -> tuple[np.ndarray, float]:
    """(sum, steps) of each trial at the lapse of greatest likelihood, and that lapse."""
    courses = {lapse: measure(lapse).sum(1) for lapse in LAPSES}
    best = max(courses, key=lambda lapse: float(courses[lapse].sum()))
    return torch.stack([courses[best], trials.active.sum(1).double()], dim=1).numpy(), best


def _log_chances(trials: HypothesisTrials, chances: Tensor, lapse: float) -> Tensor:
    return ((1 - lapse) * chances.double() + lapse / trials.num_actions).log() * trials.active


def _lead(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """(lead of holding, steps) of each trial."""
    return np.stack([sums[HELD][:, 0] - sums[ANEW][:, 0], sums[HELD][:, 1]], axis=1)


def _replay_policy(policy: Policy, observations: Tensor, state: State) -> Tensor:
    """Chances (N, T, A) float64 of a policy that is shown these observations."""
    said = []
    with torch.no_grad():
        for t in range(observations.shape[1]):
            logits, _, state = policy.step(observations[:, t], state)
            said.append(logits.double().softmax(1))
    return torch.stack(said, dim=1)


def _entropy(chances: Tensor) -> Tensor:
    return -torch.special.xlogy(chances, chances).sum(-1)


def _limits(effect: Effect) -> Row:
    return {"value": effect.value, "low": effect.low, "high": effect.high, "n": effect.n}
