"""Studies of agents that play trials: who replays a way adapts without planning, who works it out does not."""

import json
from dataclasses import replace

import pytest
import torch

from planprobe.core.grid import NUM_MOVES, move_offsets
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.recipe import Recipe
from planprobe.subjects.trial_changes import trial_changes
from planprobe.verdict.budgets import get_budget
from planprobe.verdict.figures import rebuild_figures
from planprobe.verdict.results import load_results
from planprobe.verdict.trial_study import revalue, study_trials, take_trial_evidence

TASK = MazeTrialTask(view="full", num_mazes=40, episode_steps=32)
BUDGET = replace(get_budget("smoke"), name="of this test", num_levels=80)


class Walker:
    """Walks at random until it has found the goal; then repeats the last move that it made on each square, or `plans`.

    Memory: that move (B, S) or -1, the square it stood on or -1, the goal or -1.
    """

    def __init__(self, plans, size=7):
        self.plans, self.size, self.offsets = plans, size, move_offsets(size)[:NUM_MOVES]

    def initial_state(self, num_boards, board=None):
        return tuple(torch.full((num_boards, width), -1) for width in (self.size**2, 1, 1))

    def step(self, observation, state):
        exits, (before, goal) = state[0].clone(), (part.squeeze(1) for part in state[1:])
        walls, player = observation[:, 0].flatten(1) > 0.5, observation[:, 1].flatten(1).argmax(1)
        inputs, rows = observation[:, 2:].mean((2, 3)), torch.arange(len(player))
        last, paid, ended = inputs[:, :NUM_MOVES].argmax(1), inputs[:, -2] > 0.5, inputs[:, -1] > 0.5
        ahead = (before + self.offsets[last]).clamp(min=0)
        learns = (before >= 0) & ~walls.gather(1, ahead[:, None]).squeeze(1) & (goal < 0)
        exits[rows[learns], before[learns]] = last[learns]
        goal = torch.where(learns & paid, ahead, goal)
        exits[ended & (goal < 0)] = -1
        open_ahead = ~walls.gather(1, player[:, None] + self.offsets)
        if self.plans:
            maps = distance_maps(walls.unflatten(1, (self.size, self.size)), goal.clamp(min=0))
            best = optimal_action_mask(maps).flatten(2)[rows, :, player]
        else:
            best = torch.nn.functional.one_hot(exits[rows, player].clamp(min=0), NUM_MOVES)
        scores = torch.where((goal >= 0)[:, None], 30.0 * best, 30.0 * open_ahead)
        return scores, scores.amax(1), (exits, player[:, None], goal[:, None])


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
    assert outcomes(verdict) == {"D10": "refuted", "D11": "supported"}
    assert verdict.reading == "adapts without planning"
    assert not verdict.calibrated


def test_who_works_its_way_out_takes_the_better_course():
    found = revalue(agent_of(Walker(True), TASK), trial_changes(TASK)[2:], 60)
    assert found.outcome == "supported"
    assert found.effect.value == 1.0


def test_everything_is_written_and_drawn_from_what_was_written(replayed):
    folder, verdict = replayed
    drawn = {figure.name: figure.same for figure in rebuild_figures(folder, check=True)}
    assert drawn == dict.fromkeys(("overview", "trials", "adaptation", "trial-revaluation"), True)
    assert "adapts without planning" in (folder / "report.html").read_text()
    assert load_results(folder).verdict.reasons == verdict.reasons
    provenance = json.loads((folder / "verdict.json").read_text())["provenance"]
    assert provenance["trials"]["number"] == 80
    assert len(provenance["trials"]["hash"]) == 64
    assert provenance["agent"]["task"]["kind"] == "maze-trial"


def test_nothing_is_concluded_where_nothing_was_learnt_and_nothing_can_be_revalued():
    verdict = take_trial_evidence(agent_of(Indifferent(), BanditTask(num_arms=2, num_pulls=10)), BUDGET).verdict
    assert verdict.reading == "cannot say"
    assert list(outcomes(verdict)) == ["D11"]
    assert abs(verdict.provenance["run"]["solve_rate"]) < 0.2
    assert "training failure" in verdict.reasons[0]


def test_too_few_better_courses_are_named_not_guessed():
    budget = replace(BUDGET, num_levels=20)
    verdict = take_trial_evidence(agent_of(Walker(False), replace(TASK, episode_steps=6)), budget).verdict
    assert "D10" not in outcomes(verdict)
    assert "wall opened" in verdict.provenance["D10 was not measured"]
