"""Findings on disk: everything comes back, figures follow from saved tables, nothing is left of an older run."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from planprobe.core.errors import OutputError, RecipeError, UnknownNameError
from planprobe.core.records import Effect, Evidence
from planprobe.core.store import write_json
from planprobe.experiments import catalog, figures, writing
from planprobe.experiments.record import BUDGETS, Findings, between, lead_rows, pick_budget

ROWS = [
    {"who": who, "episode": episode, "value": middle, "low": middle - 0.5, "high": middle + 1, "n": 9}
    for who, shift in (("kept", 0.25), ("reset", -0.5))
    for episode in (1, 2, 3)
    for middle in [episode + shift]
]
FIGURES = {
    "curve": figures.lines(
        "curve", x="episode", series="who", x_title="episode", y_title="return", grey=["reset"], level=0
    ),
    "list": figures.points("curve", label="who", x_title="return", where={"episode": 2}),
    "absent": figures.lines("nothing", x="episode", series="who", x_title="", y_title=""),
}


def evidence(agent: str = "a", **changes) -> Evidence:
    effect = Effect(0.5, 0.4, 0.6, 30, "index", 0.01)
    fields = {
        "detector": "D11", "name": "adaptation", "claim": "c", "effect": effect, "controls": {"reset": effect},
        "beyond_controls": effect, "min_effect": 0.1, "power": 0.9, "outcome": "supported", "falsifies": "f",
        "rows": [{"agent": agent, "value": 0.5}],
    }  # fmt: skip
    return Evidence(**{**fields, **changes})


@pytest.fixture
def findings(monkeypatch) -> Findings:
    monkeypatch.setattr(writing, "load_figures", lambda name: FIGURES)
    return Findings("adaptation", "does it?", {"curve": ROWS}, [evidence()], ["It rose by 2."], {"seed": 3})


def test_what_is_written_comes_back(tmp_path, findings):
    writing.write_findings(tmp_path, findings)
    loaded = writing.load_findings(tmp_path)
    assert loaded.tables == {"curve": ROWS, "D11": [{"agent": "a", "value": 0.5}]}
    assert (loaded.name, loaded.question, loaded.notes) == ("adaptation", "does it?", ["It rose by 2."])
    assert loaded.evidence == [evidence(rows=[])]
    assert loaded.provenance == {"seed": 3}
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "curve.html", "curve.json", "list.html", "list.json", "plotly.min.js",
    ]  # fmt: skip


def test_figures_are_held_to_the_saved_tables(tmp_path, findings):
    writing.write_findings(tmp_path, findings)
    assert all(each.same for each in writing.rebuild_experiment_figures(tmp_path, check=True))
    moved = [{**row, "value": row["value"] + 0.01} for row in ROWS]
    writing.write_table(tmp_path / "rows" / "curve.parquet", moved)
    assert not any(each.same for each in writing.rebuild_experiment_figures(tmp_path, check=True))
    with pytest.raises(UnknownNameError, match="Did you mean 'curve'"):
        writing.rebuild_experiment_figures(tmp_path, ["curves"])


def test_lines_draw_value_and_band_in_order_of_x():
    figure = FIGURES["curve"]({"curve": ROWS[::-1]})
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name["kept"].x) == [1, 2, 3]
    assert list(by_name["kept"].y) == [1.25, 2.25, 3.25]
    assert list(by_name["kept, 95 % interval"].y) == [2.25, 3.25, 4.25, 2.75, 1.75, 0.75]
    assert figure.data[-1].name == "kept"  # over the grey ones
    assert FIGURES["absent"]({"curve": ROWS}) is None


def test_points_stand_where_their_label_is():
    figure = FIGURES["list"]({"curve": ROWS})
    (trace,) = figure.data
    assert list(zip(trace.x, trace.y, strict=True)) == [(2.25, 0), (1.5, -1)]
    assert list(trace.error_x.array) == [1, 1]
    assert list(figure.layout.yaxis.ticktext) == ["kept", "reset"]


def test_points_of_two_series_do_not_hide_each_other():
    rows = [{**row, "series": name} for row in ROWS[:1] for name in ("one", "two")]
    figure = figures.points("t", label="who", x_title="", series="series")({"t": rows})
    heights = {trace.name: trace.y[0] for trace in figure.data}
    assert heights["one"] > heights["two"]


def test_an_older_run_leaves_nothing_behind(tmp_path, findings):
    writing.write_findings(tmp_path, findings)
    writing.write_findings(tmp_path, Findings("adaptation", "does it?", {"other": ROWS}))
    assert set(writing.load_findings(tmp_path).tables) == {"other"}
    assert not (tmp_path / "evidence.parquet").exists()
    assert not list((tmp_path / "figures").glob("*"))


def test_numbers_of_numpy_are_hashed_and_told_as_plain_ones(tmp_path, findings):
    plain = [{"a": 0.5, "n": 3}]
    arrays = [{"a": np.float32(0.5), "n": np.int64(3)}]
    hashes = []
    for rows in (plain, arrays):
        writing.write_findings(tmp_path, Findings("adaptation", "q", {"t": rows}))
        hashes.append(json.loads((tmp_path / "findings.json").read_text())["row_hashes"])
        assert "| 0.500 | 3 |" in (tmp_path / "findings.md").read_text()
    assert hashes[0] == hashes[1]


def test_text_has_intervals_evidence_and_notes(findings):
    text = writing.findings_text(findings)
    assert "# adaptation\n\nDoes it?\n\n- It rose by 2." in text
    assert "| kept | 1 | 1.250 [0.750, 2.250] | 9 |" in text
    assert "| a | D11 adaptation | +0.500 [+0.400, +0.600] | index |" in text
    assert "2 more rows" in writing.findings_text(Findings("x", "q", {"long": [{"a": 1}] * 42}))


def test_a_number_without_an_interval_has_no_brackets():
    rows = [{"who": "one net", "value": 0.5, "low": None, "high": None, "n": 1}, {"who": "none", "value": None}]
    assert "| one net | 0.500 | 1 |\n| none |  |  |" in writing.markdown_table(rows)


def test_evidence_without_numbers_survives_json(tmp_path, findings):
    nothing = Effect(math.nan, math.nan, math.nan, 0, "index")
    writing.write_findings(tmp_path, Findings("adaptation", "q", {}, [evidence(effect=nothing)]))
    record = json.loads((tmp_path / "findings.json").read_text())
    assert record["evidence"][0]["effect"]["value"] is None
    assert record["evidence"][0]["agent"] == "a"
    assert math.isnan(writing.load_findings(tmp_path).evidence[0].effect.value)


def test_leads_say_whose_and_of_which_change():
    beyond = Effect(0.2, 0.1, 0.3, 30, "index")
    rows = lead_rows([
        evidence(beyond_controls=beyond, rows=[{"agent": "b", "change": "wall", "value": 1.0}]), evidence(rows=[]),
    ])  # fmt: skip
    common = {"measure": "adaptation", "n": 30, "unit": "index"}
    assert (
        rows[0] == {"agent": "b", "change": "wall", "part": "measured", "value": 0.5, "low": 0.4, "high": 0.6} | common
    )
    assert (rows[1]["part"], rows[1]["value"], rows[1]["low"]) == ("beyond the best control", 0.2, 0.1)
    assert "agent" not in rows[2]


def test_evidence_of_several_agents_is_nobodys():
    assert writing.agent_of(evidence(rows=[{"agent": "a"}, {"agent": "b"}])) == ""
    assert writing.agent_of(evidence(rows=[])) == ""


def test_foreign_folders_are_refused(tmp_path):
    with pytest.raises(OutputError, match="planprobe run NAME"):
        writing.load_findings(tmp_path)
    write_json(tmp_path / writing.FINDINGS_FILE, {"schema": 99})
    with pytest.raises(OutputError, match="schema 99"):
        writing.load_findings(tmp_path)


# the catalog ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", catalog.EXPERIMENTS)
def test_every_entry_leads_to_a_function(name):
    module, function = catalog.get_entry(name).where.split(":")
    assert callable(getattr(catalog._load_module(module), function))
    assert all(callable(draw) for draw in catalog.load_figures(name).values())


def test_a_run_says_what_decided_its_numbers(monkeypatch):
    seen = {}

    def run_it(agents, **options):
        seen.update(options, agents=agents)
        return Findings("it", "q", {}, provenance={"trials": 7})

    module = type("module", (), {"run_it": staticmethod(run_it)})
    monkeypatch.setattr(catalog, "_load_module", lambda name: module)
    monkeypatch.setitem(catalog.EXPERIMENTS, "it", catalog.Entry("q", "it:run_it", trains=True))
    found = catalog.run_experiment("it", budget="smoke", seed=5)
    assert seen == {"agents": [], "budget": "smoke", "seed": 5, "progress": None}
    assert found.provenance["trials"] == 7
    assert (found.provenance["budget"], found.provenance["seed"]) == ("smoke", 5)
    assert found.provenance["versions"]["torch"]
    with pytest.raises(RecipeError, match="trains its own"):
        catalog.run_experiment("it", [object()])  # type: ignore[list-item]


def test_unknown_names_are_told_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'adaptation'"):
        catalog.run_experiment("adaption")
    with pytest.raises(UnknownNameError, match="Did you mean 'quick'"):
        catalog.run_experiment("adaptation", [], budget="quik")
    with pytest.raises(UnknownNameError, match="Did you mean 'smoke'"):
        pick_budget(dict.fromkeys(BUDGETS, 1), "smok")


def test_progress_of_a_part_is_a_part_of_the_progress():
    told = []
    tell = between(0.5, 1.0, lambda share, text: told.append((share, text)))
    tell(0.0, "a")
    tell(0.5, "b")
    assert told == [(0.5, "a"), (0.75, "b")]
