"""What somebody gets who installs planprobe: the package, its agents, a command, versions that were tested."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import planprobe
from planprobe.subjects import zoo

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
AGENT_FILES = {"recipe.toml", "weights.safetensors", "metrics.json", "CARD.md"}
TESTED_EXTRAS = ("test", "figures")  # what `make test` installs or exercises; other extras are the user's choice
OTHER_IMPORT_NAMES = {"scikit-learn": "sklearn"}
COMES_WITH = {"markupsafe": "jinja2"}  # jinja2's own interface hands it on


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The files of the wheel, made by the build step itself, offline."""
    folder = tmp_path_factory.mktemp("wheel")
    steps = ["egg_info", "--egg-base", str(folder), "build_py", "--build-lib", str(folder / "lib")]
    done = subprocess.run([sys.executable, "setup.py", "-q", *steps], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "lib"


def requirements(*extras: str) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    return [Requirement(text) for text in PROJECT["dependencies"] + [text for e in extras for text in optional[e]]]


def constraints() -> dict[str, str]:
    """name -> version, of every line of constraints.txt."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pins.items()}


# the wheel -----------------------------------------------------------------------------------------------------------
def test_the_wheel_carries_every_agent_and_nothing_else_of_theirs(built):
    agents, target = ROOT / "agents", built / "planprobe/_agents"
    source = {path.relative_to(agents): path for name in AGENT_FILES for path in agents.rglob(name)}
    packed = {path.relative_to(target): path for path in target.rglob("*.*")}
    assert source, "there are no agents to ship"
    assert packed.keys() == source.keys()
    assert all(packed[name].read_bytes() == source[name].read_bytes() for name in source)
    assert not any(path.is_symlink() for path in packed.values())


def test_an_installed_package_finds_its_agents(built, monkeypatch):
    monkeypatch.setattr(planprobe, "__file__", str(built / "planprobe/__init__.py"))
    assert zoo.agents_folder() == built / "planprobe/_agents"
    assert zoo.list_agents() == zoo.list_agents(ROOT / "agents")


def test_nothing_but_planprobe_becomes_importable(built):
    assert [path.name for path in built.iterdir()] == ["planprobe"]
    assert not list((built / "planprobe/_agents").rglob("*.py"))


def test_every_file_of_the_package_is_in_the_wheel(built):
    kinds = {".py", ".typed", ".jinja", ".json"}
    ours = {path.relative_to(ROOT) for path in (ROOT / "planprobe").rglob("*") if path.suffix in kinds}
    assert {path for path in ours if not (built / path).is_file()} == set()
    assert Path("planprobe/py.typed") in ours


def test_agents_that_were_removed_leave_the_next_build(tmp_path):
    stale = tmp_path / "lib/planprobe/_agents/retired-s0/recipe.toml"
    stale.parent.mkdir(parents=True)
    stale.write_text("name = 'retired-s0'")
    steps = ["egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run([sys.executable, "setup.py", "-q", *steps], cwd=ROOT, check=True, capture_output=True)
    assert not stale.exists()


# its face ------------------------------------------------------------------------------------------------------------
def test_the_command_leads_somewhere():
    assert PROJECT["scripts"] == {"planprobe": "planprobe.__main__:main"}
    module, name = PROJECT["scripts"]["planprobe"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert PROJECT["version"] == planprobe.__version__
    assert re.search(r"^version: (\S+)$", citation, re.M)[1] == planprobe.__version__
    assert re.search(r"^## (\d\S*)", changes, re.M)[1] == planprobe.__version__


def test_files_that_the_project_names_exist():
    assert (ROOT / PROJECT["readme"]).is_file()
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


# what it needs -------------------------------------------------------------------------------------------------------
def test_every_direct_dependency_is_pinned_to_a_version_that_fits():
    pins = constraints()
    for requirement in requirements(*TESTED_EXTRAS):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"constraints.txt does not name {name}"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} is outside {requirement}"


def test_every_import_is_declared():
    declared = {OTHER_IMPORT_NAMES.get(r.name, r.name.replace("-", "_")) for r in requirements()}
    known = declared | set(sys.stdlib_module_names) | {"planprobe"}
    for path in (ROOT / "planprobe").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            roots = {name.split(".")[0] for name in names}
            assert {COMES_WITH.get(root, root) for root in roots} <= known, path


def test_make_installs_the_tested_versions():
    lines = [line.strip() for line in (ROOT / "Makefile").read_text().splitlines()]
    installs = [line for line in lines if "pip install" in line and "--upgrade pip" not in line]
    assert installs
    assert [line for line in installs if "-c constraints.txt" not in line] == []
