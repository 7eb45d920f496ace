"""D8 within trials: give the agent the memory of another trial. Does it work out the right course for what that knew?

Both trials have run one episode, from the same start, in other mazes and with other values of the latent variable. At
the second step of its second episode, once it has been told how the first one ended, the receiver goes on with the
donor's memory. What the donor knew of psi holds for it now; what the donor did, and the world it did it in, does not.
It stands still for a few steps, since who computes takes time to find its way in a world that its memory does not know,
and each step gives it some: moves into a wall beside it are made for it. Then it goes on by itself. Judged is whether
it takes a best course for the donor's psi in its own world, which neither of them has ever taken. Who replays goes the
donor's way through another maze. Who goes for the goal that the donor found by a rule of thumb, straight and on, comes
upon a best course by luck; trials in which it could are left out by the score, or a mere record of the donor's goal
would pass for a course that was worked out.

All of memory is exchanged. So this says that psi is in it and that a course is derived from it, not where in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.play_trials import FREE, TrialEnvironment, TrialRollout, play_trials
from planprobe.core.protocols import Policy, State
from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.proportions import paired_proportion_power
from planprobe.instruments.statistics.stats import bootstrap_difference, cluster_bootstrap, difference_over_best

CLAIM = "With another trial's memory the agent takes a best course for that trial's psi, in a world of its own."
NEEDS = ("a policy with memory", "trials of two episodes or more", "donors from the same start, in another world")
DONOR, WRONG, SAME, REPEATED = "donor", "wrong donor", "same psi", "donor's moves repeated"
CONTROLS = (WRONG, SAME, REPEATED)
FALSIFIES = "that the agent derives its course from what its memory holds of psi"
UNIT = "fraction of trials with a best course for the donor's psi"

MIN_TRIALS = 10  # that have a donor of every kind
WAIT = 8  # steps that it stands still with the memory given: at two ticks a step a wave goes 16 squares far
MakeTrials = Callable[[int], TrialEnvironment]


class Donors(Protocol):
    """Trials whose memory each trial is given, (N,) int64, -1 = there is none.

    donor: other psi, other world; wrong: a third psi; same: the own psi in another world.
    """

    @property
    def donor(self) -> Tensor: ...

    @property
    def wrong(self) -> Tensor: ...

    @property
    def same(self) -> Tensor: ...


FindDonors = Callable[[TrialRollout], Donors]
Score = Callable[[TrialRollout, TrialRollout, Tensor], np.ndarray]
"""(the trials as played with a memory that was given, as played without, donors (N,)) -> (N,) 0 or 1: from the second
step of the second episode on, once it has stood still for `WAIT` steps, it took a best course for the psi of trial
donors[i]; nan: there is none, or a rule of thumb that knows this psi could have found it."""
StandStill = Callable[[TrialRollout], Tensor]
"""Trials as played -> the action (N,) that changes nothing before the second step of the second episode, -1 = none."""


def run(
    policy: Policy,
    make_trials: MakeTrials,
    find_donors: FindDonors,
    score: Score,
    stand_still: StandStill,
    *,
    num_trials: int = 1000,
    min_effect: float,
    greedy: bool = False,
    seed: int = 0,
) -> Evidence:
    """Play the trials, then again with memories exchanged; options of `play_trials`.

    Args: stand_still: trials without such an action do not count. min_effect: smallest share beyond controls that
        counts, fixed beforehand.
    Returns: effect = share of best courses for the donor's psi; controls = the same with the memory of a trial with a
        third psi, of one with the own psi, and for the donor's own moves carried out in the receiver's world.
    Raises: TooFewLevelsError (too few trials with donors); ShapeError (a policy without memory).
    """
    if not policy.initial_state(1, (make_trials(1).height, make_trials(1).width)):
        raise ShapeError("the policy has no memory that could be given to another trial.")

    def play(player: Policy = policy, **options) -> TrialRollout:
        return play_trials(player, make_trials(num_trials), greedy=greedy, seed=seed, **options)

    plain = play()
    donors, second = find_donors(plain), first_step_of_second_episode(plain)
    still = stand_still(plain)
    counted = (donors.donor >= 0) & (donors.wrong >= 0) & (donors.same >= 0) & (second >= 0) & (still >= 0)
    waits = wait_after(plain, second, still)
    counted &= torch.from_numpy(~np.isnan(score(plain, plain, donors.donor)))
    if int(counted.sum()) < MIN_TRIALS:
        raise TooFewLevelsError(
            f"psi patching needs {MIN_TRIALS} trials with donors or more: {int(counted.sum())} of {num_trials} have "
            "them.\n  Play more trials."
        )
    keeper = _Keeper(policy, second)
    play(keeper)
    walks = {
        name: play(
            TransplantedMemory(policy, second + 1, tuple(part[ids.clamp(min=0)] for part in keeper.kept)), forced=waits
        )
        for name, ids in ((DONOR, donors.donor), (WRONG, donors.wrong), (SAME, donors.same))
    }
    walks[REPEATED] = play(forced=repeat_moves(plain, donors.donor.clamp(min=0), second, waits))
    scores = {name: score(walk, plain, donors.donor)[counted.numpy()] for name, walk in walks.items()}
    return judge(scores, min_effect=min_effect, seed=seed)


def judge(scores: Mapping[str, np.ndarray], *, min_effect: float, seed: int = 0) -> Evidence:
    """Evidence from scores (N,) by whose memory was given."""
    own, controls = scores[DONOR], {name: scores[name] for name in CONTROLS}
    nothing = np.zeros_like(own)
    best, beyond = difference_over_best(own, controls, unit=UNIT, seed=seed)
    differs = float((own != controls[best]).mean())
    power = paired_proportion_power(len(own), effect=min_effect, discordant_rate=differs)
    return Evidence(
        detector="D8", name="psi_patching", claim=CLAIM,
        effect=bootstrap_difference(own, nothing, unit=UNIT, seed=seed),
        controls={name: bootstrap_difference(part, nothing, unit=UNIT, seed=seed) for name, part in controls.items()},
        beyond_controls=beyond, min_effect=min_effect, power=power,
        outcome=decide(beyond, min_effect=min_effect, power=power), falsifies=FALSIFIES,
        rows=[_row(name, values, seed) for name, values in scores.items()],
        notes=[
            f"Memory is given whole, at the second step of the second episode; it then stands still for {WAIT} steps.",
            f"Best control: {best}.",
        ],
    )  # fmt: skip


def first_step_of_second_episode(rollout: TrialRollout) -> Tensor:
    """(N,) int64; -1 where the trial has none, or nothing after it."""
    second = (rollout.episodes == 1) & rollout.active
    step = second.to(torch.uint8).argmax(1)
    return torch.where(second.sum(1) > 1, step, -1)


def wait_after(plain: TrialRollout, second: Tensor, still: Tensor) -> Tensor:
    """Actions (N, T): `still` (N,) for `WAIT` steps after step `second` (N,) of each trial, FREE at others."""
    after = torch.arange(plain.actions.shape[1]) - second[:, None]
    return torch.where((after > 0) & (after <= WAIT) & (second >= 0)[:, None], still[:, None], FREE)


def repeat_moves(plain: TrialRollout, donors: Tensor, second: Tensor, waits: Tensor) -> Tensor:
    """Actions (N, T): each trial's own until its second episode has begun, then `waits` (N, T), then those of its
    donor's second episode from the second one on."""
    num_steps = plain.actions.shape[1]
    steps = torch.arange(num_steps)
    shifted = (steps - WAIT - second[:, None] + second[donors][:, None]).clamp(0, num_steps - 1)
    theirs = torch.where(waits == FREE, plain.actions[donors].gather(1, shifted), waits)
    return torch.where(steps > second[:, None], theirs, plain.actions)


