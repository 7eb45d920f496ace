"""Figures come from saved rows alone, say their units, and are known by their data."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import verdict_rows as rows
from verdict_sample import SOLVES, evidence

from planprobe.core.errors import OutputError, UnknownNameError
from planprobe.verdict.figures import (
    FIGURES,
    FOLDER,
    LIBRARY_FILE,
    draw_figures,
    figure_hash,
    load_figure,
    rebuild_figures,
)
from planprobe.verdict.judge import judge
from planprobe.verdict.results import Results, load_results, write_results

TABLES = {
    "D1": rows.thinking_rows() + rows.thinking_rows("first_move"), "D4": rows.probe_rows(),
    "D2": rows.lag_rows("distance", (4, 8, 12), 0.2), "D3": rows.lag_rows("doublings", (1, 2, 3), 0.1),
    "D5": rows.refinement_rows(), "D6": rows.order_rows(), "D7": rows.steering_rows(), "D10": rows.revaluation_rows(),
}  # fmt: skip

OF_TRIALS = ("trials", "adaptation", "trial-revaluation")
OF_BOARDS = [name for name in FIGURES if name not in OF_TRIALS]
"""What a study of an agent on boards draws; studies of agents that play trials have figures of their own."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study without figures; not to be changed."""
    items = [evidence(detector, "supported", rows=table) for detector, table in TABLES.items()]
    verdict = judge(items, agent="an <i>agent</i>", solve_rate=SOLVES)
    return write_results(tmp_path_factory.mktemp("saved"), verdict, {"behaviour": rows.behaviour_rows()})


@pytest.fixture(scope="module")
def drawn(saved: Path) -> dict:
    return draw_figures(load_results(saved))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A study of one's own."""
    return Path(shutil.copytree(saved, tmp_path / "study"))


def test_every_figure_can_be_drawn_and_says_its_units(drawn: dict):
    assert list(drawn) == OF_BOARDS
    for figure in drawn.values():
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text or figure.layout.yaxis.type == "category" or figure.data[0].y[0].strip()
        assert not figure.layout.showlegend


def test_intervals_are_drawn(drawn: dict):
    for name, figure in drawn.items():
        bands = [trace for trace in figure.data if trace.fill == "toself"]
        whiskers = [t for t in figure.data if t.error_x.array is not None or t.error_y.array is not None]
        assert bands or whiskers, name


def test_nothing_is_drawn_where_nothing_was_measured():
    verdict = judge([], agent="a", solve_rate=SOLVES)
    assert draw_figures(Results(verdict, {})) == {}


def test_rebuild_then_check(folder: Path):
    built = rebuild_figures(folder)
    assert [each.name for each in built] == OF_BOARDS
    assert all(each.same for each in built)
    assert all(each.same for each in rebuild_figures(folder, check=True))
    assert figure_hash(load_figure(folder, "thinking")) == built[OF_BOARDS.index("thinking")].data_hash


def test_pages_open_offline_and_share_one_library(folder: Path):
    rebuild_figures(folder, ["thinking", "behaviour"])
    for name in ("thinking", "behaviour"):
        page = (folder / FOLDER / f"{name}.html").read_text()
        assert re.findall(r'(?:src|href)="([^"]+)"', page) == [LIBRARY_FILE]
        assert len(page) < 1e6
    library = folder / FOLDER / LIBRARY_FILE
    whole = library.read_text()
    assert "plotly.js v" in whole[:200]
    library.write_text("of another version")
    rebuild_figures(folder, ["thinking"])
    assert library.read_text() == whole


def test_check_finds_a_moved_number_and_writes_nothing(folder: Path):
    rebuild_figures(folder, ["behaviour", "thinking"])
    path = folder / FOLDER / "behaviour.json"
    figure = json.loads(path.read_text())
    figure["data"][1]["y"][0] += 0.01
    path.write_text(json.dumps(figure))
    before = path.read_bytes()
    checked = rebuild_figures(folder, ["behaviour", "thinking"], check=True)
    assert [each.name for each in checked if not each.same] == ["behaviour"]
    assert path.read_bytes() == before


def test_a_new_study_leaves_no_old_figure_behind(folder: Path):
    stale = folder / FOLDER / "steering.json"
    rebuild_figures(folder, ["steering"])
    (folder / "rows" / "D7.parquet").unlink()
    rebuild_figures(folder)
    assert not stale.exists()


def test_check_ignores_looks(folder: Path):
    rebuild_figures(folder, ["behaviour"])
    path = folder / FOLDER / "behaviour.json"
    figure = json.loads(path.read_text())
    figure["layout"]["height"] = 999
    figure["data"][1]["line"]["color"] = "#ff0000"
    path.write_text(json.dumps(figure))
    assert rebuild_figures(folder, ["behaviour"], check=True)[0].same


def test_check_names_missing_and_left_over_figures(folder: Path):
    rebuild_figures(folder, ["behaviour"])
    (folder / FOLDER / "gone.json").write_text('{"data": []}')
    failed = {each.name for each in rebuild_figures(folder, check=True) if not each.same}
    assert failed == {*OF_BOARDS, "gone"} - {"behaviour"}


def test_unknown_figure_and_missing_figure(folder: Path):
    with pytest.raises(UnknownNameError, match="Did you mean 'thinking'"):
        rebuild_figures(folder, ["thinkin"])
    with pytest.raises(OutputError, match="planprobe figures"):
        load_figure(folder, "thinking")


def test_labels_do_not_lie_on_each_other(drawn: dict):
    figure = drawn["thinking"]
    heights = sorted(note.y for note in figure.layout.annotations if note.x == 4)  # at 8 thinking steps
    low = min(value for trace in figure.data for value in trace.y)
    high = max(value for trace in figure.data for value in trace.y)
    assert min(b - a for a, b in pairwise(heights)) > 0.055 * (high - low)
