"""Reference players of Sokoban trials: the optimal solver behind an exact belief about what the actions do, or told."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.grid import NUM_MOVES
from planprobe.core.protocols import StepResult
from planprobe.subjects.envs.sokoban_trial import NUM_PERMUTATIONS, SokobanTrialEnv, all_permutations
from planprobe.subjects.envs.solver import solve
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.references.permutation_belief import (
    prior_permutations,
    read_view,
    update_permutation_belief,
)


class PermutationSolverPlayer:
    """Solves the level with the fewest pushes and takes the action likeliest to make the next move of the solution.

    Wherever another move than the wanted one came of it, it solves what is left. It does not look for harmless moves to
    learn from, so that a wrong push may spoil a level; and it wants all boxes on targets even where one would do.
    belief (B, 24, K): see `permutation_belief`.
    """

    belief: Tensor

    def begin(self, env: TrialEnv) -> None:
        env = cast(SokobanTrialEnv, env)
        self.task, self.view = env.task, env.observe()
        self.belief = prior_permutations(self.task, env.num_boards, env.device)
        self._moves = F.one_hot(all_permutations(), NUM_MOVES).to(torch.float64).to(env.device)  # (24, action, move)
        self._plans: list[list[int]] = [[] for _ in range(env.num_boards)]
        self._replan(torch.ones_like(env.finished))

    def act(self) -> Tensor:
        wanted = torch.tensor([plan[0] if plan else 0 for plan in self._plans], device=self.belief.device)
        chance = torch.einsum("bp,pam->bam", self.belief.sum(2), self._moves)
        return chance.gather(2, wanted[:, None, None].expand(-1, NUM_MOVES, 1)).squeeze(2).argmax(1)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        active = result.extras["active"].nonzero().squeeze(1)
        outcome = StepResult(
            view[active], result.reward[active], result.episode_done[active], result.trial_done[active],
            result.solved[active], result.truncated[active],
        )  # fmt: skip
        self.belief[active] = update_permutation_belief(
            self.belief[active], self.view[active], actions[active], outcome, view[active], self.task
        )
        went = self._move_made(view)
        self.view = view
        lost = torch.tensor([not plan or plan[0] != move for plan, move in zip(self._plans, went, strict=True)])
        for plan in self._plans:
            del plan[:1]
        self._replan((lost.to(view.device) | result.episode_done) & result.extras["active"] & ~result.trial_done)

    def _move_made(self, view: Tensor) -> list[int]:
        """The move that leads from the last player's square to the present one, -1 where there is none."""
        width = view.shape[3]
        change = (read_view(view)[1] - read_view(self.view)[1]).tolist()
        return [{-width: 0, width: 1, -1: 2, 1: 3}.get(step, -1) for step in change]

    def _replan(self, where: Tensor) -> None:
        cells, players = read_view(self.view)
        boards = cells.view(-1, *self.view.shape[2:])
        for board in where.nonzero().flatten().tolist():
            self._plans[board] = list(solve(boards[board], int(players[board]), metric="pushes").actions)


class PermutationSolverOracle(PermutationSolverPlayer):
    """The same, told which way each action moves."""

    def begin(self, env: TrialEnv) -> None:
        super().begin(env)
        told = F.one_hot(env.latents()["permutation_id"], NUM_PERMUTATIONS).to(self.belief.dtype)
        self.belief = told[:, :, None] * self.belief.sum(1, keepdim=True)
