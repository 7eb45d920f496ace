"""What makes a course that was never taken the best one, task by task: the stimuli of D10 within trials.

- *never-walked shortcut*: the agent's own first way, less its detours, is longer than the shortest one.
- *wall opened*, *wall closed*: before the second episode a wall beside the agent's first way opens on to a shorter one,
  or a passage of that way closes; nothing else tells.
- *transition swap*: the choices of the two-step task trade places in plain sight, in a combination with the state that
  pays that training never showed. To get it right can only be worked out; to get it wrong is what a planner with an
  exact belief does too, as training rules that combination out.

In mazes two kinds of player remember and work nothing out: one repeats its first way without the loops, the others know
the goal and walk straight for it, as a reflex does (`references.straight_walks`). On small mazes that is often the best
way, and to take it no sign of planning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from planprobe.core.play_trials import TrialRollout
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.toggled_maze import ToggledMazeTask
from planprobe.subjects.envs.trial_catalog import TEST_SEED, TrialTask, held_out
from planprobe.subjects.envs.two_step import HELD_OUT, TwoStepTask
from planprobe.subjects.references.loop_erasure import erase_loops, route_lengths
from planprobe.subjects.references.straight_walks import straight_moves
from planprobe.subjects.references.two_step_players import make_two_step_player, play_rounds
from planprobe.subjects.trial_measures import first_walks

SHORTCUT, OPENED, CLOSED = "never-walked shortcut", "wall opened", "wall closed"
SWAP = "transition swap, held-out combination"
REPLAY, STRAIGHT = "loop-erased replay", "straight for the goal"
SETTLED = 3  # rounds for which the good state must have stood before a swap, to be known


@dataclass(frozen=True)
class TrialChange:
    """One change. task: what is played, held out. score, cached: see `instruments.detectors.trial_revaluation`.

    in_sight: the agent could have seen it before it has to choose, so that a verdict may rest on it.
    refutes: to miss the better course tells against planning.
    """

    name: str
    task: TrialTask
    score: Callable[[TrialRollout], np.ndarray]
    cached: Callable[[TrialRollout], dict[str, np.ndarray]]
    in_sight: bool = True
    refutes: bool = True


def trial_changes(task: Any) -> list[TrialChange]:
    """The changes that a task allows; none for most tasks.

    On an open grid the straight way is a reflex, among arms there is nothing to pass through: so hidden goals, bandits
    and the like have none.
    """
    if isinstance(task, MazeTrialTask) and task.num_episodes > 1 and task.start == "fixed":
        task = replace(held_out(task), num_episodes=2)  # pyright: ignore[reportArgumentType]
        changes = [TrialChange(SHORTCUT, task, score_shortcut, _cached_scores(score_shortcut, _straight_shortcut))]
        for name, kind in ((OPENED, "open"), (CLOSED, "close")):
            toggled = ToggledMazeTask.of(task, kind)
            in_sight = kind == "open" or task.view == "full"  # who sees little finds out when it stands before it
            cached = _cached_scores(score_toggled, _straight_toggled)
            changes.append(TrialChange(name, toggled, score_toggled, cached, in_sight))
        return changes
    if isinstance(task, TwoStepTask) and task.show_map and task.swap > 0:
        swapped = replace(task, hold_out=False)
        occasions = _Occasions(swapped)
        # in training a swapped map meant that the other state pays: an exact filter of that believes so still, and then
        # plans for a state that pays nothing
        return [TrialChange(SWAP, swapped, occasions.score, occasions.cached, refutes=False)]
    return []


def score_shortcut(rollout: TrialRollout) -> np.ndarray:
    """Whether the second way is shorter than the first one without its loops; nan where that one is the shortest."""
    first, second = rollout.success[:, 0], rollout.success[:, 1]
    erased, shortest = _erased_lengths(rollout), _shortest(rollout, rollout.latents["walls"])
    taken = second & (rollout.episode_lengths[:, 1] < erased)
    return _scores(taken, first & (erased > shortest))


def score_toggled(rollout: TrialRollout) -> np.ndarray:
    """Whether the second way is a shortest one in the maze as it then is; nan where no wall was toggled.

    Where a wall was opened the replayed first way is longer than that, where one was closed it is blocked.
    """
    shortest = rollout.extras["new_shortest"].amax(1)
    taken = rollout.success[:, 1] & (rollout.episode_lengths[:, 1] == shortest)
    return _scores(taken, rollout.success[:, 0] & (shortest > 0))


def _cached_scores(
    score: Callable[[TrialRollout], np.ndarray], straight: Callable[[TrialRollout], Tensor]
) -> Callable[[TrialRollout], dict[str, np.ndarray]]:
    """Who repeats its way never takes the better one: that there is a shorter one is what makes a trial count."""

    def cached(rollout: TrialRollout) -> dict[str, np.ndarray]:
        counts = torch.from_numpy(~np.isnan(score(rollout)))
        return {REPLAY: _scores(torch.zeros_like(counts), counts), STRAIGHT: _scores(straight(rollout), counts)}

    return cached


def _straight_shortcut(rollout: TrialRollout) -> Tensor:
    """Whether a straight walk to the goal is shorter than each first way without its loops, (N,) bool."""
    erased = _erased_lengths(rollout)
    moves = _straight_moves(rollout, rollout.latents["walls"], erased)
    return ((moves > 0) & (moves < erased)).any(0)


def _straight_toggled(rollout: TrialRollout) -> Tensor:
    """Whether a straight walk to the goal is a shortest way in each maze as it then is, (N,) bool."""
    shortest = rollout.extras["new_shortest"].amax(1)
    return (_straight_moves(rollout, _walls_after(rollout), shortest) == shortest).any(0)


def _walls_after(rollout: TrialRollout) -> Tensor:
    """The walls once one has been toggled, (N, H, W) bool."""
    walls, square = rollout.latents["walls"].flatten(1), rollout.extras["toggled"].amax(1)
    at = square.clamp(min=0)[:, None]
    return walls.scatter(1, at, walls.gather(1, at) ^ (square >= 0)[:, None]).view_as(rollout.latents["walls"])


def _straight_moves(rollout: TrialRollout, walls: Tensor, lengths: Tensor) -> Tensor:
    """Moves of who walks straight for each goal, (2, N); looked at for as long as the longest of `lengths` (N,)."""
    starts = rollout.extras["square_before"][:, 0]
    return straight_moves(walls, starts, rollout.latents["goal"], int(lengths.max()))


def _scores(taken: Tensor, possible: Tensor) -> np.ndarray:
    return np.where(possible.cpu().numpy(), taken.cpu().double().numpy(), np.nan)


def _erased_lengths(rollout: TrialRollout) -> Tensor:
    """Moves of each first way without its loops, (N,)."""
    return route_lengths(erase_loops(first_walks(rollout)))


def _shortest(rollout: TrialRollout, walls: Tensor) -> Tensor:
    """Moves of the shortest way from the start of the trial to its goal, (N,) int64."""
    starts = rollout.extras["square_before"][:, 0]
    away = distance_maps(walls, rollout.latents["goal"]).flatten(1)
    return away.gather(1, starts[:, None]).squeeze(1).to(torch.int64)


class _Occasions:
    """First choices after the transitions swapped into the combination that training held out.

    psi moves by draws that no action has a part in, so it is read off a run of the same seed. An occasion counts where
    the state that pays has been the same for SETTLED rounds.
    """

    def __init__(self, task: TwoStepTask, *, seed: int = TEST_SEED) -> None:
        self.task, self.seed = task, seed
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def score(self, rollout: TrialRollout) -> np.ndarray:
        """Share of a trial's occasions on which the choice is the best one, (N,)."""
        return self._score_choices(rollout.actions[:, ::2])

    def cached(self, rollout: TrialRollout) -> dict[str, np.ndarray]:
        """Players that know what paid, and no map."""
        scores = {}
        for name, player in (("model-free", "model_free"), ("one-back table", "one_back_table")):
            choices = play_rounds(make_two_step_player(player), self.task, len(rollout.actions), self.seed)[0]
            scores[name] = self._score_choices(choices)
        return scores

    def _score_choices(self, choices: Tensor) -> np.ndarray:
        good, swapped = self._psi(len(choices))
        occasion = swap_occasions(good, swapped)
        right = occasion & (choices == (good ^ swapped))
        counts = occasion.sum(1).double()
        return torch.where(counts > 0, right.sum(1) / counts, torch.nan).numpy()

    def _psi(self, num_trials: int) -> tuple[Tensor, Tensor]:
        """good_state and swapped in every round, (N, R) each."""
        if num_trials in self._known:
            return self._known[num_trials]
        env = self.task.make_env(num_trials, seed=self.seed, autoreset=False)
        env.reset()
        nothing, rounds = torch.zeros(num_trials, dtype=torch.int64), []
        for _ in range(self.task.num_rounds):
            latents = env.latents()
            rounds.append((latents["good_state"], latents["swapped"]))
            for _ in range(2):
                env.step(nothing)
        good, swapped = (torch.stack(part, dim=1) for part in zip(*rounds, strict=True))
        self._known[num_trials] = good, swapped
        return good, swapped


def swap_occasions(good: Tensor, swapped: Tensor) -> Tensor:
    """Rounds that are the first after a swap into the held-out combination, (N, R) bool; good, swapped (N, R)."""
    inside = good + 2 * swapped == HELD_OUT
    came_by_swap = torch.zeros_like(inside)
    came_by_swap[:, 1:] = inside[:, 1:] & (swapped[:, :-1] == 0)
    settled = torch.zeros_like(inside)
    same = torch.ones_like(inside[:, SETTLED:])
    for back in range(1, SETTLED + 1):
        same &= good[:, SETTLED:] == good[:, SETTLED - back : -back]
    settled[:, SETTLED:] = same
    return came_by_swap & settled
