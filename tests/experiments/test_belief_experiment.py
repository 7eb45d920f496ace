"""Belief, commitment and causal experiments run whole at the smallest budget and say what is known of known agents."""

from __future__ import annotations

import pytest

from planprobe.core.errors import RecipeError
from planprobe.experiments.belief import run_belief
from planprobe.experiments.causal import EXACT, KNOWN, PRIOR, run_causal
from planprobe.experiments.commitment import ANEW, HELD, player_rows, run_commitment
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.recipe import Recipe
from planprobe.subjects.zoo import load_agent

GOAL_TASK = HiddenGoalTask(size=4, episode_steps=10)


def organism(family: str) -> Agent:
    made = make_organism(family, GOAL_TASK, 0)
    return Agent(made.name, made.policy, Recipe(name=made.name, task=GOAL_TASK))


def test_a_bandit_agent_holds_its_belief():
    found = run_belief([load_agent("gru-rl2-bandit2-s0")], budget="smoke")
    assert {row.name for row in found.evidence} == {"belief", "belief_simulation"}
    maps = {(row["source"], row["map"]): row["value"] for row in found.tables["maps"]}
    assert maps["memory", "linear"] > 0.9 > maps["observation", "linear"]
    assert {row["steps_ahead"] for row in found.tables["simulation"]} == {0, 1, 4}
    psi = {(row["step"], row["source"]): row["value"] for row in found.tables["psi"]}
    assert psi[0, "exact posterior"] == pytest.approx(0.693, abs=1e-3)


def test_players_of_the_hidden_goal_lie_where_they_must():
    rows = {(row["player"], row["measure"]): row for row in player_rows(GOAL_TASK, 60)}
    assert rows[HELD, "least lead"]["low"] > 0
    assert rows[ANEW, "over one a step"]["high"] < 0
    assert rows["sweep", "least lead"]["high"] < 0  # it holds a goal, and draws none


def test_the_sampler_commits_and_the_mixture_does_not():
    found = run_commitment([organism("sampler"), organism("mixture")], budget="smoke")
    sampler, mixture = found.evidence
    assert sampler.outcome == "supported"
    assert mixture.outcome != "supported"
    assert mixture.effect.high < 0  # it goes between, which one sample a step explains better
    noise = {(row["agent"], row["source"]): row for row in found.tables["noise"]}
    assert noise[organism("sampler").name, "noise varied"]["low"] > 0.1
    assert noise[organism("mixture").name, "noise varied"]["high"] < 0.01
    assert noise[organism("sampler").name, "deterministic twin"]["value"] == pytest.approx(0, abs=1e-9)


def test_choosing_interventions_is_worth_something_to_who_knows_how():
    found = run_causal([], budget="smoke")
    rows = {(row["exploration"], row["graphs"], row["player"]): row["value"] for row in found.tables["returns"]}
    for graphs in ("clear", "confounded"):
        for exploration in ("observe", "random", "active"):
            values = [rows[exploration, graphs, player] for player in (PRIOR, EXACT, KNOWN)]
            assert values[0] < values[2]
            assert values[1] > values[0] - 0.12  # 100 trials
        assert rows["active", graphs, EXACT] > rows["observe", graphs, EXACT] - 0.05
    assert {row["choice"] for row in found.tables["choices"]} == {
        "watches", "holds the variable asked about", "holds another variable"
    }  # fmt: skip
    shares = [row["value"] for row in found.tables["choices"] if row["graphs"] == "clear"]
    assert sum(shares) == pytest.approx(1)


def test_agents_of_other_tasks_are_refused():
    bandit = load_agent("gru-rl2-bandit2-s0")
    for run in (run_commitment, run_causal):
        with pytest.raises(RecipeError, match="bandit2"):
            run([bandit], budget="smoke")
