"""Results that are kept with the documents: every number that is told of them is that of the kept tables."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest

from planprobe.core.records import Row
from planprobe.experiments.catalog import EXPERIMENTS
from planprobe.experiments.writing import FINDINGS_FILE, TEXT_FILE, findings_text, load_findings

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "docs" / "experiments"
PAGE, README = PLACE / "README.md", ROOT / "README.md"
KEPT = sorted(path.parent for path in PLACE.glob(f"*/{FINDINGS_FILE}"))
LARGEST_KB = 100
INDEX, LEAD = {"measure": "adaptation index"}, {"part": "beyond the best control"}
TOLD = {  # the table whose rows are told, what names one of them, and which are told
    "adaptation": ("index", ("agent", "who"), INDEX),
    "belief": ("leads", ("agent", "measure"), LEAD),
    "causal": ("gains", ("player", "graphs", "contrast"), {}),
    "commitment": ("D14", ("agent", "walker"), {}),
    "environment-memory": ("conditions", ("arm", "condition"), {}),
    "ingredients": ("arms", ("arm",), INDEX),
    "mixture": ("leads", ("agent",), LEAD),
    "one-maze": ("tests", ("trained_with", "player"), {"change": "first 4 moves random", "measure": "solved"}),
    "revaluation": ("leads", ("agent", "change"), LEAD),
}


def due_rows(folder: Path) -> dict[str, str]:
    """What is told of an experiment: {'ingredients: all four': '+0.85 [+0.70, +1.00], n = 3'}."""
    name = folder.name
    table, labels, which = TOLD[name]
    rows = [row for row in load_findings(folder).tables[table] if which.items() <= row.items()]
    assert rows
    return {f"{name}: {', '.join(str(row[label]) for label in labels)}": shown(row) for row in rows}


def shown(row: Row) -> str:
    interval = "" if row["low"] is None else f" [{row['low']:+.2f}, {row['high']:+.2f}]"
    return f"{row['value']:+.2f}{interval}, n = {row['n']}"


def told_rows(page: Path) -> dict[str, str]:
    """First and last cell of every row of a page's tables that is told of an experiment."""
    lines = [line.strip().strip("|").split("|") for line in page.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line] for line in lines]
    return {first: rest[-1] for first, *rest in cells if first.split(":")[0] in EXPERIMENTS and ":" in first}


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_page_tells_what_the_tables_say(folder):
    told = told_rows(PAGE)
    for label, due in due_rows(folder).items():
        assert told.get(label) == due, f"the row should end in: | {label} | {due} |"


@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_told_that_no_table_says(page):
    due = {label: text for folder in KEPT for label, text in due_rows(folder).items()}
    assert {label: text for label, text in told_rows(page).items() if due.get(label) != text} == {}


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_text_follows_from_record_and_tables(folder):
    """But for the agents' names beside evidence, which stand in the rows behind it."""
    found, text = load_findings(folder), (folder / TEXT_FILE).read_text()
    assert (found.name, found.question) == (folder.name, EXPERIMENTS[folder.name].question)
    for note in found.notes:
        assert f"- {note}" in text
    table = TOLD[folder.name][0]
    part = findings_text(found).split(f"## {table}\n", 1)[1].split("\n## ")[0]
    assert part.strip() in text


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_command_that_is_told_runs_the_agents_of_the_record(folder):
    commands = [line.split() for line in PAGE.read_text().splitlines() if line.startswith("    planprobe run ")]
    (words,) = [words for words in commands if words[2] == folder.name]
    agents = list(EXPERIMENTS[folder.name].agents)
    if "--agents" in words:
        agents = list(takewhile(lambda word: not word.startswith("--"), words[words.index("--agents") + 1 :]))
    record = load_findings(folder).provenance
    assert [agent["name"] for agent in record["agents"]] == agents
    assert record["budget"] == "quick"
    assert words[words.index("--out") + 1] == str(folder.relative_to(ROOT))


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_what_is_kept_is_small(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "figures"]
    assert {path.name: path.stat().st_size for path in files if path.stat().st_size > 1024 * LARGEST_KB} == {}


def test_agents_that_experiments_are_run_on_are_shipped():
    names = {name for entry in EXPERIMENTS.values() for name in entry.agents}
    assert len(names) > 10
    assert [name for name in sorted(names) if not (ROOT / "agents" / name / "weights.safetensors").exists()] == []


def test_every_kept_experiment_is_told_of():
    assert KEPT
    assert [folder.name for folder in KEPT if folder.name not in TOLD] == []
