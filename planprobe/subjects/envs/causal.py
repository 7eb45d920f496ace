"""Causal graphs: watch or intervene on three binary variables for a while, then bet on what an intervention will do.

psi is the graph, drawn per trial. In the quiz a variable is held at 0, and the agent bets on the value of another: it
must know what holding does, which watching alone does not tell where a hidden cause moves two variables together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.subjects.envs.causal_graphs import NUM_NODES, NUM_SETTINGS, GraphSet, list_graphs, outcome_values
from planprobe.subjects.envs.trial import DRAW_STEP, DRAW_TASK, TrialEnv

EXPLORATIONS = ("observe", "random", "active")


@dataclass(frozen=True)
class CausalTask:
    """Options of the causal task.

    num_samples: steps before the quiz, which is the last step. exploration: who sets the variables meanwhile:
    'observe', nobody; 'random', an intervention drawn each step; 'active', the agent, whose action a is the setting a
    (0 observes, 1 + 2 i + v holds variable i at v). confounded: graphs have a hidden common cause of two variables.
    strength: how strongly a variable follows its parents, in logits. early_cue: show from the start which variable will
    be held, so that there is something to be won by choosing interventions.
    In the quiz action 1 + 2 i + v bets that variable i will be v and pays 1 if it is; there is nothing to be won on the
    variable that is held, or by action 0.
    Raises: RecipeError (no samples, an unknown exploration, strength not above 0).
    Source: after Dasgupta et al. 2019, with binary variables.
    """

    kind: ClassVar[str] = "causal"
    num_samples: int = 5
    exploration: str = "active"
    confounded: bool = False
    strength: float = 3.0
    early_cue: bool = False

    def __post_init__(self) -> None:
        if self.exploration not in EXPLORATIONS:
            raise unknown_name("exploration", self.exploration, EXPLORATIONS, where="causal", error=RecipeError)
        if self.num_samples < 1 or not self.strength > 0:
            raise RecipeError(
                f"causal: needs a sample and a strength above 0, got num_samples = {self.num_samples}, "
                f"strength = {self.strength}."
            )

    def graphs(self) -> GraphSet:
        """The graphs a trial may have, all equally likely."""
        return list_graphs(self.confounded, self.strength)

    def make_env(
        self, num_boards: int, *, seed: int = 0, device: torch.device | str = "cpu", autoreset: bool = True
    ) -> CausalEnv:
        """B graphs side by side."""
        return CausalEnv(num_boards, self, seed=seed, device=device, autoreset=autoreset)


class CausalEnv(TrialEnv):
    """View: the last sample's variables as +1 and -1 (0 before the first); one-hot of what was held in it (variable i
    at v is 2 i + v); one-hot of the variable held at 0 in the quiz (none before, without `early_cue`); 1 in the quiz.

    latents: graph (B,) int64, its place in `task.graphs()`; edges (B, 3, 3) int64.
    """

    num_planes = NUM_NODES + 2 * NUM_NODES + NUM_NODES + 1
    num_actions = NUM_SETTINGS

    def __init__(self, num_boards: int, task: CausalTask, **options) -> None:
        super().__init__(num_boards, num_episodes=1, episode_steps=task.num_samples + 1, **options)
        self.task = task
        graphs = task.graphs()
        self.graph_edges = graphs.edges.to(self.device)
        self.cumulative = graphs.outcomes.cumsum(2).to(self.device)  # (G, settings, outcomes)
        self.values = outcome_values().to(self.device)
        zeros = torch.zeros(num_boards, dtype=torch.int64, device=self.device)
        self.graph, self.quiz = zeros, zeros.clone()
        self.sample = torch.zeros(num_boards, NUM_NODES, device=self.device)  # as the view shows it
        self.setting = zeros.clone()  # of the last sample

    def _begin_trial(self, ids: Tensor) -> None:
        counters = (DRAW_TASK, ids, self.trials[ids])
        self.graph[ids] = draw_below(len(self.graph_edges), self.seed, *counters, 0)
        self.quiz[ids] = draw_below(NUM_NODES, self.seed, *counters, 1)
        self.sample[ids] = 0
        self.setting[ids] = 0

    def _act(self, actions: Tensor, active: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        quiz = self._in_quiz()
        counters = (DRAW_STEP, self.board_ids, self.trials, self.elapsed)
        setting = actions
        if self.task.exploration == "random":
            setting = 1 + draw_below(NUM_SETTINGS - 1, self.seed, *counters, 0)
        if self.task.exploration == "observe":
            setting = torch.zeros_like(actions)
        setting = torch.where(quiz, 1 + 2 * self.quiz, setting)
        luck = draw_uniform(self.seed, *counters, 1)
        outcome = (luck[:, None] >= self.cumulative[self.graph, setting]).sum(1).clamp(max=len(self.values) - 1)
        values = self.values[outcome]
        node, value = (actions - 1).clamp(min=0) // 2, (actions - 1) % 2
        won = quiz & (actions > 0) & (node != self.quiz) & (values.gather(1, node[:, None]).squeeze(1) == value)
        sampled = active & ~quiz
        self.sample = torch.where(sampled[:, None], 2.0 * values - 1, self.sample)
        self.setting = torch.where(sampled, setting, self.setting)
        extras = {"setting": setting, "outcome": outcome, "quiz": quiz & active}
        return won.to(torch.float32), torch.zeros_like(active), extras

    def _in_quiz(self) -> Tensor:
        return self.elapsed >= self.task.num_samples

    def _view(self) -> Tensor:
        held = self.setting[:, None] == torch.arange(1, NUM_SETTINGS, device=self.device)
        in_quiz = self._in_quiz()[:, None]
        cue = self.quiz[:, None] == torch.arange(NUM_NODES, device=self.device)
        flags = torch.cat([held, cue & (in_quiz | self.task.early_cue), in_quiz], dim=1)
        return torch.cat([self.sample, flags.to(torch.float32)], dim=1)

    def latents(self) -> dict[str, Tensor]:
        return {"graph": self.graph.clone(), "edges": self.graph_edges[self.graph]}
