"""Notebooks run from top to bottom at the smallest budget, and keep to their rules."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from planprobe.subjects.zoo import list_agents

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
MAX_CODE_LINES = 100
SECONDS_A_CELL = 600  # a limit for machines that are busy; the whole takes well under a minute on a free one


def read(path: Path):
    return jupytext.read(path)


def code_of(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_the_smallest_budget(path, monkeypatch, tmp_path):
    default = re.search(r'"PLANPROBE_AGENT", "(.+?)"', code_of(path))[1]
    agent = os.environ.get("PLANPROBE_AGENT", default)
    if agent not in list_agents() and not Path(agent).exists():
        pytest.skip(f"agent '{agent}' is not in the zoo yet; PLANPROBE_AGENT names another one")
    monkeypatch.setenv("PLANPROBE_BUDGET", "smoke")
    monkeypatch.setenv("PLANPROBE_RUNS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = read(path)
    NotebookClient(notebook, timeout=SECONDS_A_CELL, kernel_name="python3").execute(cwd=str(ROOT))
    assert shows_a_figure(notebook)


def shows_a_figure(notebook) -> bool:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    return any("plotly" in kind for kind in kinds)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_keeps_to_the_rules(path):
    """Imports planprobe alone (and os, for the budget), defines nothing, stays short, sets its budget once."""
    source = code_of(path)
    tree = ast.parse(source)
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"os", "planprobe"}
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert len([line for line in source.splitlines() if line.strip()]) <= MAX_CODE_LINES
    assert len(re.findall(r"^BUDGET = ", source, re.M)) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_text_stands_before_every_cell_and_after_every_figure(path):
    cells = read(path).cells
    for before, cell in zip([None, *cells], cells, strict=False):
        if cell.cell_type == "code":
            assert before is not None
            assert before.cell_type == "markdown"
        if before is not None and before.cell_type == "code" and draws(before.source):
            assert re.match(r"The figure shows", cell.source)
    assert not draws(cells[-1].source) or cells[-1].cell_type == "markdown"


def draws(source: str) -> bool:
    """Whether a cell ends with a figure."""
    return source.strip().splitlines()[-1].startswith(("figure", "theme.finish"))
