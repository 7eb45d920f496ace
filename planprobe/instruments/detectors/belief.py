"""D12, belief: does memory hold the exact posterior over the latent variable, as well as what memory is for needs it?

Memory is mapped to the numbers of the exact posterior after the same history, by a linear map and by one with a hidden
layer. The same is done with the last observation, with an untrained net that is shown the same, with the posterior of
another trial, and with an irrelevant latent: a variable that the same observations would tell about, were the world
another one, and that nobody has a use for. Whatever an untrained net carries on of its inputs shows in all of these.
Scores are in bits, half the log of one over the unexplained variance: an untrained net that adds up its inputs can read
.97 of the variance of a count, and what matters is that memory leaves a tenth of the error that this leaves.
A decodable belief is compatible with an agent that samples from it or that maximises; `belief_simulation` asks further.
Source: Mikulik et al. 2020 (agents and exact filters mapped onto each other).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.protocols import Policy, State
from planprobe.core.records import Effect, Evidence, Row
from planprobe.core.rng import draw_bits, draw_normal
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.probes.linear_probes import fit_probe
from planprobe.instruments.probes.mlp import UPDATES, fit_mlp
from planprobe.instruments.probes.number_probes import fit_number_probes
from planprobe.instruments.probes.rows import as_number
from planprobe.instruments.probes.splits import Split, split_by_level
from planprobe.instruments.statistics.metrics import count_moments, pooled_r_squared
from planprobe.instruments.statistics.proportions import power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_table, cluster_bootstrap, difference_over_best, ratio

CLAIM = "The agent's memory holds the posterior over the latent variable, beyond what any memory of its inputs would."
NEEDS = ("a policy with memory", "trials with the exact posterior before each step", "untrained nets like it")
CONTROLS = ("observation", "untrained *", "irrelevant latent", "another trial")
FALSIFIES = "that the agent keeps a belief in its memory, in a form that the maps can read"
UNIT, R2_UNIT = "bits a number of the posterior", "R² of all numbers of the posterior"

LINEAR, MLP = "linear", "one hidden layer"
MAX_MEMORY = 8192  # numbers a board; more is a cache of inputs, whose maps would have more weights than rows
MIN_TRIALS = 25
TRIALS_A_NUMBER = 10  # of memory, in training, before what the maps cannot read counts as not there (rule of ten)
LEAST_ERROR = 1e-4  # of the variance: what is read better than that counts as read exactly
_IRRELEVANT, _PARTNER, _SHARPNESS, _SAME_SUM = 601, 602, 0.7, 1e-4


@dataclass(frozen=True)
class BeliefTrials:
    """N trials of T steps with the exact posterior beside them.

    observations (N, T, C, H, W); active (N, T) bool; numbers (N, T, V): the posterior before the action of each step,
    in numbers that `update` can go on from: (numbers (N, V), step t) -> numbers after the agent's action at t and what
    came of it. psi (N,) int64 classes, and psi_chances (N, T, classes) of them, where psi is a class.
    """

    observations: Tensor
    active: Tensor
    numbers: Tensor
    update: Callable[[Tensor, int], Tensor]
    psi: Tensor | None = None
    psi_chances: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.active.shape)
        if len(shape) != 2 or any(tuple(part.shape[:2]) != shape for part in (self.observations, self.numbers)):
            raise ShapeError(
                f"observations {tuple(self.observations.shape)}, active {shape}, numbers {tuple(self.numbers.shape)}: "
                "need (N, T, ...) of the same trials and steps."
            )
        if shape[0] < MIN_TRIALS:
            raise TooFewLevelsError(f"belief needs {MIN_TRIALS} trials or more, got {shape[0]}.")


@dataclass(frozen=True)
class Rows:
    """Which (trial, step) pairs are looked at: trials, steps (M,); split over trials."""

    trials: Tensor
    steps: Tensor
    split: Split

    def take(self, values: Tensor) -> Tensor:
        """(N, T, ...) -> (M, features) float32."""
        return values[self.trials, self.steps].float().flatten(1)

    @property
    def test_trials(self) -> tuple[Tensor, int]:
        """Place of each test row's trial among the test trials, and how many there are."""
        found, index = self.trials[self.split.test].unique(return_inverse=True)
        return index, len(found)


