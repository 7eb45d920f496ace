"""Notebooks run from top to bottom at the smallest budget, and keep to their rules."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import jupytext
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.util import run_sync
from nbformat.v4 import new_code_cell

from planprobe.subjects.zoo import list_agents

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
MAX_CODE_LINES = 100
EMPTY_NAMESPACE = "%reset -f"  # no notebook finds what another one left
SECONDS_A_CELL = 600  # a limit for machines that are busy; the whole takes well under a minute on a free one


def read(path: Path):
    return jupytext.read(path)


def code_of(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all notebooks: to start one and import torch takes as long as to run most of them."""
    places = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    environment = os.environ | {
        "PLANPROBE_BUDGET": "smoke", "PLANPROBE_RUNS": str(tmp_path_factory.mktemp("runs")), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(places),
    }  # fmt: skip
    manager = AsyncKernelManager(kernel_name="python3")
    run_sync(manager.start_kernel)(cwd=str(ROOT), env=environment)
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_the_smallest_budget(path, kernel):
    default = re.search(r'"PLANPROBE_AGENT", "(.+?)"', code_of(path))[1]
    agent = os.environ.get("PLANPROBE_AGENT", default)
    if agent not in list_agents() and not Path(agent).exists():
        pytest.skip(f"agent '{agent}' is not in the zoo yet; PLANPROBE_AGENT names another one")
    notebook = read(path)
    notebook.cells.insert(0, new_code_cell(EMPTY_NAMESPACE))
    client = NotebookClient(notebook, km=kernel, timeout=SECONDS_A_CELL)
    client.execute()
    client.kc.stop_channels()
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
