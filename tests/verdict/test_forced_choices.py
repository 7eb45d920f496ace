"""What agents are put through for D13 and D14: every trial has a noise of its own, and other tasks are refused."""

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.instruments.detectors.mixture import MIXTURE
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.timing import TimingTask
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.recipe import Recipe
from planprobe.verdict.forced_choices import DRAWN, ask_choices, independent_noise
from planprobe.verdict.goal_courses import judge_commitment

ROOM = HiddenGoalTask(size=3, num_episodes=2, episode_steps=6)


def organism(family: str) -> Agent:
    return Agent(family, make_organism(family, ROOM, 0).policy, Recipe(name=family, task=ROOM))


def test_samplers_draw_anew_in_each_trial_and_others_do_as_they_do():
    """Before anything is seen all trials are alike: who draws goes many ways, in the shares of the mixture."""
    first = {}
    for family in ("sampler", "mixture"):
        asked = ask_choices(organism(family), most_histories=10, drawn_trials=40)[DRAWN]
        first[family] = asked.chances.view(40, -1, 5)[:, 0]
        assert torch.equal(asked.ids, torch.arange(40).repeat_interleave(12))
    assert float(first["mixture"].std(0).max()) < 0.05
    assert float(first["sampler"].std(0).max()) > 0.3
    assert torch.allclose(first["sampler"].mean(0), asked.readings[MIXTURE].exp().view(40, -1, 5)[0, 0], atol=0.2)


def test_noise_is_set_where_there_is_some():
    memory = independent_noise(organism("sampler").net, 5)
    assert memory is not None
    assert len(memory[-1].unique()) == 5
    assert independent_noise(torch.nn.Identity(), 5) is None  # pyright: ignore[reportArgumentType]


def test_another_task_is_refused():
    agent = Agent("other", torch.nn.Identity(), Recipe(name="other", task=TimingTask()))
    with pytest.raises(RecipeError, match="exact readings"):
        ask_choices(agent, most_histories=10, drawn_trials=10)
    with pytest.raises(RecipeError, match="written down for hidden-goal"):
        judge_commitment(agent, 20)