def replay_memory(policy: Policy, observations: Tensor, steps: Sequence[int]) -> dict[int, tuple[Tensor, ...]]:
    """What a policy holds after each of the `steps`, shown observations (N, T, C, H, W) from a trial's start on."""
    state = policy.initial_state(len(observations), (observations.shape[-2], observations.shape[-1]))
    kept: dict[int, State] = {}
    with torch.no_grad():
        for t in range(max(steps) + 1):
            _, _, state = policy.step(observations[:, t], state)
            if t in steps:
                kept[t] = tuple(part.clone() for part in state)
    return kept


def flatten_memory(state: State) -> Tensor:
    """(N, D) float32. Raises: ShapeError (no memory, or more than `MAX_MEMORY` numbers)."""
    sizes = [math.prod(part.shape[1:]) for part in state]
    if not 0 < sum(sizes) <= MAX_MEMORY:
        raise ShapeError(
            f"a memory of {sum(sizes)} numbers; maps to and from a belief take 1 to {MAX_MEMORY}.\n"
            "  A net without memory has no belief, and a transformer's cache is its inputs: probe one of its sites."
        )
    return torch.cat([part.float().flatten(1) for part in state], dim=1)


def pick_steps(active: Tensor, *, most: int, ahead: int = 0) -> list[int]:
    """Up to `most` steps, evenly spread over those that half of the trials reach with `ahead` more to come."""
    reached = int((active.float().mean(0) >= 0.5).sum())
    last = max(reached - 1 - ahead, 0)
    return sorted({round(place * last / max(most - 1, 1)) for place in range(most)})


def pick_rows(active: Tensor, steps: Sequence[int], *, seed: int) -> Rows:
    """Every active trial at every one of the steps, split by trial."""
    chosen = torch.tensor(steps)
    trials, places = active[:, chosen].nonzero(as_tuple=True)
    return Rows(trials, chosen[places], split_by_level(trials, seed=seed))


def irrelevant_numbers(observations: Tensor, num_numbers: int, *, seed: int = 0) -> Tensor:
    """Posterior over a latent variable of `num_numbers` values that observations (N, T, ...) would tell about if their
    likelihoods were these random numbers, one for each step, content and value: (N, T, num_numbers).

    A filter like any other, as hard to keep as the real one, and good for nothing.
    """
    content = (1024 * observations.flatten(2).float()).round().to(torch.int64)
    keys = (content * draw_bits(seed, _IRRELEVANT, torch.arange(content.shape[2]))).sum(2)
    steps = torch.arange(keys.shape[1])[None, :, None]
    said = draw_normal(seed, _IRRELEVANT, keys[:, :, None], steps, torch.arange(num_numbers))
    return (_SHARPNESS * said).cumsum(1).softmax(2)


def information(moments: np.ndarray) -> np.ndarray:
    """Half of log2(1 / (1 - R²)), (...): what a Gaussian read-out tells of each number; moments (..., V, 6)."""
    return -0.5 * np.log2(np.clip(1 - explained_share(moments), LEAST_ERROR, None))


def explained_share(moments: np.ndarray) -> np.ndarray:
    """R² of all numbers together, (...); moments (..., V, 6) of numbers as `to_one_scale` gives them.

    1 - squared error over squares about the mean of the train rows: both are sums of what each trial adds, so that an
    interval over trials holds what it should. A mean of the R² of 24 chances, each about its mean on the very trials,
    lies outside of its own interval: a resample without the few trials on which one differs divides by next to nothing.
    Source: Campbell and Thompson 2008 (R² out of sample).
    """
    _, _, yy, _, pp, yp = np.moveaxis(np.asarray(moments, dtype=np.float64), -1, 0)
    return ratio(np.stack([(2 * yp - pp).sum(-1), yy.sum(-1)], axis=-1))


def to_one_scale(numbers: Tensor, split: Split) -> Tensor:
    """Numbers (M, V) less their mean over the train rows, in a scale in which they can be added up.

    Chances, which always have the same sum, keep theirs; others, say a mean and a weight, are divided by their standard
    deviation over the train rows, and are 0 where they never differ there.
    """
    sums = numbers.double().sum(1)
    spread, mean = torch.std_mean(numbers[split.train].double(), dim=0, correction=0)
    if not bool((sums - sums[0]).abs().max() <= _SAME_SUM * sums[0].abs()):
        varies = spread > _SAME_SUM * mean.abs()
        numbers, mean = (torch.where(varies, part / spread, 0.0) for part in (numbers, mean))
    return (numbers - mean).to(torch.float32)


