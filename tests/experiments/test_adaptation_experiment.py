"""The adaptation experiment on agents whose adaptation is known: a sweeper, a table of levels, tasks of both kinds."""

from __future__ import annotations

import dataclasses

import pytest

from planprobe.core.errors import RecipeError, UnknownNameError
from planprobe.experiments import adaptation as experiment
from planprobe.instruments.detectors import adaptation as detector
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.nets import make_net
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.recipe import NetRecipe, Recipe, TaskRecipe

ROOM = HiddenGoalTask(size=3, episode_steps=6)
BANDIT = BanditTask(num_pulls=10)


def agent_of(task, policy=None, name: str = "it-s0") -> Agent:
    if policy is None:
        env = make_trial_env(task, Inputs(), 1)
        policy = make_net(
            NetRecipe(kind="gru", channels=8, hidden=8),
            planes=env.num_planes,
            board=(1, 1),
            num_actions=env.num_actions,
        )
    return Agent(name, policy, Recipe(name=name, task=task))


@pytest.fixture(scope="module")
def found():
    sweepers = [agent_of(ROOM, make_organism("sweeper", ROOM, seed).policy, f"sweeper-s{seed}") for seed in (0, 1)]
    return experiment.run_adaptation([*sweepers, agent_of(BANDIT, name="novice-s0")], budget="smoke")


def pick(rows, **wanted):
    return [row for row in rows if wanted.items() <= row.items()]


def test_a_sweeper_adapts_and_a_novice_does_not(found):
    assert [item.outcome for item in found.evidence[:2]] == ["supported", "supported"]
    assert found.evidence[2].outcome != "supported"
    (kept,) = pick(found.tables["index"], agent="sweeper-s0", who=detector.KEPT, measure=experiment.INDEX)
    assert kept["low"] > 0.5
    (reset,) = pick(found.tables["index"], agent="sweeper-s0", who=detector.RESET_EPISODES, measure=experiment.INDEX)
    assert reset["high"] < 0.4


def test_curves_go_on_to_five_episodes_and_say_which_were_trained_on(found):
    curve = pick(found.tables["stages"], agent="sweeper-s0", who=detector.KEPT, measure="return")
    assert [row["stage"] for row in curve] == [1, 2, 3, 4, 5]
    assert [row["trained_on"] for row in curve] == [True, True, False, False, False]
    assert curve[4]["value"] >= curve[1]["value"] - 0.2
    assert any("beyond them" in note for note in found.notes)


def test_reference_players_stand_beside_the_agent_on_the_same_trials(found):
    players = {row["who"] for row in pick(found.tables["stages"], agent="sweeper-s0")}
    assert {"oracle", "sweep", "PSRL", detector.KEPT, *detector.CONTROLS[:3]} <= players
    shots = pick(found.tables["shots"], agent="sweeper-s0", who="Bayes-optimal")
    assert [row["step"] for row in shots] == list(range(1, 31))
    assert shots[0]["value"] == pytest.approx(-0.1)  # no goal is next to the start
    assert shots[11]["value"] == 1.0  # and at the end of episode 2 it stands on each


def test_one_episode_is_cut_in_five(found):
    curve = pick(found.tables["stages"], agent="novice-s0", who=detector.KEPT)
    assert [row["stage"] for row in curve] == [1, 2, 3, 4, 5]
    assert all(row["trained_on"] for row in curve)
    assert {row["who"] for row in pick(found.tables["index"], agent="novice-s0", measure=experiment.INDEX)} == {
        detector.KEPT, detector.RESET_STEPS, detector.OTHERS,
    }  # fmt: skip


def test_seeds_of_a_recipe_are_averaged(found):
    (mean,) = pick(found.tables["seeds"], recipe="sweeper", who=detector.KEPT, measure=experiment.INDEX)
    each = [row["value"] for row in pick(found.tables["index"], who=detector.KEPT, measure=experiment.INDEX)][:2]
    assert mean["value"] == pytest.approx(sum(each) / 2)
    assert mean["n"] == 2
    assert not pick(found.tables["seeds"], recipe="novice")


def test_figures_are_drawn_for_each_agent(found):
    drawn = experiment.FIGURES["stages"](found.tables)
    assert set(drawn) == {"sweeper-s0", "sweeper-s1", "novice-s0"}
    assert experiment.FIGURES["index"](found.tables) is not None


def test_longer_trials_where_the_net_can_remember_them():
    assert experiment.extend_task(ROOM).num_episodes == 5
    assert experiment.extend_task(ROOM, context=20).num_episodes == 3
    assert experiment.extend_task(ROOM, context=12).num_episodes == 2
    assert experiment.extend_task(dataclasses.replace(ROOM, num_episodes=7)).num_episodes == 7
    assert experiment.extend_task(BANDIT) == BANDIT
    assert experiment.extend_task(MazeTrialTask(num_mazes=3)).split == "test"


def test_agents_of_levels_are_refused():
    levels = dataclasses.replace(agent_of(ROOM), recipe=Recipe(name="x", task=TaskRecipe()))
    with pytest.raises(RecipeError, match="rl2"):
        experiment.run_adaptation([levels], budget="smoke")
    with pytest.raises(UnknownNameError, match="quick"):
        experiment.run_adaptation([], budget="quik")
