"""D12, second half: can a net be run on the exact belief in place of its memory, and the exact filter on the memory?

Belief -> memory: memory is guessed from the exact posterior (and the present observation), put into the net, and the
net goes on for k steps on what was really observed. Where memory is nothing but the belief, its policy is then the one
it would have had. Memory -> belief: the posterior is guessed from memory, and the exact filter goes on from the guess.
Both are measured against a start that is guessed from the present observation and the time: 0 is no better, 1 is the
real thing. Controls guess memory from an irrelevant latent beside the observation, or do the same to an untrained net.
Source: Mikulik et al. 2020 (one machine simulates the other).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from planprobe.core.protocols import Policy, State
from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors.belief import (
    LINEAR,
    MLP,
    BeliefTrials,
    Rows,
    as_limits,
    flatten_memory,
    irrelevant_numbers,
    pick_rows,
    pick_steps,
    replay_memory,
)
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.probes.mlp import UPDATES, fit_mlp
from planprobe.instruments.probes.number_probes import fit_number_probes
from planprobe.instruments.statistics.proportions import power_of_interval
from planprobe.instruments.statistics.stats import bootstrap_table, difference_over_best

CLAIM = "The agent's memory is a belief and no more: set to what the exact posterior implies, it goes on as before."
NEEDS = ("a policy whose memory can be set", "trials with the exact posterior before each step", "untrained nets")
CONTROLS = ("untrained *", "irrelevant latent")
FALSIFIES = "that the posterior is what the agent's actions depend on"
UNIT = "share of the divergence that is removed"

TO_MEMORY, TO_BELIEF = "belief to memory", "memory to belief"
AHEAD = (1, 4)  # steps simulated; the first is judged
ROUNDING = 1e-9  # a divergence smaller than that is rounding


def run(
    policy: Policy,
    trials: BeliefTrials,
    *,
    untrained: Sequence[Policy] = (),
    min_effect: float,
    ahead: Sequence[int] = AHEAD,
    most_steps: int = 8,
    num_updates: int = UPDATES,
    seed: int = 0,
) -> Evidence:
    """Simulate the net from the belief and the filter from the memory; options as of `belief.run`.

    Args: ahead: steps simulated, from 1 up; the first is what is judged.
    Returns: effect = share of KL(policy || policy from the observation's memory) that a start from the belief removes,
        by the map with a hidden layer, on test trials; rows: every direction, map, number of steps and source.
    Raises: TooFewLevelsError; ShapeError (memory).
    """
    steps = pick_steps(trials.active, most=most_steps, ahead=max(ahead))
    rows = pick_rows(trials.active, steps, seed=seed)
    latent = irrelevant_numbers(trials.observations, trials.numbers.shape[2], seed=seed)
    observed = what_is_shown(trials, rows)
    sources = {
        "belief": torch.cat([rows.take(trials.numbers), observed], dim=1),
        "irrelevant latent": torch.cat([rows.take(latent), observed], dim=1),
    }  # fmt: skip
    bench = _Bench(trials, rows, steps, tuple(ahead), num_updates, seed)
    found: dict[tuple[str, str, str, int], np.ndarray] = {}
    for name, net in {"belief": policy, **{f"untrained {n}": net for n, net in enumerate(untrained)}}.items():
        chosen = sources if net is policy else {name: sources["belief"]}
        held = replay_memory(net, trials.observations, steps)
        for kind in (LINEAR, MLP):
            for (source, k), pairs in bench.run_net(net, held, chosen, kind).items():
                found[TO_MEMORY, source, kind, k] = pairs
            for k, pairs in bench.run_filter(held, kind).items():
                found[TO_BELIEF, name, kind, k] = pairs
    effects = dict(
        zip(found, bootstrap_table(np.stack([*found.values()]), share_removed, unit=UNIT, seed=seed), strict=True)
    )
    judged = {key[1]: key for key in found if key[0] == TO_MEMORY and key[2] == MLP and key[3] == ahead[0]}
    # a control whose policy does not depend on its start has nothing that could be removed, and is none
    everything = {name: found[key] for name, key in judged.items() if name != "belief"}
    known = {name: part for name, part in everything.items() if not math.isnan(effects[judged[name]].value)}
    controls = known or everything
    rival, beyond = difference_over_best(found[judged["belief"]], controls, share_removed, unit=UNIT, seed=seed)
    power = power_of_interval(beyond, min_effect=min_effect)
    power = 0.0 if math.isnan(power) else power
    outcome = decide(beyond, min_effect=min_effect, power=power)
    notes = [f"Judged {ahead[0]} step ahead. Best control: {rival}."]
    if outcome == "supported" and not untrained:
        outcome = "inconclusive"
        notes.append("The lead is large enough, but nothing is supported without an untrained net beside it.")
    table: list[Row] = [
        {
            "direction": direction, "source": source, "map": kind, "steps_ahead": k, **as_limits(effect),
        }
        for (direction, source, kind, k), effect in effects.items()
    ]  # fmt: skip
    return Evidence(
        detector="D12", name="belief_simulation", claim=CLAIM, effect=effects[judged["belief"]],
        controls={name: effects[judged[name]] for name in controls}, beyond_controls=beyond, min_effect=min_effect,
        power=power, outcome=outcome, falsifies=FALSIFIES, rows=table, notes=notes,
    )  # fmt: skip


def what_is_shown(trials: BeliefTrials, rows: Rows) -> Tensor:
    """The present observation and which step it is, (M, F): all that a start without the belief may know."""
    steps = torch.nn.functional.one_hot(rows.steps.unique(return_inverse=True)[1]).float()
    return torch.cat([rows.take(trials.observations), steps], dim=1)


def share_removed(sums: np.ndarray) -> np.ndarray:
    """1 - error over the error without the belief, from sums (..., 2); nan where there is nothing to remove."""
    error, nothing = sums[..., 0], sums[..., 1]
    return np.where(nothing > ROUNDING, 1 - error / np.maximum(nothing, ROUNDING), np.nan)


class _Bench:
    """What every simulation shares; results are (test trials, 2): error, and error of the observation's start."""

    def __init__(
        self, trials: BeliefTrials, rows: Rows, steps: list[int], ahead: tuple[int, ...], num_updates: int, seed: int
    ) -> None:
        self.trials, self.rows, self.steps, self.ahead = trials, rows, steps, ahead
        self.num_updates, self.seed = num_updates, seed
        self.tests = {step: (rows.split.test & (rows.steps == step)).nonzero().squeeze(1) for step in steps}
        self.observed = what_is_shown(trials, rows)
        self.index = rows.trials[rows.split.test].unique()
        self.num_trials = len(self.index)

    def run_net(
        self, policy: Policy, held: dict[int, State], sources: dict[str, Tensor], kind: str
    ) -> dict[tuple[str, int], np.ndarray]:
        """Divergence of the policy k steps after its memory was replaced by what each source (M, F) says of it."""
        memory = self._on_rows(held)
        guesses = {name: (self._fit(features, memory, kind), features) for name, features in sources.items()}
        without = self._fit(self.observed, memory, kind)
        sums = {(name, k): np.zeros((self.num_trials, 2)) for name in sources for k in self.ahead}
        for step, state in held.items():
            test = self.tests[step]
            own = self.rows.trials[test]
            real = self._policies(policy, _like(flatten_memory(state)[own], state), own, step)
            nothing = self._policies(policy, _like(without(self.observed[test]), state), own, step)
            for name, (guess, features) in guesses.items():
                guessed = self._policies(policy, _like(guess(features[test]), state), own, step)
                for k in self.ahead:
                    errors = torch.stack([_divergence(real[k], said[k]) for said in (guessed, nothing)], dim=1)
                    self._add(sums[name, k], own, errors, step + k)
        return sums

    def run_filter(self, held: dict[int, State], kind: str) -> dict[int, np.ndarray]:
        """Squared error of the posterior k steps after it was replaced by what memory says of it."""
        memory, numbers = self._on_rows(held), self.rows.take(self.trials.numbers)
        guess, without = self._fit(memory, numbers, kind), self._fit(self.observed, numbers, kind)
        spread = numbers[self.rows.split.train].std(0).clamp(min=1e-6)
        sums = {k: np.zeros((self.num_trials, 2)) for k in (0, *self.ahead)}
        for step in self.steps:
            test = self.tests[step]
            own, full = self.rows.trials[test], self.trials.numbers[:, step].double()
            said = (guess(memory[test]), without(self.observed[test]))
            starts = [full.index_copy(0, own, part.double()) for part in said]
            for k in range(max(self.ahead) + 1):
                if k in sums:
                    real = self.trials.numbers[own, step + k].double()
                    errors = torch.stack([(((part[own] - real) / spread) ** 2).sum(1) for part in starts], dim=1)
                    self._add(sums[k], own, errors, step + k)
                starts = [self.trials.update(part, step + k) for part in starts]
        return sums

    def _add(self, sums: np.ndarray, own: Tensor, errors: Tensor, step: int) -> None:
        """Errors (n, 2) of trials `own` to their sums, where the trial goes on to that step."""
        going = self.trials.active[own, step].double()[:, None]
        np.add.at(sums, torch.searchsorted(self.index, own).numpy(), (errors * going).numpy())

    def _fit(self, features: Tensor, targets: Tensor, kind: str):
        options = {"level_ids": self.rows.trials, "split": self.rows.split}
        if kind == LINEAR:
            return fit_number_probes(features, [targets], **options)[0].predict
        return fit_mlp(features, targets, num_updates=self.num_updates, seed=self.seed, **options).predict

    def _on_rows(self, held: dict[int, State]) -> Tensor:
        flat = {step: flatten_memory(state) for step, state in held.items()}
        found = torch.empty(len(self.rows.trials), next(iter(flat.values())).shape[1])
        for step, values in flat.items():
            here = self.rows.steps == step
            found[here] = values[self.rows.trials[here]]
        return found

    def _policies(self, policy: Policy, state: State, own: Tensor, step: int) -> dict[int, Tensor]:
        """Log chances (n, A) k steps after `step`, on what was really observed."""
        said: dict[int, Tensor] = {}
        with torch.no_grad():
            for k in range(1, max(self.ahead) + 1):
                logits, _, state = policy.step(self.trials.observations[own, step + k], state)
                said[k] = logits.double().log_softmax(1)
        return said


def _like(flat: Tensor, state: State) -> State:
    """A memory of the shapes of `state` from (n, D)."""
    sizes = [math.prod(part.shape[1:]) for part in state]
    return tuple(
        part.view(len(flat), *old.shape[1:]).to(old.dtype)
        for part, old in zip(flat.split(sizes, dim=1), state, strict=True)
    )  # fmt: skip


def _divergence(real: Tensor, other: Tensor) -> Tensor:
    """KL(real || other) of log chances (n, A), nats."""
    return (real.exp() * (real - other)).sum(1)
