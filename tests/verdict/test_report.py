"""The report: one file, offline, everything escaped, and never a reading without its warning."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import verdict_rows as rows
from verdict_sample import SOLVES, evidence

from planprobe.core.errors import OutputError
from planprobe.core.records import Effect
from planprobe.verdict.judge import NOT_CALIBRATED, READINGS, judge
from planprobe.verdict.report import interval, number, render_report, write_report
from planprobe.verdict.results import Results, write_results

NASTY = 'x"><script>alert(1)</script>&'


class Outline(HTMLParser):
    """Headings, sources of anything fetched, and the number of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings, self.fetched, self.ids, self.open = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.open = tag == "h2"
        values = dict(attrs)
        self.fetched += [values[key] for key in ("src", "href") if key in values and not values[key].startswith("#")]
        self.ids += [values["id"]] if "id" in values else []

    def handle_data(self, data: str) -> None:
        if self.open:
            self.headings.append(data.strip())
            self.open = False


@pytest.fixture(scope="module")
def results() -> Results:
    tables = {"D1": rows.thinking_rows(), "D4": rows.probe_rows(), "D7": rows.steering_rows()}
    items = [replace(evidence(d, "supported", rows=table), claim=NASTY, notes=[NASTY]) for d, table in tables.items()]
    provenance = {"agent": {"name": NASTY, "task": {"kind": NASTY}}, "hash": "ab" * 32, "seeds": [0, 1]}
    verdict = judge(items, agent=NASTY, solve_rate=SOLVES, provenance=provenance)
    return Results(verdict, {"behaviour": rows.behaviour_rows()})


@pytest.fixture(scope="module")
def page(results: Results) -> str:
    return render_report(results)


def test_order_of_the_page(page: str):
    headings = Outline(page).headings
    assert headings[:2] == ["Why", "What is missing"]
    assert [text.split(" ")[0] for text in headings[2:5]] == ["D7", "D1", "D4"]
    assert headings[5:] == ["The agent", "Thresholds", "Provenance"]


def test_selection_or_control_has_its_own_line(page: str, results: Results):
    line = page.split('id="selection"')[1].split("</p>")[0]
    assert "Selection or control?" in line
    assert results.verdict.selection in line


def test_accounts_have_a_table(page: str, results: Results):
    table = page.split('<table id="accounts">')[1].split("</table>")[0]
    assert table.count("<tr") == 1 + len(results.verdict.accounts)
    assert table.count("ruled out") == sum(not row["stands"] for row in results.verdict.accounts) > 0


def test_opens_offline_with_one_copy_of_plotly(page: str):
    assert Outline(page).fetched == []
    assert len(re.findall(r"\* plotly\.js v\d", page)) == 1


def test_every_string_is_escaped(page: str):
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_ids_are_unique(page: str):
    ids = Outline(page).ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("reading", READINGS)
def test_the_badge_is_there_for_every_reading(results: Results, reading: str):
    bare = replace(results.verdict, reading=reading, evidence=[])
    page = render_report(Results(bare, {}))
    assert page.count(NOT_CALIBRATED) >= 2  # in the title and beside the sentence
    calibrated = render_report(Results(replace(bare, calibrated=True, missing=[]), {}))
    assert NOT_CALIBRATED not in calibrated


def test_numbers_for_people():
    assert number(-0.5, signed=True) == "−0.500"
    assert number(None) == number(float("nan")) == "–"
    assert interval(Effect(0.1, 0.05, 0.15, 10, "x")) == "0.100 [0.050, 0.150]"


def test_written_beside_its_results(tmp_path: Path, results: Results):
    with pytest.raises(OutputError):
        write_report(tmp_path)
    write_results(tmp_path, results.verdict, results.tables)
    path = write_report(tmp_path)
    assert path.parent == tmp_path
    assert path.read_text().startswith("<!doctype html>")
