"""Tiny untrained agents on disk, and the command line called in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from planprobe.__main__ import main
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.catalog import make_env
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import Recipe, make_recipe
from planprobe.subjects.zoo import save_agent

NETS = {"kind": "drc", "channels": 4, "num_ticks": 1, "hidden": 8}


def make_tiny_agent(folder: Path, kind: str = "maze", *, head: str = "pool", size: int = 9, seed: int = 0) -> Path:
    """An untrained agent's folder."""
    task = {"kind": kind, "size": size, "num_levels": 50, "eval_time_limit": 20}
    recipe = make_recipe({"name": folder.name, "task": task, "net": {**NETS, "head": head}})
    return save_agent(folder, recipe, make_tiny_net(recipe, seed).state_dict(), frames=123)


def make_tiny_net(recipe: Recipe, seed: int) -> torch.nn.Module:
    size = recipe.task.size
    bank = LevelSet(torch.zeros(1, size, size, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    torch.manual_seed(seed)
    return make_net_for(recipe.net, make_env(recipe.task, bank, 1, training=False))


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Call the command line in an empty folder: `cli('eval', 'maze', '--json')`."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def maze_agent(tmp_path) -> Path:
    return make_tiny_agent(tmp_path / "maze")


@pytest.fixture
def sokoban_agent(tmp_path) -> Path:
    return make_tiny_agent(tmp_path / "sokoban", "sokoban", size=6)


@pytest.fixture
def fixed_size_agent(tmp_path) -> Path:
    return make_tiny_agent(tmp_path / "fixed", "sokoban", head="flatten", size=6)