class TransplantedMemory:
    """A policy whose boards go on with other memories from a step on.

    Args: at (N,) int64: before which step of the trial, under 1 = never; memory: (N, ...) tensors.
    """

    def __init__(self, policy: Policy, at: Tensor, memory: State) -> None:
        self.policy, self.at, self.memory, self.elapsed = policy, at, memory, 0

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        self.elapsed = 0
        return self.policy.initial_state(num_boards, board)

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        now = (self.at == self.elapsed) & (self.at > 0)
        self.elapsed += 1
        return self.policy.step(observation, _mix(now, self.memory, state))


class _Keeper(TransplantedMemory):
    """Keeps what each board's memory is after a step of its own, (N,); the policy is as it was."""

    def __init__(self, policy: Policy, after: Tensor) -> None:
        super().__init__(policy, after, ())
        self.kept: State = ()

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        logits, value, state = self.policy.step(observation, state)
        self.kept = _mix(self.at == self.elapsed, state, self.kept or state)
        self.elapsed += 1
        return logits, value, state


def _mix(mask: Tensor, new: State, old: State) -> State:
    return tuple(torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new, old, strict=True))


def _row(name: str, values: np.ndarray, seed: int) -> Row:
    mean = cluster_bootstrap(values, seed=seed)
    return {"memory": name, "value": mean.value, "low": mean.low, "high": mean.high, "n": mean.n}
