"""The house rules that a reader relies on: who imports whom, what importing does, sizes, names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "planprobe"
ROOMS = ("core", "subjects", "instruments", "verdict", "experiments", "cli")
MAY_IMPORT = {
    "core": {"core"},
    "subjects": {"core", "subjects"},
    "instruments": {"core", "instruments"},
    "verdict": {"core", "subjects", "instruments", "verdict"},
    "experiments": {"core", "subjects", "instruments", "verdict", "experiments"},
    "cli": set(ROOMS),
    "__main__": {"cli"},
    "__init__": set(),
}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?)(_|$)|_(old|new|v\d+)$")
UNDER_REVIEW = ("planprobe", "tests", "benchmarks", "notebooks")

MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(path for folder in UNDER_REVIEW for path in (ROOT / folder).rglob("*.py"))


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_names(path: Path) -> Iterator[str]:
    """Every dotted name that a module imports, inside functions and under TYPE_CHECKING too."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{name.name}" for name in node.names)


def rooms_imported(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported_names(path)]
    return {part[1] for part in parts if part[0] == "planprobe" and len(part) > 1 and part[1] in ROOMS}


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names of called functions ('print', 'sys.exit') with their line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            yield ast.unparse(node.func), node.lineno


# who imports whom ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", MODULES, ids=short)
def test_imports_point_one_way(path):
    assert rooms_imported(path) <= MAY_IMPORT[room_of(path)]


def test_every_room_has_modules_and_is_known():
    assert {room_of(path) for path in MODULES} == set(MAY_IMPORT)


def test_the_scan_sees_hidden_imports(tmp_path, monkeypatch):
    """A rule that cannot fail is no rule: relative imports, imports in functions and imports for types are all seen."""
    module = PACKAGE / "core" / "not_there.py"
    source = "from ..cli import main\nimport planprobe.verdict\ndef f():\n    from planprobe import subjects\n"
    monkeypatch.setattr(sys.modules[__name__], "parse", lambda path: ast.parse(source))
    assert rooms_imported(module) == {"cli", "verdict", "subjects"}


def test_names_built_at_run_time_do_not_get_round_the_rules():
    dynamic = ("import_module", "__import__")
    users = {short(p) for p in MODULES if any(name.split(".")[-1] in dynamic for name, _ in calls(parse(p)))}
    # the public list, the verb, experiment or organism that was asked for, the factory of a user's own agent
    allowed = {"planprobe/__init__.py", "planprobe/cli/main.py", "planprobe/subjects/agent.py"}
    assert users <= allowed | {"planprobe/experiments/catalog.py", "planprobe/subjects/organisms/families.py"}


def test_one_module_touches_transformer_lens():
    users = {short(p) for p in MODULES if any(n.split(".")[0] == "transformer_lens" for n in imported_names(p))}
    assert users == {"planprobe/instruments/hooks.py"}


# what importing does -------------------------------------------------------------------------------------------------
IMPORT_EVERYTHING = """
import importlib, json, os, pkgutil, random, sys, warnings

import gymnasium, numpy, torch  # their own start-up is not ours to judge

opened, connected = [], []
def watch(event, arguments):
    if event == "open":
        opened.append(str(arguments[0]))
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen"):
        connected.append(event)
sys.addaudithook(watch)

def state():
    return {
        "torch generator": torch.get_rng_state().tolist(), "numpy generator": repr(numpy.random.get_state()),
        "python generator": repr(random.getstate()), "threads": torch.get_num_threads(),
        "default dtype": str(torch.get_default_dtype()), "default device": str(torch.empty(0).device),
        "gradients": torch.is_grad_enabled(), "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cuda": torch.cuda.is_initialized(), "environment": dict(os.environ), "folder": os.getcwd(),
    }

before = state()
import planprobe
names = [m.name for m in pkgutil.walk_packages(planprobe.__path__, "planprobe.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
after = state()
root = os.path.dirname(os.path.dirname(os.path.abspath(planprobe.__file__)))
ours = [os.path.abspath(path) for path in opened if os.path.abspath(path).startswith(root + os.sep)]
code = (".py", ".pyc", ".so")
files = [path for path in ours if not path.endswith(code) and ".pyc." not in path and not os.path.isdir(path)
         and not path.startswith(sys.prefix + os.sep)]
heavy = ("transformer_lens", "transformers", "sklearn", "plotly", "kaleido", "pandas", "jinja2")
print(json.dumps({
    "modules": len(names), "changed": [key for key in before if before[key] != after[key]], "files": files,
    "connected": connected, "heavy": [name for name in heavy if name in sys.modules],
}))
"""