def run(
    policy: Policy,
    trials: BeliefTrials,
    *,
    untrained: Sequence[Policy] = (),
    min_effect: float,
    most_steps: int = 12,
    num_updates: int = UPDATES,
    seed: int = 0,
) -> Evidence:
    """Map memory to belief, and everything that should not hold one.

    Args: untrained: nets of the same architecture with other random weights. most_steps: steps of a trial looked at.
        num_updates: of the maps with a hidden layer.
    Returns: effect = bits on trials never seen, by the kind of map that did better on the valid ones; beyond_controls =
    its lead over the best control, each by its own better map. rows: 'maps', both maps of each; 'time', by step;
    'psi', nats that a probe of psi and the exact posterior lack, by step. Refuted only where the maps were fitted on
    `TRIALS_A_NUMBER` trials for each number of memory.
    Raises: TooFewLevelsError; ShapeError (memory).
    """
    steps = pick_steps(trials.active, most=most_steps)
    rows = pick_rows(trials.active, steps, seed=seed)
    numbers = rows.take(trials.numbers)
    memory = memory_rows(policy, trials, rows, steps)
    partner = draw_bits(seed, _PARTNER, torch.arange(len(trials.active))).argsort()
    pairs: dict[str, tuple[Tensor, Tensor]] = {
        "memory": (memory, numbers), "observation": (rows.take(trials.observations), numbers),
        "irrelevant latent": (
            memory, rows.take(irrelevant_numbers(trials.observations, trials.numbers.shape[2], seed=seed))
        ),
        "another trial": (memory, _of_partner(trials.numbers, partner, rows)),
    }  # fmt: skip
    for number, net in enumerate(untrained):
        pairs[f"untrained {number}"] = (memory_rows(net, trials, rows, steps), numbers)
    fits = {
        name: {kind: _fit(kind, *pair, rows, num_updates, seed) for kind in (LINEAR, MLP)}
        for name, pair in pairs.items()
    }  # fmt: skip
    best = {name: max(maps.values(), key=lambda fit: fit.valid_score) for name, maps in fits.items()}
    moments = {name: fit.moments for name, fit in best.items()}
    controls = {name: part for name, part in moments.items() if name != "memory"}
    rival, beyond = difference_over_best(moments["memory"], controls, information, unit=UNIT, seed=seed)
    power = power_of_interval(beyond, min_effect=min_effect)
    power = 0.0 if math.isnan(power) else power
    found = bootstrap_table(np.stack([*moments.values()]), information, unit=UNIT, seed=seed)
    effects = dict(zip(moments, found, strict=True))
    outcome = decide(beyond, min_effect=min_effect, power=power)
    notes = [f"Best map of memory: {best['memory'].kind}. Best control: {rival}, by a {best[rival].kind} map."]
    if outcome == "supported" and not untrained:
        outcome = "inconclusive"
        notes.append("The lead is large enough, but nothing is supported without an untrained net beside it.")
    fitted, size = len(rows.trials[rows.split.train].unique()), memory.shape[1]
    if outcome == "refuted" and fitted < TRIALS_A_NUMBER * size:
        outcome = "inconclusive"
        notes.append(
            f"Maps of {size} numbers were fitted on {fitted} trials: too few to tell that nothing can be read. A "
            f"refutation asks for {TRIALS_A_NUMBER * size}."
        )
    table = [{"table": "maps", **row} for row in _map_rows(fits, seed)]
    table += [{"table": "time", **row} for row in _time_rows(best, rows, seed)]
    table += [{"table": "psi", **row} for row in psi_rows(trials, rows, memory, seed=seed)]
    return Evidence(
        detector="D12", name="belief", claim=CLAIM, effect=effects["memory"],
        controls={name: effects[name] for name in controls}, beyond_controls=beyond, min_effect=min_effect, power=power,
        outcome=outcome, falsifies=FALSIFIES, rows=table, notes=notes,
    )  # fmt: skip


def memory_rows(policy: Policy, trials: BeliefTrials, rows: Rows, steps: Sequence[int]) -> Tensor:
    """Memory of a policy on each row, (M, D)."""
    held = replay_memory(policy, trials.observations, steps)
    flat = {step: flatten_memory(state) for step, state in held.items()}
    found = torch.empty(len(rows.trials), next(iter(flat.values())).shape[1])
    for step, values in flat.items():
        here = rows.steps == step
        found[here] = values[rows.trials[here]]
    return found


