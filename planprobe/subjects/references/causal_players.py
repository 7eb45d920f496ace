"""The exact posterior over causal graphs, by enumeration, and players that explore and answer with it."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import unknown_name
from planprobe.core.protocols import StepResult
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.causal import CausalTask
from planprobe.subjects.envs.causal_graphs import NUM_NODES, NUM_OUTCOMES, NUM_SETTINGS, GraphSet
from planprobe.subjects.envs.trial import TrialEnv

CAUSAL_RULES = ("observe", "random", "informative")
QUIZ_SETTINGS = 1 + 2 * torch.arange(NUM_NODES)
"""The setting that holds each variable at 0."""
_CUE = slice(-NUM_NODES - 1, -1)  # where a view tells which variable the quiz holds
_TIE_BREAK = 1e-6


class CausalBelief:
    """Chance of every graph of the task, (B, G) float64 in `chances`."""

    def __init__(self, task: CausalTask) -> None:
        self.graphs = task.graphs()
        self.entropies = -torch.special.xlogy(self.graphs.outcomes, self.graphs.outcomes).sum(2)  # (G, 7)
        self.wins = win_chances(self.graphs)
        # P(outcome and a win), by held variable, setting, outcome and bet
        self.joint = torch.einsum("gso,gia->gisoa", self.graphs.outcomes, self.wins).flatten(1)

    def begin(self, num_boards: int) -> None:
        self.chances = torch.full((num_boards, len(self.graphs)), 1 / len(self.graphs), dtype=torch.float64)

    def see(self, settings: Tensor, outcomes: Tensor) -> None:
        """Take in one sample: setting (B,) and outcome (B,) int64."""
        weighed = self.chances * self.graphs.outcomes[:, settings, outcomes].T
        self.chances = weighed / weighed.sum(1, keepdim=True)

    def bet_values(self) -> Tensor:
        """P(winning) of every action when asked about each held variable, (B, 3 held, 7 actions) float64."""
        return torch.einsum("bg,gia->bia", self.chances, self.wins)

    def information(self) -> Tensor:
        """What one more sample under each setting is expected to tell of the graph, (B, 7) nats."""
        outcomes = torch.einsum("bg,gso->bso", self.chances, self.graphs.outcomes)
        return -torch.special.xlogy(outcomes, outcomes).sum(2) - self.chances @ self.entropies

    def bets_after(self) -> Tensor:
        """P(winning the best bet) expected after one more sample under each setting, (B, 3 held, 7) float64."""
        joint = self.chances @ self.joint
        return joint.view(-1, NUM_NODES, NUM_SETTINGS, NUM_OUTCOMES, NUM_SETTINGS).amax(4).sum(3)

    def edge_chances(self) -> Tensor:
        """Posterior chance of an edge from i to j, of either sign, (B, 3, 3) float64."""
        return torch.einsum("bg,gij->bij", self.chances, (self.graphs.edges != 0).to(torch.float64))


class CausalPlayer:
    """Keeps the exact posterior and makes the bet most likely to be won.

    rule: how it explores where the task lets it: 'observe', 'random' (an intervention drawn each step) or
    'informative' (the setting after which the best bet is expected to win most; among equals, the one that tells most).
    Raises: UnknownNameError (no such rule).
    """

    def __init__(self, rule: str = "informative", *, seed: int = 0) -> None:
        if rule not in CAUSAL_RULES:
            raise unknown_name("rule", rule, CAUSAL_RULES)
        self.rule, self.seed = rule, seed

    def begin(self, env: TrialEnv) -> None:
        self.belief = CausalBelief(env.task)
        self.belief.begin(env.num_boards)
        self.view, self.boards, self.steps = env.observe().flatten(1), torch.arange(env.num_boards), 0

    def act(self) -> Tensor:
        cue = self.view[:, _CUE]
        if bool(self.view[0, -1] > 0):  # all boards are asked in the same step
            return self.belief.bet_values()[self.boards, cue.argmax(1)].argmax(1)
        if self.rule == "random":
            return 1 + draw_below(NUM_SETTINGS - 1, self.seed, self.boards, self.steps)
        if self.rule == "observe":
            return torch.zeros_like(self.boards)
        asked = torch.where(cue.any(1, keepdim=True), cue, 1 / NUM_NODES).to(torch.float64)
        gain = torch.einsum("bis,bi->bs", self.belief.bets_after(), asked)
        return (gain + _TIE_BREAK * self.belief.information()).argmax(1)

    def see(self, actions: Tensor, result: StepResult, view: Tensor) -> None:
        self.view, self.steps = view, self.steps + 1
        if not bool(result.trial_done.any()):
            self.belief.see(*read_sample(view))


def read_sample(view: Tensor) -> tuple[Tensor, Tensor]:
    """Setting and outcome (B,) int64 of the last sample in a view (B, 13) of the causal task."""
    held = view[:, NUM_NODES : NUM_SETTINGS - 1 + NUM_NODES]
    settings = torch.where(held.any(1), 1 + held.argmax(1), 0)
    return settings, ((view[:, :NUM_NODES] > 0) * 2 ** torch.arange(NUM_NODES)).sum(1)


def win_chances(graphs: GraphSet) -> Tensor:
    """P(winning) of every action in every graph, by the variable held at 0: (G, 3 held, 7 actions) float64."""
    ones = graphs.chance_one()[:, QUIZ_SETTINGS]  # (G, held, variable)
    wins = torch.zeros(len(graphs), NUM_NODES, NUM_SETTINGS, dtype=torch.float64)
    others = 1 - torch.eye(NUM_NODES, dtype=torch.float64)
    wins[:, :, 1::2], wins[:, :, 2::2] = (1 - ones) * others, ones * others
    return wins


def causal_bounds(task: CausalTask) -> tuple[float, float]:
    """Expected return of the best bets of one who knows only the prior, and of one who knows the graph."""
    wins = win_chances(task.graphs())
    return float(wins.mean(0).amax(1).mean()), float(wins.amax(2).mean())
