"""Belief, commitment and causal experiments run whole at the smallest budget and say what is known of known agents."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from planprobe.core.errors import RecipeError
from planprobe.experiments.belief import run_belief
from planprobe.experiments.causal import EXACT, FORGETS, KNOWN, PRIOR, player_shares, run_causal, share_won
from planprobe.experiments.commitment import ANEW, HELD, player_rows, run_commitment
from planprobe.experiments.writing import agent_of
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.causal import CausalTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.trial_catalog import TEST_SEED
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.recipe import Recipe
from planprobe.subjects.references.causal_players import CausalPlayer, causal_bounds, win_chances
from planprobe.subjects.references.play import play_reference
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
    own = {(row["source"], row["map"]): row["value"] for row in found.tables["own"]}
    assert own.keys() == maps.keys()
    assert own["observation", "linear"] > maps["observation", "linear"]  # its last pull tells what it believes
    assert [row["part"] for row in found.tables["leads"]] == 2 * ["measured", "beyond the best control"]
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
    assert [agent_of(item) for item in found.evidence] == [organism("sampler").name, organism("mixture").name]
    assert sampler.outcome == "supported"
    assert mixture.outcome != "supported"
    assert mixture.effect.high < 0  # it goes between, which one sample a step explains better
    noise = {(row["agent"], row["source"]): row for row in found.tables["noise"]}
    assert noise[organism("sampler").name, "noise varied"]["low"] > 0.1
    assert noise[organism("mixture").name, "noise varied"]["high"] < 0.01
    assert noise[organism("sampler").name, "deterministic twin"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_bet_is_worth_its_chance_of_being_won():
    """1 is the graph's own best bets, on average over graphs; no bet wins nothing; without edges the odds are even."""
    task = CausalTask(early_cue=True)
    wins, (prior, known) = win_chances(task.graphs()), causal_bounds(task)
    graph, held = (part.flatten() for part in torch.meshgrid(torch.arange(109), torch.arange(3), indexing="ij"))
    best = one_hot(wins.argmax(2).flatten(), 7).double()
    assert share_won(task, graph, held, best).mean() == pytest.approx(1)
    assert share_won(task, graph, held, torch.zeros(327, 7))[0] == pytest.approx(-prior / (known - prior))
    empty = (task.graphs().edges == 0).all((1, 2)).nonzero()[0]
    even = share_won(task, empty, torch.zeros(1, dtype=torch.int64), torch.eye(7)[3:4].double())  # variable 1 will be 0
    assert even == pytest.approx((0.5 - prior) / (known - prior))


def test_shares_are_what_bets_pay_in_the_long_run():
    """The same bets, scored by what they paid and by their chances: equal within four errors, and far less noisy."""
    task = CausalTask(early_cue=True, exploration="random")
    paid = play_reference(CausalPlayer("observe"), task, 4000, TEST_SEED).sum(1).double().numpy()
    prior, known = causal_bounds(task)
    paid, shares = (paid - prior) / (known - prior), player_shares(task, 4000, seed=0)
    assert abs(paid.mean() - shares.mean()) < 4 * paid.std() / 4000**0.5
    assert shares.std() < 0.6 * paid.std()


def test_choosing_interventions_is_worth_something_to_who_knows_how():
    """By exact play .11 over watching and .05 over chance, of what knowing the graph is worth; errors of about .012."""
    active, random, watching = (
        player_shares(CausalTask(early_cue=True, exploration=name), 3000, seed=0)
        for name in ("active", "random", "observe")
    )
    assert (active - watching).mean() > 0.05
    assert (active - random).mean() > 0.02


def test_the_causal_experiment_runs_and_its_tables_hold_together():
    found = run_causal([], budget="smoke")
    rows = {(row["exploration"], row["graphs"], row["player"]): row["value"] for row in found.tables["scores"]}
    for graphs in ("clear", "confounded"):
        for exploration in ("observe", "random", "active"):
            values = [rows[exploration, graphs, player] for player in (PRIOR, EXACT, KNOWN)]
            assert values == sorted(values)
        assert rows["active", graphs, EXACT] > rows["observe", graphs, EXACT] - 0.15  # 100 trials
    gains = {(row["player"], row["graphs"], row["contrast"]): row["value"] for row in found.tables["gains"]}
    for who in (EXACT, "net s0", "net s0" + FORGETS):
        between = rows["active", "clear", who] - rows["random", "clear", who]
        assert gains[who, "clear", "active over random"] == pytest.approx(between)
    assert {row["player"] for row in found.tables["seeds"]} == {"nets", "nets" + FORGETS}
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
