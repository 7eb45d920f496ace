"""`planprobe run`: lists, runs, writes, prints; requests that cannot be served leave nothing behind."""

from __future__ import annotations

import json

import pytest

from planprobe.experiments import catalog, figures
from planprobe.experiments.record import Findings
from planprobe.verdict.results import write_table


@pytest.fixture
def toy(monkeypatch):
    """An experiment that takes no time, and what it was asked for."""
    asked = {}

    def run_toy(agents, *, budget, seed, progress):
        asked.update(agents=[agent.name for agent in agents], budget=budget, seed=seed)
        progress(0.5, "half of it")
        rows = [{"who": "kept", "value": 1.5, "low": 1.0, "high": 2.0, "n": 4}]
        return Findings("toy", "does it run?", {"few": rows, "many": rows * 41}, notes=["It ran at 1.5."])

    drawn = {"few": figures.points("few", label="who", x_title="return")}
    module = type("module", (), {"run_toy": staticmethod(run_toy), "FIGURES": drawn})
    monkeypatch.setattr(catalog, "_load_module", lambda name: module)
    monkeypatch.setitem(catalog.EXPERIMENTS, "toy", catalog.Entry("does it run?", "toy:run_toy"))
    return asked


def test_without_a_name_it_lists_what_there_is(cli):
    rows = json.loads(cli("run", "--json").out)
    assert [row["experiment"] for row in rows] == list(catalog.EXPERIMENTS)
    by_name = {row["experiment"]: row for row in rows}
    assert by_name["ingredients"]["of"] == "nets that it trains"
    assert "gru-rl2-bandit2-s0" in by_name["adaptation"]["of"]
    assert "does the agent become better" in cli("run").out


def test_a_run_writes_everything_and_prints_short_tables(cli, toy, tmp_path):
    result = cli(
        "run", "toy", "--budget", "smoke", "--seed", "3", "--out", str(tmp_path), "--agents", "gru-rl2-bandit2-s0"
    )
    assert result.code == 0
    assert toy == {"agents": ["gru-rl2-bandit2-s0"], "budget": "smoke", "seed": 3}
    assert "1.500  [1.000, 2.000]" in result.out
    assert "- It ran at 1.5." in result.out
    assert "'many' has 41 rows" in result.err
    record = json.loads((tmp_path / "findings.json").read_text())
    assert record["provenance"]["agents"][0]["weights_hash"]
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == ["few.parquet", "many.parquet"]
    assert "does it run?".capitalize() in (tmp_path / "findings.md").read_text()


def test_json_alone_goes_to_stdout(cli, toy, tmp_path):
    result = cli("run", "toy", "--json", "--out", str(tmp_path))
    assert json.loads(result.out)["notes"] == ["It ran at 1.5."]


def test_its_figures_are_checked_like_those_of_a_study(cli, toy, tmp_path):
    cli("run", "toy", "--out", str(tmp_path / "results" / "experiments" / "toy"))
    (row,) = cli("figures", "--check", "--json").json
    assert (row["figure"], row["same"]) == ("few", True)
    moved = [{"who": "kept", "value": 1.6, "low": 1.0, "high": 2.0, "n": 4}]
    write_table(tmp_path / "results" / "experiments" / "toy" / "rows" / "few.parquet", moved)
    assert cli("figures", "--check").code == 1
    assert cli("figures", "--results", str(tmp_path / "nothing")).code == 2


def test_requests_that_cannot_be_served(cli, tmp_path):
    out = tmp_path / "out"
    assert "Did you mean 'ingredients'" in cli("run", "ingredient", "--out", str(out)).err
    result = cli("run", "ingredients", "--agents", "gru-rl2-bandit2-s0", "--out", str(out))
    assert result.code == 2
    assert "takes no agents" in result.err
    assert not out.exists()
