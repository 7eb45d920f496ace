"""SVG figures carry the hash of their data, so that one that no longer follows from the numbers is found."""

from __future__ import annotations

import json

import plotly.graph_objects
import pytest
import verdict_rows as rows
from verdict_sample import SOLVES, evidence

from planprobe.core.errors import OutputError, UnknownNameError
from planprobe.verdict.figures import draw_figures, figure_hash
from planprobe.verdict.figures.vector import rebuild_svgs, svg_hash
from planprobe.verdict.judge import judge
from planprobe.verdict.results import load_results, write_results

NAMES = ["first-moves"]


@pytest.fixture
def study(tmp_path):
    item = evidence("D1", "supported", rows=rows.thinking_rows("first_move"))
    return write_results(tmp_path / "study", judge([item], agent="mine", solve_rate=SOLVES), {})


@pytest.fixture
def drawing(monkeypatch):
    """What kaleido would draw, without a browser; yields the formats that were asked for."""
    asked = []

    def to_image(figure, *, format, width, height):
        asked.append((format, width, height))
        return b"<svg>drawn</svg>"

    monkeypatch.setattr(plotly.graph_objects.Figure, "to_image", to_image)
    return asked


def test_a_drawn_figure_says_what_it_was_drawn_from(study, drawing, tmp_path):
    (made,) = rebuild_svgs(study, tmp_path / "docs", NAMES)
    assert made.path.read_text().startswith("<svg>drawn</svg>")
    assert svg_hash(made.path) == figure_hash(draw_figures(load_results(study), NAMES)["first-moves"])
    assert made.same
    assert [format for format, *_ in drawing] == ["svg"]


def test_other_numbers_are_found_and_nothing_is_written(study, drawing, tmp_path):
    (made,) = rebuild_svgs(study, tmp_path, NAMES)
    old = made.path.read_bytes()
    item = evidence("D1", "supported", rows=rows.thinking_rows("first_move")[:-1])
    write_results(study, judge([item], agent="mine", solve_rate=SOLVES), {})
    (checked,) = rebuild_svgs(study, tmp_path, NAMES, check=True)
    assert not checked.same
    assert made.path.read_bytes() == old
    assert len(drawing) == 1, "a check draws nothing"


def test_a_file_of_somebody_else_is_no_match(study, tmp_path):
    (tmp_path / "first-moves.svg").write_text("<svg/>")
    assert [check.same for check in rebuild_svgs(study, tmp_path, NAMES, check=True)] == [False]


def test_an_unknown_figure(study, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'first-moves'"):
        rebuild_svgs(study, tmp_path, ["first-move"])


@pytest.mark.parametrize("error", [ValueError("\nImage export needs kaleido\nmore"), RuntimeError("no Chrome")])
def test_nothing_to_draw_with(study, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(plotly.graph_objects.Figure, "to_image", fail)
    with pytest.raises(OutputError, match=r"(needs kaleido|no Chrome)\n  Next: pip install"):
        rebuild_svgs(study, tmp_path / "docs", NAMES)
    assert not (tmp_path / "docs").exists()


def test_the_command_draws_and_checks(study, drawing, tmp_path, monkeypatch, capsys):
    from planprobe.__main__ import main

    monkeypatch.chdir(tmp_path)
    asked = ["figures", *NAMES, "--results", "study", "--svg", "docs", "--json"]
    assert main(asked) == 0
    assert [row["file"] for row in json.loads(capsys.readouterr().out)] == ["docs/first-moves.svg"]
    assert not (study / "figures").exists()
    assert main([*asked, "--check"]) == 0
    (tmp_path / "docs/first-moves.svg").write_text("<svg/>")
    assert main([*asked, "--check"]) == 1
    assert main(["figures", "--results", ".", "--svg", "docs"]) == 0
    assert main(["figures", "steering", "--results", "study", "--svg", "docs"]) == 2
    assert "nothing to draw steering from" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other/verdict.json").write_text((study / "verdict.json").read_text())
    assert main(["figures", "--results", ".", "--svg", "docs"]) == 2
    assert "'other', 'study'" in capsys.readouterr().err
