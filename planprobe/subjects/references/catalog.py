"""Which reference players a task has: what stands beside an agent in a scorecard."""

from __future__ import annotations

import math
from typing import Any

from planprobe.core.errors import RecipeError
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.references.play import Player

BAYES, THOMPSON, GREEDY = "Bayes-optimal", "Thompson", "greedy posterior mean"
MAX_POSITIONS = 20_000  # of a search plan, about a second
MAX_BOXES = 2  # with more, a board takes the solver seconds
MAX_COUNTS = 500_000  # with more, tables take longer than all the rest of a scorecard


def reference_players(task: Any) -> dict[str, Player]:
    """Players of a task by name; none where none is written down, or where one takes longer than an agent to play."""
    makers = {
        "bandit": _bandit_players, "informative-bandit": _informative_players, "two-step": _two_step_players,
        "causal": _causal_players, "tabular-mdp": _mdp_players, "hidden-goal": _goal_players, "doors": _door_players,
        "maze-trial": _maze_players, "timing": _timing_players, "regression": _regression_players,
        "sokoban-trial": _sokoban_players,
    }  # fmt: skip
    return makers[task.kind](task) if task.kind in makers else {}


def has_bayes_table(task: Any) -> bool:
    """Whether the Bayes-optimal policy of a bandit is a table of counts of a size to compute."""
    if not isinstance(task, BanditTask) or task.structure != "independent":
        return False
    return math.comb(2 * task.num_arms + task.num_pulls, task.num_pulls) <= MAX_COUNTS


def _bandit_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references.bandit_players import BeliefPlayer, CountPlayer
    from planprobe.subjects.references.bandit_values import bayes_values

    players: dict[str, Player] = {GREEDY: BeliefPlayer("greedy"), THOMPSON: BeliefPlayer("thompson")}
    if has_bayes_table(task):
        players = {BAYES: CountPlayer(bayes_values(task.num_arms, task.num_pulls).policy), **players}
    return players


def _informative_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references.bandit_players import BeliefPlayer, InformativeBayesPlayer

    return {BAYES: InformativeBayesPlayer(), THOMPSON: BeliefPlayer("thompson")}


def _two_step_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references import two_step_players as players

    return {
        BAYES: players.TwoStepBeliefPlayer("greedy"), THOMPSON: players.TwoStepBeliefPlayer("thompson"),
        "model-based": players.ModelBasedPlayer(), "model-free": players.ModelFreePlayer(),
        "one-back table": players.OneBackPlayer(),
    }  # fmt: skip


def _causal_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references.causal_players import CAUSAL_RULES, CausalPlayer

    return {f"exact posterior, {rule} exploration": CausalPlayer(rule) for rule in CAUSAL_RULES}


def _mdp_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references.mdp_players import MdpOraclePlayer, MdpPlayer

    return {
        GREEDY: MdpPlayer("greedy"), "PSRL": MdpPlayer("psrl"), "Thompson each step": MdpPlayer("thompson"),
        "oracle": MdpOraclePlayer(),
    }  # fmt: skip


def _timing_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references import timing_players as players

    return {"counting": players.CountingPlayer(), "walking, without memory": players.WalkingPlayer()}


def _regression_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references.regression_players import RegressionBayesPlayer

    return {BAYES: RegressionBayesPlayer()}


def _goal_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references import goal_players as players
    from planprobe.subjects.references.goal_values import plan_search

    found: dict[str, Player] = {
        "sweep": players.SweepPlayer(), "PSRL": players.PosteriorSamplingPlayer(),
        "Thompson each step": players.StepSamplingPlayer(), "oracle": players.OraclePlayer(),
    }  # fmt: skip
    try:
        plan_search(task, max_nodes=MAX_POSITIONS)
    except RecipeError:  # noisy, or too many ways to search
        return found
    return {BAYES: players.SearchPlanPlayer(max_nodes=MAX_POSITIONS), **found}


def _door_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references import door_players as players

    return {
        BAYES: players.DoorBayesPlayer(), "optimist": players.DoorGreedyPlayer(), "oracle": players.DoorOraclePlayer(),
    }  # fmt: skip


def _maze_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references import maze_players as players

    found: dict[str, Player] = {"search, then shortest path": players.MazeSearchPlayer()}
    if task.start == "fixed":
        found["search, then loop-erased replay"] = players.LoopErasedReplayPlayer()
    return found | {"oracle": players.ShortestPathOracle()}


def _sokoban_players(task: Any) -> dict[str, Player]:
    from planprobe.subjects.references import sokoban_players as players

    if task.one_pays or task.num_boxes[1] > MAX_BOXES:
        return {}
    return {"solver, exact belief": players.PermutationSolverPlayer(), "oracle": players.PermutationSolverOracle()}