def psi_rows(trials: BeliefTrials, rows: Rows, memory: Tensor, *, seed: int) -> list[Row]:
    """Nats by which psi itself is missed on test trials, step by step: by a probe of memory, and by the posterior."""
    if trials.psi is None or trials.psi_chances is None:
        return []
    labels, num_classes = trials.psi[rows.trials], trials.psi_chances.shape[2]
    probe = fit_probe(memory, labels, level_ids=rows.trials, split=rows.split, num_classes=num_classes)
    test = rows.split.test
    own = labels[test][:, None]
    said = probe.logits(memory[test]).double().log_softmax(1).gather(1, own).squeeze(1)
    exact = rows.take(trials.psi_chances)[test].double().clamp(min=1e-12).log().gather(1, own).squeeze(1)
    found: list[Row] = []
    for step in rows.steps.unique().tolist():
        here = rows.steps[test] == step
        for name, values in (("probe of memory", said), ("exact posterior", exact)):
            effect = cluster_bootstrap(-values[here].numpy(), unit="nats", seed=seed)
            found.append({"step": step, "source": name, **as_limits(effect)})
    return found


@dataclass(frozen=True)
class _Fit:
    """One map. predictions, targets (test rows, V); moments (L, V, 6)."""

    kind: str
    valid_score: float
    moments: np.ndarray
    predictions: Tensor
    targets: Tensor


def _fit(kind: str, features: Tensor, targets: Tensor, rows: Rows, num_updates: int, seed: int) -> _Fit:
    targets = to_one_scale(targets, rows.split)
    options = {"level_ids": rows.trials, "split": rows.split}
    if kind == LINEAR:
        found = fit_number_probes(features, [targets], **options)[0]
        predict = found.predict
    else:
        predict = fit_mlp(features, targets, num_updates=num_updates, seed=seed, **options).predict
    valid, test = (predict(features[part]) for part in (rows.split.valid, rows.split.test))
    index, num_levels = rows.test_trials
    moments = count_moments(targets[rows.split.test], test, level_index=index, num_levels=num_levels)
    valid_score = float(explained_share(count_moments(targets[rows.split.valid], valid)[0]))
    return _Fit(kind, valid_score, moments, test, targets[rows.split.test])


def _of_partner(numbers: Tensor, partner: Tensor, rows: Rows) -> Tensor:
    """The numbers of another trial at the same step, a trial of the same part of the split."""
    other = torch.empty_like(rows.trials)
    for part in rows.split:
        own = rows.trials[part].unique()
        order = own[partner[own].argsort()]
        place = torch.searchsorted(own, rows.trials[part])
        other[part] = order.roll(1)[order.argsort()][place]
    return numbers[other, rows.steps].float()


def _map_rows(fits: Mapping[str, Mapping[str, _Fit]], seed: int) -> list[Row]:
    flat = [(name, fit) for name, maps in fits.items() for fit in maps.values()]
    effects = bootstrap_table(np.stack([fit.moments for _, fit in flat]), explained_share, unit=R2_UNIT, seed=seed)
    return [
        {"source": name, "map": fit.kind, **as_limits(effect), "bits": float(information(fit.moments.sum(0)))}
        for (name, fit), effect in zip(flat, effects, strict=True)
    ]  # fmt: skip


def _time_rows(best: Mapping[str, _Fit], rows: Rows, seed: int) -> list[Row]:
    """R² among the trials at each step; a step at which the posterior is the same in all of them has none."""
    index, num_levels = rows.test_trials
    found: list[Row] = []
    for step in rows.steps.unique().tolist():
        here = rows.steps[rows.split.test] == step
        for name, fit in best.items():
            counts = count_moments(
                fit.targets[here], fit.predictions[here], level_index=index[here], num_levels=num_levels
            )
            effect = cluster_bootstrap(counts, pooled_r_squared, unit=R2_UNIT, seed=seed)
            if not math.isnan(effect.value):
                found.append({"step": step, "source": name, "map": fit.kind, **as_limits(effect)})
    return found


def as_limits(effect: Effect) -> Row:
    """The value and interval of an effect as columns of a row; None in the place of nan, which JSON does not know."""
    return {
        "value": as_number(effect.value), "low": as_number(effect.low), "high": as_number(effect.high), "n": effect.n
    }  # fmt: skip
