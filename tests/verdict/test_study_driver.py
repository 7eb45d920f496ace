"""The whole study on a tiny untrained net: everything is written, and nothing is concluded about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from planprobe.core.errors import UnknownNameError
from planprobe.core.records import Verdict
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.catalog import make_env, named_levels
from planprobe.subjects.envs.first_moves import optimal_first_moves
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import NetRecipe, Recipe, TaskRecipe
from planprobe.verdict.budgets import BUDGETS, get_budget
from planprobe.verdict.figures import rebuild_figures
from planprobe.verdict.material import behaviour_rows, count_optimal_moves, gather_material
from planprobe.verdict.results import load_results
from planprobe.verdict.study import study

TASK = TaskRecipe(kind="maze", size=9, eval_time_limit=12)
BUDGET = replace(get_budget("smoke"), num_levels=12, num_first_moves=16, num_probe_levels=30)


@pytest.fixture(scope="module")
def agent() -> Agent:
    recipe = Recipe("tiny", task=TASK, net=NetRecipe(channels=4, num_ticks=2, head="pool", hidden=8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_net_for(recipe.net, make_env(TASK, named_levels(TASK, "test", 1), 1, training=False))
    return Agent("tiny", net.eval(), recipe)


@pytest.fixture(scope="module")
def studied(agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict, list]:
    folder, told = tmp_path_factory.mktemp("study"), []
    verdict = study(agent, out=folder, budget=BUDGET, progress=lambda share, text: told.append((share, text)))
    return folder, verdict, told


def test_everything_is_written(studied):
    folder, verdict, _ = studied
    assert {path.name for path in folder.iterdir()} == {
        "verdict.json", "evidence.parquet", "rows", "figures", "report.html"
    }  # fmt: skip
    assert [item.detector for item in verdict.evidence] == ["D7", "D10", "D1", "D2", "D3", "D4", "D5", "D6"]
    assert len(list((folder / "figures").glob("*.html"))) == len(list((folder / "figures").glob("*.json"))) >= 11


def test_an_untrained_net_is_not_judged(studied):
    _, verdict, _ = studied
    assert verdict.reading == "cannot say"
    assert not verdict.calibrated
    assert "training failure" in verdict.reasons[0]


def test_figures_follow_from_what_was_saved(studied):
    folder, _, _ = studied
    assert all(figure.same for figure in rebuild_figures(folder, check=True))


def test_what_was_saved_is_what_was_returned(studied):
    folder, verdict, _ = studied
    saved = load_results(folder).verdict
    assert (saved.reading, saved.reasons, saved.missing) == (verdict.reading, verdict.reasons, verdict.missing)
    assert [item.effect for item in saved.evidence] == [item.effect for item in verdict.evidence]


def test_provenance_names_levels_seeds_and_versions(studied):
    folder, _, _ = studied
    provenance = json.loads((folder / "verdict.json").read_text())["provenance"]
    assert all(len(part["hash"]) == 64 for part in provenance["levels"].values())
    assert provenance["budget"]["seed"] == 0
    assert provenance["versions"]["torch"].startswith("2.")
    assert provenance["agent"]["task"]["size"] == 9


def test_progress_only_grows(studied):
    shares = [share for share, _ in studied[2]]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0


def test_the_same_seed_gives_the_same_numbers(agent: Agent, studied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for drawing in ("rebuild_figures", "write_report"):  # they are drawn from the numbers, and take as long
        monkeypatch.setattr(f"planprobe.verdict.study.{drawing}", lambda folder: None)
    study(agent, out=tmp_path, budget=BUDGET)
    first, again = (json.loads((folder / "verdict.json").read_text()) for folder in (studied[0], tmp_path))
    for document in (first, again):
        document["provenance"].pop("run")
    assert first == again


def test_probes_are_fitted_on_other_levels_than_those_played():
    material = gather_material(TASK, BUDGET)
    sets = material.level_sets()
    assert set(sets) == {
        "played", "thinking", "first moves", "probed", "two routes", "changed", "distances", "candidates"
    }  # fmt: skip
    probed = set(sets["probed"].canonical_keys(with_player=False))
    for part in ("played", "two routes", "changed", "distances", "candidates"):
        assert not probed & set(sets[part].canonical_keys(with_player=False))


def test_optimal_moves_of_mazes_and_boards():
    mazes = named_levels(TASK, "test", 6)
    moves = count_optimal_moves(mazes, "maze")
    assert (optimal_first_moves(mazes, "maze").any(1) == (moves > 0)).all()
    boards = named_levels(TaskRecipe(kind="sokoban", size=7), "test", 4)
    assert (count_optimal_moves(boards, "sokoban") > 0).all()


def test_behaviour_is_binned_by_known_lengths_only():
    class Rollout:
        solved = torch.tensor([True, False, True, True])

    rows = behaviour_rows({"the agent": Rollout}, torch.tensor([5, 3, -1, 9]))
    assert [(row["moves"], row["value"], row["n"]) for row in rows] == [(3.0, 0.0, 1), (5.0, 1.0, 1), (9.0, 1.0, 1)]


def test_budgets():
    assert list(BUDGETS) == ["smoke", "quick", "full"]
    for budget in BUDGETS.values():
        assert budget.judged_steps in budget.thinking_steps
        assert 1 in budget.kernels  # D4 is judged, and D7 written, through one square
    assert BUDGETS["quick"].num_random == BUDGETS["full"].num_random == 100
    with pytest.raises(UnknownNameError, match="Did you mean 'quick'"):
        get_budget("quik")
