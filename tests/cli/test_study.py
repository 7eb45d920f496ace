"""`planprobe study` hands over and prints; `planprobe figures` redraws and compares. The study is made up."""

from __future__ import annotations

import json

import pytest

from planprobe.core.records import Effect, Evidence, Verdict
from planprobe.verdict import study as study_module
from planprobe.verdict.figures import rebuild_figures
from planprobe.verdict.report import write_report
from planprobe.verdict.results import write_results


def _effect(value: float) -> Effect:
    return Effect(value, value - 0.01, value + 0.01, 100, "fraction solved", p=0.01)


def _made_up_study(agent, *, out, budget, twin=None, progress=None) -> Verdict:
    evidence = Evidence(
        detector="D1", name="thinking_gain", claim="It thinks.", effect=_effect(0.1), controls={"reset": _effect(0.0)},
        beyond_controls=_effect(0.1), min_effect=0.02, power=0.9, outcome="supported", falsifies="that",
    )  # fmt: skip
    provenance = {"budget": {"name": budget.name}, "twin": twin and twin.name}
    verdict = Verdict(agent.name, "cannot say", False, ["D1: a gain"], ["D7"], [evidence], provenance)
    progress(0.5, "D1")
    rows = [
        {"arm": arm, "moves": moves, "value": 0.8, "low": 0.7, "high": 0.9, "n": 10}
        for arm in ("the agent", "memory reset each step")
        for moves in (4.0, 8.0)
    ]
    rebuild_figures(write_results(out, verdict, {"behaviour": rows}))
    write_report(out)
    return verdict


@pytest.fixture
def studied(cli, maze_agent, monkeypatch):
    """A study of 'maze' in results/maze."""
    monkeypatch.setattr(study_module, "study", _made_up_study)
    return cli("study", maze_agent, "--budget", "smoke")


def test_the_verdict_is_printed_and_the_report_named(studied):
    assert studied.code == 0, studied.err
    assert "cannot be said whether maze plans" in studied.out
    assert "not calibrated yet" in studied.out
    assert "D1 thinking gain" in studied.out
    assert "results/maze/report.html" in studied.err


def test_json_is_what_was_saved(cli, maze_agent, monkeypatch, tmp_path):
    monkeypatch.setattr(study_module, "study", _made_up_study)
    printed = cli("study", maze_agent, "--out", "elsewhere", "--json").json
    assert printed.pop("folder") == "elsewhere"
    assert printed == json.loads((tmp_path / "elsewhere" / "verdict.json").read_text())
    assert printed["provenance"]["budget"]["name"] == "quick"


def test_figures_follow_from_the_saved_rows(cli, studied, tmp_path):
    checked = cli("figures", "--check", "--json")
    assert checked.code == 0, checked.err
    assert {row["figure"] for row in checked.json} >= {"behaviour"}
    stored = tmp_path / "results/maze/figures/behaviour.json"
    stored.write_text(stored.read_text().replace("0.8", "0.9"))
    assert cli("figures", "--check").code == 1
    assert cli("figures", "behaviour").code == 0
    assert cli("figures", "--check").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("figures", "behavior"), "Did you mean 'behaviour'"), (("figures", "--results", "nowhere"), "no study")],
)
def test_figures_that_do_not_exist(cli, studied, arguments, says):
    result = cli(*arguments)
    assert result.code == 2
    assert says in result.err


def test_output_below_a_file(cli, maze_agent, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = cli("study", maze_agent, "--out", tmp_path / "file" / "study")
    assert result.code == 2
    assert result.err.startswith("OutputError")


def test_an_unknown_budget(cli, maze_agent):
    assert cli("study", maze_agent, "--budget", "endless").code == 2
