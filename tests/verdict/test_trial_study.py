"""Studies of agents that play trials: who replays a way adapts without planning, who works it out does not."""

import json
from dataclasses import replace

import pytest
import torch
from trial_walkers import Walker

from planprobe.core.errors import RecipeError
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import Recipe
from planprobe.subjects.trial_changes import trial_changes
from planprobe.subjects.zoo import load_agent
from planprobe.verdict.belief_trials import untrained_twin
from planprobe.verdict.budgets import get_budget
from planprobe.verdict.figures import rebuild_figures
from planprobe.verdict.goal_courses import judge_psi_patching
from planprobe.verdict.results import load_results
from planprobe.verdict.trial_study import REFUTES_NOTHING, revalue, study_trials, take_trial_evidence

TASK = MazeTrialTask(view="full", num_mazes=40, episode_steps=32)
BUDGET = replace(get_budget("smoke"), name="of this test", num_levels=240)


class Indifferent:
    """Without memory, and without a liking for any arm."""

    def initial_state(self, num_boards, board=None):
        return ()

    def step(self, observation, state):
        return torch.zeros(len(observation), 2), torch.zeros(len(observation)), ()


def agent_of(policy, task):
    return Agent("walker", policy, Recipe("walker", task=task))


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trials")
    return folder, study_trials(agent_of(Walker(False), TASK), out=folder, budget=BUDGET)


def outcomes(verdict):
    return {item.detector: item.outcome for item in verdict.evidence}


def test_who_replays_its_way_adapts_without_planning(replayed):
    _, verdict = replayed
    found = outcomes(verdict)
    assert (found["D10"], found["D11"]) == ("refuted", "supported")
    assert found["D8"] != "supported"
    assert verdict.reading == "adapts without planning"
    assert not verdict.calibrated


def test_who_works_its_way_out_takes_the_better_course():
    found = revalue(agent_of(Walker(True), TASK), trial_changes(TASK)[2:], 240)
    assert found.outcome == "supported"
    assert found.effect.value == 1.0
    assert found.controls["straight for the goal"].value == 0.0  # which is what makes a trial count


def test_who_works_its_way_out_is_led_by_another_trials_memory():
    found = judge_psi_patching(agent_of(Walker(True), TASK), 240)
    assert found.outcome == "supported"
    with pytest.raises(RecipeError, match="no second episode from the same start"):
        judge_psi_patching(agent_of(Walker(True), replace(TASK, start="redrawn")), 120)
    with pytest.raises(RecipeError, match="memory holds the walls"):
        judge_psi_patching(agent_of(Walker(True), replace(TASK, view="local")), 120)


def test_everything_is_written_and_drawn_from_what_was_written(replayed):
    folder, verdict = replayed
    drawn = {figure.name: figure.same for figure in rebuild_figures(folder, check=True)}
    assert drawn == dict.fromkeys(("overview", "trials", "adaptation", "trial-revaluation"), True)
    page = (folder / "report.html").read_text()
    assert "adapts without planning" in page and '<th class="num">trials</th>' in page
    assert load_results(folder).verdict.reasons == verdict.reasons
    provenance = json.loads((folder / "verdict.json").read_text())["provenance"]
    assert provenance["trials"]["number"] == 240
    assert len(provenance["trials"]["hash"]) == 64
    assert provenance["agent"]["task"]["kind"] == "maze-trial"


def test_nothing_is_concluded_where_nothing_was_learnt_and_nothing_can_be_revalued():
    verdict = take_trial_evidence(agent_of(Indifferent(), BanditTask(num_arms=2, num_pulls=10)), BUDGET).verdict
    assert verdict.reading == "cannot say"
    assert set(outcomes(verdict)) == {"D11", "D13"}  # without memory there is no belief to be read
    assert "supported" not in outcomes(verdict).values()
    assert abs(verdict.provenance["run"]["solve_rate"]) < 0.2
    assert "training failure" in verdict.reasons[0]


def test_too_few_better_courses_are_named_not_guessed():
    budget = replace(BUDGET, num_levels=20)
    verdict = take_trial_evidence(agent_of(Walker(False), replace(TASK, episode_steps=6)), budget).verdict
    assert "D10" not in outcomes(verdict)
    assert "wall opened" in verdict.provenance["D10 was not measured"]


def test_a_trained_agent_is_asked_for_its_belief_too():
    verdict = take_trial_evidence(load_agent("gru-rl2-bandit2-s0"), get_budget("smoke")).verdict
    assert set(outcomes(verdict)) == {"D11", "D12", "D13"}
    for detector in ("D8", "D10", "D14"):
        assert "bandit" in verdict.provenance[f"{detector} was not measured"]
    assert verdict.provenance["run"]["solve_rate"] > 0.6
    assert verdict.reading == "cannot say"


def test_an_untrained_net_is_not_the_one_that_the_agents_training_began_with():
    agent = load_agent("gru-rl2-bandit2-s0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(agent.recipe.seed)
        began = make_net_for(agent.recipe.net, agent.make_trials(1))
    for seed in range(3):
        twin = untrained_twin(agent, seed=seed)
        assert all(not torch.equal(a, b) for a, b in zip(began.parameters(), twin.parameters(), strict=True) if a.any())


class ByTheMapAlone:
    """Chooses by which way the transitions are, as if one state alone could pay."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        swapped = observation[:, 3].flatten()
        return torch.stack([1 - 2 * swapped, 2 * swapped - 1], dim=1) * 50, swapped, state


def test_missing_a_swap_that_training_ruled_out_refutes_nothing():
    task = TwoStepTask(num_rounds=30, swap=0.1, flip=0.01, show_map=True, hold_out=True)
    agent = agent_of(ByTheMapAlone(), task)
    (change,) = trial_changes(task)
    item = revalue(agent, [change], 300)
    assert (item.effect.value, item.outcome, item.notes[-1]) == (0.0, "inconclusive", REFUTES_NOTHING)
    assert revalue(agent, [replace(change, refutes=True)], 300).outcome == "refuted"
