"""Every agent of the zoo is loaded, checked against its own files, and played again on part of its levels.

One of each kind is held to its own numbers on all of them.

`planprobe agents verify NAME` plays all of them, under every condition.
"""

import json
import math
from pathlib import Path

import pytest

from planprobe.__main__ import main
from planprobe.core.store import load_tensors
from planprobe.subjects.envs.trial_catalog import held_out
from planprobe.subjects.recipe import load_recipe
from planprobe.subjects.scorecard import FIRST_MOVE, Z_95, Condition, find_score, score_first_moves
from planprobe.subjects.training.evaluate import evaluate, solve_rate
from planprobe.subjects.trial_scores import (
    TrialCondition,
    find_trial_score,
    hash_trials,
    play_condition,
    score_trials,
)
from planprobe.subjects.zoo import MAX_WEIGHT_BYTES, WEIGHTS_FILE, agents_folder, list_agents, load_agent

PUBLISHED = list_agents()
PLAYS_TRIALS = {name: load_recipe(agents_folder() / name / "recipe.toml").plays_trials for name in PUBLISHED}
ON_LEVELS = [name for name in PUBLISHED if not PLAYS_TRIALS[name]]
IN_TRIALS = [name for name in PUBLISHED if PLAYS_TRIALS[name]]
SAMPLE = 250  # levels or trials that are played again, the first ones
PLAYED_WHOLE = ("drc13-rl-sokoban7-s0",)
SURE = 3.5  # standard errors that a sample of them may lie off the whole


def standard_error(one, num_all, sample=SAMPLE):
    """Of the mean of `sample` draws without return from `num_all`, whose standard deviation is `one`."""
    return one * math.sqrt((1 - sample / num_all) / sample)


def test_there_are_agents_to_check():
    assert "drc12-rl-maze11-s0" in PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_belong_together(name):
    folder = agents_folder() / name
    agent = load_agent(name)
    metadata = load_tensors(folder / WEIGHTS_FILE)[1]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (folder / WEIGHTS_FILE).stat().st_size <= MAX_WEIGHT_BYTES
    assert agent.name == metrics["agent"] == name
    assert metrics["frames"] == metadata["frames"] >= agent.recipe.training.frames
    assert f"{metrics['frames']:,}" in (folder / "CARD.md").read_text()


@pytest.mark.parametrize("name", ON_LEVELS)
def test_solve_rate_comes_out_again(name):
    agent = load_agent(name)
    stored = find_score(agent.metrics)
    levels = agent.levels("test", stored["n"])
    assert levels.hash() == agent.metrics["level_hashes"]["test"]
    sample = stored["n"] if name in PLAYED_WHOLE else SAMPLE
    found = solve_rate(evaluate(agent.net, agent.task, levels[:sample], drop_finished=True))
    spread = math.sqrt(stored["value"] * (1 - stored["value"]))
    one_flip = 1 / sample  # another kind of machine may round a convolution anew and lose or win an episode
    tolerance = SURE * standard_error(spread, stored["n"], sample) + one_flip
    assert found == pytest.approx(stored["value"], abs=tolerance)


def test_first_moves_of_a_maze_agent_come_out_again_to_the_digit():
    agent, condition = load_agent("drc12-rl-maze11-s0"), Condition(thinking_steps=2)
    stored = find_score(agent.metrics, FIRST_MOVE, levels="far", thinking_steps=2)
    levels = agent.levels("far", stored["n"])
    assert levels.hash() == agent.metrics["level_hashes"]["far"]
    assert score_first_moves(agent.net, agent.task, levels, condition, name="far") == [stored]


def test_the_scorecard_of_a_bandit_agent_comes_out_again(capsys):
    """Under every condition, with its reference players, as the command line prints it.

    To the digit but for what is summed of logarithms, which another kind of machine rounds anew in the ninth.
    """
    name = "gru-rl2-bandit2-s0"
    assert main(["eval", name, "--json"]) == 0
    found, stored = json.loads(capsys.readouterr().out), load_agent(name).metrics
    summed = [row["measure"].startswith("KL") for row in stored["rows"]]
    assert 0 < sum(summed) < len(summed) == len(found["rows"])
    for row, other, is_sum in zip(found.pop("rows"), stored["rows"], summed, strict=True):
        numbers = ("value", "low", "high") if is_sum else ()
        assert {key: row.pop(key) for key in numbers} == pytest.approx({key: other[key] for key in numbers}, rel=1e-7)
        assert row == {key: value for key, value in other.items() if key not in numbers}
    assert found == {key: value for key, value in stored.items() if key != "rows"}


@pytest.mark.parametrize("name", IN_TRIALS)
def test_return_comes_out_again(name):
    """In greedy play, whose actions are the least apart where a machine rounds otherwise."""
    agent = load_agent(name)
    stored = find_trial_score(agent.metrics, policy="greedy")
    task = held_out(agent.trial_task)
    assert hash_trials(task, stored["n"]) == agent.metrics["level_hashes"]["trials"]
    condition = TrialCondition("greedy")
    found = score_trials(play_condition(agent.net, task, agent.recipe.inputs, SAMPLE, condition), condition)[0]
    spread = (stored["high"] - stored["low"]) / (2 * Z_95) * math.sqrt(stored["n"])
    assert found["value"] == pytest.approx(stored["value"], abs=SURE * standard_error(spread, stored["n"]))


def test_maze_agent_solves_its_task_and_thinking_helps_only_with_memory():
    metrics = load_agent("drc12-rl-maze11-s0").metrics
    first_moves = {"measure": "optimal first move", "levels": "far"}
    assert find_score(metrics)["value"] >= 0.95
    assert find_score(metrics, memory="reset each step")["value"] < 0.6
    assert find_score(metrics, **first_moves, thinking_steps=8)["low"] > find_score(metrics, **first_moves)["high"]
    reset = [find_score(metrics, **first_moves, memory="reset each step", thinking_steps=n) for n in (0, 8)]
    assert reset[0]["value"] == reset[1]["value"]


def test_folders_without_weights_hold_a_recipe_that_loads():
    waiting = [path for path in Path(agents_folder()).glob("*/recipe.toml") if path.parent.name not in PUBLISHED]
    assert waiting and all(load_recipe(path).name == path.parent.name for path in waiting)