def run_python(code: str) -> dict:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_does_nothing():
    """No file read, no seed set, no device picked, no connection; slow packages wait until they are used."""
    found = run_python(IMPORT_EVERYTHING)
    assert found.pop("modules") > 50
    assert found == {"changed": [], "files": [], "connected": [], "heavy": []}


def test_the_watch_on_importing_can_fail():
    deeds = "open('README.md').close(); torch.manual_seed(3); os.environ['HERE'] = '1'; import jinja2"
    code = IMPORT_EVERYTHING.replace("in names:", "in []:").replace("after = state()", f"{deeds}\nafter = state()")
    found = run_python(code)
    assert found["changed"] == ["torch generator", "environment"]
    assert found["files"] == [str(ROOT / "README.md")]
    assert found["heavy"] == ["jinja2"]


def test_the_command_line_starts_without_torch():
    code = "import json, sys, planprobe.cli.main; print(json.dumps([m for m in sys.modules if '.' not in m]))"
    assert not set(run_python(code)) & {"torch", "numpy", "tyro", "rich", "scipy", "gymnasium"}


# who prints ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) not in ("cli", "__main__")], ids=short)
def test_only_the_command_line_prints_or_exits(path):
    speaking = {"print", "sys.exit", "exit", "quit", "sys.stdout.write", "sys.stderr.write", "input", "breakpoint"}
    assert [(name, line) for name, line in calls(parse(path)) if name in speaking] == []


# sizes and names -----------------------------------------------------------------------------------------------------
def code_lines(path: Path) -> set[int]:
    """Lines that hold code, without blank lines, comments and docstrings."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    docstrings = {
        line
        for node in ast.walk(parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)) and node.body
        for first in [node.body[0]]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
        for line in range(first.lineno, (first.end_lineno or first.lineno) + 1)
    }
    lines: set[int] = set()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in skipped and token.type != tokenize.ENCODING:
                lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_files_and_functions_stay_short(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
    lines = code_lines(path)
    lengths = {
        f"{node.name}, line {node.lineno}": len(lines & set(range(node.lineno, (node.end_lineno or 0) + 1)))
        for node in ast.walk(parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_length_counts_code_alone(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        'def f():\n    """One\n    two."""\n\n    # a comment\n    text = """a\n\n    b"""\n    return text\n'
    )
    assert sorted(code_lines(path)) == [1, 6, 7, 8, 9]


def test_names_say_what_is_inside():
    stems = {path.stem for path in SOURCES} | {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert sorted(stem for stem in stems if FORBIDDEN_NAMES.search(stem)) == []
    assert all(FORBIDDEN_NAMES.search(bad) for bad in ("utils", "io_utils", "helpers", "misc", "probe_old", "probe_v2"))


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_every_module_says_what_it_is(path):
    text = path.read_text().strip()
    assert not text or ast.get_docstring(parse(path))


# nothing of the place where it was written ---------------------------------------------------------------------------
def texts() -> Iterator[Path]:
    """Everything of ours that people read."""
    kinds = {".py", ".md", ".toml", ".txt", ".cff", ".jinja", ".json"}
    folders = [ROOT / name for name in (*UNDER_REVIEW, "agents", "docs")]
    inside = (path for folder in folders for path in folder.rglob("*") if path.suffix in kinds)
    yield from sorted([*inside, *(path for path in ROOT.glob("*") if path.suffix in kinds), ROOT / "Makefile"])


def test_no_path_of_anybodys_machine():
    slash = "/"  # so that this file does not hold what it looks for
    places = re.compile(rf"(?<![\w.]){slash}(work|root|home|Users|tmp){slash}\w")
    found = [
        f"{short(path)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if places.search(line)
    ]
    assert found == []
    assert places.search(f"open('{slash}work{slash}shared')")
