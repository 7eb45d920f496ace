"""Which reference players a task has: what stands beside an agent in a scorecard."""

from __future__ import annotations

import math
from typing import Any

from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.references.play import Player

BAYES, THOMPSON, GREEDY = "Bayes-optimal", "Thompson", "greedy posterior mean"
MAX_COUNTS = 500_000  # with more, tables take longer than all the rest of a scorecard


def reference_players(task: Any) -> dict[str, Player]:
    """Players of a task by name; none where none is written down."""
    if isinstance(task, BanditTask):
        return _bandit_players(task)
    if isinstance(task, InformativeBanditTask):
        from planprobe.subjects.references.bandit_players import BeliefPlayer, InformativeBayesPlayer

        return {BAYES: InformativeBayesPlayer(), THOMPSON: BeliefPlayer("thompson")}
    if isinstance(task, HiddenGoalTask):
        from planprobe.subjects.references import goal_players

        return {
            "sweep": goal_players.SweepPlayer(), "PSRL": goal_players.PosteriorSamplingPlayer(),
            "Thompson each step": goal_players.StepSamplingPlayer(), "oracle": goal_players.OraclePlayer(),
        }  # fmt: skip
    return {}


def has_bayes_table(task: Any) -> bool:
    """Whether the Bayes-optimal policy of a bandit is a table of counts of a size to compute."""
    if not isinstance(task, BanditTask) or task.structure != "independent":
        return False
    return math.comb(2 * task.num_arms + task.num_pulls, task.num_pulls) <= MAX_COUNTS


def _bandit_players(task: BanditTask) -> dict[str, Player]:
    from planprobe.subjects.references.bandit_players import BeliefPlayer, CountPlayer
    from planprobe.subjects.references.bandit_values import bayes_values

    players: dict[str, Player] = {GREEDY: BeliefPlayer("greedy"), THOMPSON: BeliefPlayer("thompson")}
    if has_bayes_table(task):
        players = {BAYES: CountPlayer(bayes_values(task.num_arms, task.num_pulls).policy), **players}
    return players
