"""The page on agents of one's own: its example is a planner of thirty lines, and a study takes it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from planprobe.__main__ import main
from planprobe.core.errors import UnknownAgentError
from planprobe.core.play import play_levels
from planprobe.instruments.hooks import open_policy
from planprobe.subjects.envs.catalog import distances_to_goal
from planprobe.subjects.recipe import TaskRecipe
from planprobe.subjects.zoo import load_agent

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bring_your_own.md"
MAX_LINES = 30
NAMES_ITS_TASK = 'return Smell(), TaskRecipe(kind="maze", size=9)'


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The page's code in a file of its own, in the folder where we are."""
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(code) == 1
    (tmp_path / "my_agent.py").write_text(code[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield code[0]
    sys.modules.pop("my_agent", None)


def test_it_is_short(example):
    assert len([line for line in example.splitlines() if line.strip()]) <= MAX_LINES


def test_it_plans_as_the_page_says(example):
    """Once the smell has come to it, the agent goes the shortest way; before that it knows nothing."""
    agent = load_agent("my_agent:make")
    levels = agent.levels("test", 60)
    distances = distances_to_goal(levels)[1]
    played = play_levels(agent.net, agent.make_env, levels, thinking_steps=16)
    assert played.solved.all()
    assert torch.equal(played.lengths, distances)
    early = play_levels(agent.net, agent.make_env, levels, thinking_steps=2, max_steps=1)
    known = distances < 2 * 3  # two ticks a step, and the first one smells at the goal alone
    differ = early.first_logits.std(1) > 0
    assert torch.equal(differ, known)
    assert known.any() and not known.all()


def test_what_comes_back_from_a_site_is_what_it_goes_on_with(example):
    from planprobe.instruments.hooks import Address, ablate, intervene

    agent = load_agent("my_agent:make")
    opened, levels = open_policy(agent.net), agent.levels("test", 20)
    assert opened.sites() == {"ticks.0.0.hook_h": (5, 9, 9), "ticks.1.0.hook_h": (5, 9, 9)}
    with intervene(opened, ablate(Address("ticks.*.0.hook_h"), "zero")):
        assert not play_levels(opened, agent.make_env, levels, thinking_steps=16).solved.any()


FEW_DIRECTIONS = ("--num-random", "2", "--num-random-choice", "1", "--num-wrong", "1", "--num-shuffles", "1")
INSTRUMENTS = {
    "capture": ("--out", "acts", "--num-levels", "4"),
    "probe": ("--num-levels", "16", "--per-level", "2"),
    "patch": ("--num-pairs", "4", "--thinking-steps", "4"),
    "steer": ("--num-levels", "20", "--num-fit-levels", "20", "--alphas", "2", *FEW_DIRECTIONS),
    "erase": ("--num-levels", "10", "--num-fit-levels", "20", "--num-random", "2"),
}


@pytest.mark.parametrize("verb", INSTRUMENTS)
def test_every_instrument_takes_it_as_it_is(example, verb, capsys):
    """A policy without cells, under a task that the command line names."""
    Path("my_agent.py").write_text(example.replace(NAMES_ITS_TASK, "return Smell()"))
    assert main([verb, "my_agent:make", "--task", "maze9", *INSTRUMENTS[verb], "--json"]) == 0
    assert ".hook_h" in capsys.readouterr().out


FLAT = """
import torch
from torch import nn
from planprobe.subjects.recipe import TaskRecipe


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.hook_memory, self.head = nn.LSTMCell(243, 16), nn.Identity(), nn.Linear(16, 4)

    def initial_state(self, num_boards, board=None):
        return torch.zeros(num_boards, 16), torch.zeros(num_boards, 16)

    def step(self, observation, state):
        h, c = self.cell(observation.float().flatten(1), state)
        h = self.hook_memory(h)
        return self.head(h), h[:, 0], (h, c)


def make():
    return Flat(), TaskRecipe(size=9)
"""


@pytest.fixture
def flat(tmp_path, monkeypatch):
    """An LSTM on the flattened board, with one tap under a name of its own."""
    (tmp_path / "flat_agent.py").write_text(FLAT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("flat_agent", None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe", "--concept", "action-ahead-1", "steps-left", "--num-levels", "16", "--sites", "hook_memory"),
        ("patch", "--num-pairs", "4", "--sites", "hook_memory"),
        ("erase", "--concept", "action-ahead-1", "--scope", "board", "--num-levels", "10", "--num-fit-levels", "20",
         "--num-random", "2", "--sites", "hook_memory"),
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_memory_without_squares_is_an_agent_too(flat, arguments, capsys):
    verb, *options = arguments
    assert main([verb, "flat_agent:make", *options, "--json"]) == 0
    assert "hook_memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("probe", "flat_agent:make"), "UnknownSiteError", "It has: hook_memory"),
        (("steer", "flat_agent:make"), "UnknownSiteError", "It has: hook_memory"),
        (("erase", "flat_agent:make"), "UnknownSiteError", "It has: hook_memory"),
        (("probe", "flat_agent:make", "--sites", "hook_memory", "--num-levels", "16"), "ShapeError", "action-ahead-1"),
        (("erase", "flat_agent:make", "--sites", "hook_memory", "--num-fit-levels", "20"), "ShapeError", "'board'"),
        (("probe", "flat_agent:make", "--levels", "train"), "ArgumentError", "--levels test"),
        (("erase", "flat_agent:make", "--levels", "train"), "ArgumentError", "knows these levels"),
        (("erase", "flat_agent:make", "--levels", "valid"), "ArgumentError", "are fitted"),
    ],
)
def test_misuse_is_told_with_the_next_move(flat, arguments, error, says, capsys):
    assert main([*arguments, "--json"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(error)
    assert says in told


def test_a_study_takes_it_and_names_the_task(example, tmp_path, capsys):
    file = tmp_path / "my_agent.py"
    file.write_text(file.read_text().replace(NAMES_ITS_TASK, "return Smell()"))
    out = str(tmp_path / "out")
    arguments = ["study", "my_agent:make", "--task", "maze9", "--budget", "smoke", "--out", out, "--json"]
    assert main(arguments) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["agent"] == "my_agent:make"
    assert {"D1", "D2", "D3", "D4", "D7", "D10"} <= {item["detector"] for item in verdict["evidence"]}
    assert verdict["provenance"]["agent"]["task"]["size"] == 9
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_task_is_for_factories_alone(example):
    assert load_agent("my_agent:make", task=TaskRecipe(size=11)).task.size == 11
    with pytest.raises(UnknownAgentError, match="the task that it was trained on"):
        load_agent("drc12-rl-maze11-s0", task=TaskRecipe(size=9))
    Path("my_agent.py").write_text(example.replace(NAMES_ITS_TASK, "return Smell()"))
    sys.modules.pop("my_agent")
    with pytest.raises(UnknownAgentError, match="where the task is given"):
        load_agent("my_agent:make")
