"""The mixture experiment: players are recovered before anything is said of an agent, and known players are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from exact_bandit_policies import CountingPolicy

from planprobe.core.errors import RecipeError
from planprobe.experiments.mixture import CEILING, FIRST_PULL, recover_players, run_mixture
from planprobe.instruments.detectors.mixture import MIXTURE
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.timing import TimingTask
from planprobe.subjects.recipe import Recipe
from planprobe.subjects.references.bandit_policies import thompson_policy
from planprobe.subjects.references.bandit_values import bayes_values
from planprobe.subjects.references.catalog import BAYES, GREEDY

TASK = BanditTask(num_arms=2, num_pulls=10)


def agent(policy, task=TASK) -> Agent:
    return Agent("known", policy, Recipe(name="known", task=task))


@pytest.mark.parametrize(
    ("task", "num_trials", "names"),
    [
        (BanditTask(num_arms=2, num_pulls=20), 150, {BAYES, GREEDY, MIXTURE}),
        (InformativeBanditTask(num_arms=6), 20, {BAYES, MIXTURE}),
        (HiddenGoalTask(size=4, episode_steps=8), 10, {"sweep: the nearest likely goal", MIXTURE}),
    ],
)
def test_each_player_is_attributed_to_itself(task, num_trials, names):
    rows = recover_players(task, num_trials, num_repeats=2)
    right = {row["simulated"]: row["value"] for row in rows if row["simulated"] == row["attributed"]}
    assert right == dict.fromkeys(names, 1.0)


@pytest.mark.parametrize(
    ("rule", "reading"), [(thompson_policy, MIXTURE), (bayes_values(2, 10).policy, BAYES)], ids=["samples", "maximises"]
)
def test_a_player_as_a_policy_is_read_as_what_it_is(rule, reading):
    found = run_mixture([agent(CountingPolicy(rule))], budget="smoke")
    fits = {row["reading"]: row for row in found.tables["fits"] if row["histories"] == "enumerated"}
    least = min((row for row in fits.values() if row.get("bic") is not None), key=lambda row: row["bic"])
    assert str(least["reading"]).startswith(reading)
    assert fits[reading]["value"] == pytest.approx(fits[CEILING]["value"], abs=0.02)
    assert found.tables["recovery"][0]["histories"] == "own"  # what is known comes first


def test_bayes_asks_first_and_thompson_never():
    rows = run_mixture([], budget="smoke").tables["informative"]
    assert {row["agent"]: row["value"] for row in rows if row["measure"] == FIRST_PULL} == {BAYES: 1.0, MIXTURE: 0.0}
    assert {row["agent"]: row["value"] for row in rows if row["measure"] == "return"} == pytest.approx(
        {BAYES: 20.55, MIXTURE: 11.0}, abs=1e-4
    )


def test_tasks_without_readings_are_refused():
    with pytest.raises(RecipeError, match="hidden-goal"):
        run_mixture([agent(CountingPolicy(thompson_policy), TimingTask())], budget="smoke")


def test_the_first_pull_of_a_zoo_agent_is_looked_at_where_there_is_one():
    """A shipped agent goes through whole, fits and recovery alike."""
    from planprobe.subjects.zoo import agents_folder, load_agent

    name = "gru-rl2-bandit2-s0"
    assert Path(agents_folder(), name).is_dir()
    found = run_mixture([load_agent(name)], budget="smoke")
    assert found.evidence[0].detector == "D13"
    assert all(row["agent"] == name for row in found.evidence[0].rows)
