"""What the documents say is so: examples run, commands and files exist, numbers are those of the agents' scorecards."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from planprobe.cli.main import VERBS
from planprobe.core.axes import AXES
from planprobe.core.records import Evidence
from planprobe.subjects.scorecard import FIRST_MOVE, RESET, find_score
from planprobe.subjects.trial_measures import SHORTER
from planprobe.subjects.trial_scores import LENGTH_RATIO, find_trial_score
from planprobe.subjects.zoo import list_agents, load_agent
from planprobe.verdict.figures.vector import rebuild_svgs
from planprobe.verdict.judge import READINGS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
JUDGED_BY = ("D1", "D2", "D4", "D5", "D7", "D10")  # columns of README's table of studies
JUDGED_IN_TRIALS = ("D8", "D10", "D11", "D12", "D13", "D14")  # and of that of agents with trials
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(ROOT / "planprobe").rglob("*.md")])
PLACES = ("", "planprobe", "planprobe/subjects", "planprobe/instruments", "planprobe/verdict")  # paths are cut short
MADE_BY_COMMANDS = ("runs", "results", ".venv")
WORDS = (
    "level", "episode", "trial", "step", "tick", "thinking step", "site", "cache", "clean, corrupted", "patch",
    "ablate", "steer", "concept", "control", "horizon", "evidence", "verdict", "organism", "ψ", "belief",
)  # fmt: skip


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)


def command_lines(path: Path) -> list[str]:
    """Lines of code blocks, and code in running text, that call planprobe, make or a module of ours."""
    text = re.sub(r"^```python\n.*?^```", "", path.read_text(), flags=re.M | re.S)
    indented = re.findall(r"^    (.+)$", text, re.M)
    spans = re.findall(r"`([^`\n]+)`", text)
    lines = [line.split("#")[0].strip() for line in indented + spans]
    return [line for line in lines if line.startswith(("planprobe ", "make ", "python -m "))]


def code_spans(path: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", text)


def table_rows(path: Path) -> dict[str, list[str]]:
    """Rows of every table by their first cell, less its code marks."""
    lines = [line.strip().strip("|").split("|") for line in path.read_text().splitlines() if line.startswith("| ")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}


# the examples --------------------------------------------------------------------------------------------------------
def test_the_example_runs(capsys):
    block = python_blocks(README)[0]
    name = re.search(r'load_agent\("(.+?)"\)', block)[1]
    if name not in list_agents():
        pytest.skip(f"agent '{name}' is not in the zoo yet, and the example plays it")
    exec(compile(block, "README.md", "exec"), {})
    share, shape = re.fullmatch(r"tensor\((.+)\) torch\.Size\((.+)\)", capsys.readouterr().out.strip()).groups()
    assert 0 <= float(share) <= 1
    assert len(ast.literal_eval(shape)) == 5


def test_the_example_of_your_own_agent_runs(tmp_path, monkeypatch):
    """As it stands in README: saved as a file, loaded by its name, played and opened."""
    from planprobe.core.play import play_levels
    from planprobe.instruments.hooks import open_policy, select_sites

    (tmp_path / "my_agent.py").write_text(python_blocks(README)[1])
    monkeypatch.syspath_prepend(tmp_path)
    agent = load_agent("my_agent:make")
    levels = agent.levels("test", 3)
    opened = open_policy(agent.net)
    rollout = play_levels(opened, agent.make_env, levels, max_steps=2)
    assert rollout.actions.shape == (3, 2)
    assert select_sites(opened, "ticks.*.*.hook_h") == ["ticks.0.0.hook_h"]


# commands ------------------------------------------------------------------------------------------------------------
def options_of(verb: str) -> set[str]:
    """Long options of a verb: the fields of its dataclasses."""
    tree = ast.parse((ROOT / f"planprobe/cli/{verb}.py").read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    fields = [node.target for each in classes for node in each.body if isinstance(node, ast.AnnAssign)]
    return {"--" + field.id.replace("_", "-") for field in fields if isinstance(field, ast.Name)} | {"--help"}


def sub_verbs_of(verb: str) -> set[str]:
    """'list' of `planprobe agents list`: keys of the dict that its `run` chooses from."""
    tree = ast.parse((ROOT / f"planprobe/cli/{verb}.py").read_text())
    run = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "run")
    dicts = [node for node in ast.walk(run) if isinstance(node, ast.Dict)]
    return {key.value for each in dicts for key in each.keys if isinstance(key, ast.Constant)}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_the_table_exists(verb):
    source = ROOT / f"planprobe/cli/{verb}.py"
    assert source.is_file()
    assert "def run(" in source.read_text()
    assert f"planprobe {verb}" in README.read_text()


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_commands_exist(path):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for line in command_lines(path):
        program, *words = line.split()
        if program == "make":
            assert set(words) <= set(targets), line
        elif program == "python":
            module = ROOT / words[1].replace(".", "/")
            assert module.is_dir() or module.with_suffix(".py").is_file(), line
        elif words[0] != "VERB":
            assert words[0] in VERBS, line
            options = {word.split("=")[0] for word in words if word.startswith("--")}
            assert options <= options_of(words[0]), line
            if words[0] in ("agents", "levels") and len(words) > 1 and not words[1].startswith("-"):
                assert words[1] in sub_verbs_of(words[0]), line


# files and names -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    local = [link.split("#")[0] for link in links if not link.startswith(("http", "#"))]
    assert [link for link in local if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_files_that_are_named_exist(path):
    """`core/play.py`, `planprobe/core/`, `hooks.py`: from the root, from a room, or from the page's own folder."""
    named = [span for span in code_spans(path) if re.fullmatch(r"[\w./-]+(/|\.(py|md|toml|txt|json|csv))", span)]
    made = {"verdict.json", "metrics.json", "recipe.toml", "CARD.md", "my_agent.py"}  # found in agents and results
    named = [name for name in named if name.split("/")[0] not in MADE_BY_COMMANDS and Path(name).name not in made]
    folders = [path.parent, *(ROOT / place for place in PLACES)]
    assert [name for name in named if not any((folder / name).exists() for folder in folders)] == []


def dotted_names(path: Path) -> Iterator[tuple[str, list[str]]]:
    for span in code_spans(path):
        parts = span.removeprefix("planprobe.").split(".")
        rooms = ("core", "subjects", "instruments", "verdict", "cli")
        is_file = Path(span).suffix in (".json", ".html", ".py", ".parquet")
        if re.fullmatch(r"[\w.]+", span) and not is_file and len(parts) > 1 and parts[0] in rooms:
            yield span, parts


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_modules_and_functions_that_are_named_exist(path):
    for span, parts in dotted_names(path):
        place = ROOT / "planprobe"
        while parts and (place / parts[0]).is_dir():
            place /= parts.pop(0)
        if parts:
            place = place / f"{parts.pop(0)}.py"
            assert place.is_file(), span
        for name in parts[:1]:
            assert re.search(rf"^(def|class) {name}\b|^{name}\b.*=", place.read_text(), re.M), span


# words ---------------------------------------------------------------------------------------------------------------
def test_the_glossary_has_every_word():
    rows = table_rows(README)
    assert [word for word in WORDS if not rows.get(word, [""])[0]] == []


def test_the_glossary_has_every_axis():
    text = " ".join(README.read_text().split())
    line = text[text.index("Axes:") :]
    assert [letter for letter, axis in AXES.items() if f"{letter} {axis}" not in line] == []


def test_every_reading_is_explained():
    rows = table_rows(README)
    assert [reading for reading in READINGS if reading not in rows] == []


def test_contributing_names_what_evidence_is_made_of():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(word in text for word in (Evidence.__name__, "CLAIM", "NEEDS", "CONTROLS"))


# numbers -------------------------------------------------------------------------------------------------------------
def numbers_of(name: str) -> list[str]:
    """The last four cells of an agent's row: frames, solved, solved with memory reset, harder levels 0 -> 8."""
    metrics = json.loads((ROOT / "agents" / name / "metrics.json").read_text())
    solved, reset = find_score(metrics), find_score(metrics, **asdict(RESET))
    measure = {"measure": FIRST_MOVE, "levels": "far"} if "far" in metrics["level_hashes"] else {"levels": "medium"}
    harder = [find_score(metrics, **measure, thinking_steps=steps) for steps in (0, 8)]
    percent = [f"{100 * row['value']:.1f} %" if row else "–" for row in (solved, reset, *harder)]
    return [f"{metrics['frames'] / 1e6:.1f} M", *percent[:2], " → ".join(percent[2:])]


def returns_of(name: str) -> list[str]:
    """The cells of the row of an agent that plays trials: return episode by episode, with its memory reset (at episode
    ends, or each step of a single one), of the best player there is, and of one that goes by samples of the belief."""
    metrics = json.loads((ROOT / "agents" / name / "metrics.json").read_text())

    def cell(*conditions: dict[str, str]) -> str:
        for condition in conditions:
            if whole := find_trial_score(metrics, **condition):
                parts = [find_trial_score(metrics, episode=number, **condition) for number in range(1, 9)]
                return " → ".join(f"{row['value']:.2f}" for row in parts if row) or f"{whole['value']:.2f}"
        return "–"

    resets = [{"memory": f"reset {when}"} for when in ("at episode ends", "each step")]
    best, sampling = (
        [{"policy": player} for player in players]
        for players in (
            ("Bayes-optimal", "search, then shortest path", "solver, exact belief"),
            ("Thompson", "PSRL"),
        )  # fmt: skip
    )
    return [cell({}), cell(*resets), cell(*best), cell(*sampling)]


def second_episodes_of(name: str) -> list[str]:
    """Of an agent in mazes: second episodes solved, their length over the first's with memory kept and reset, and the
    share of second ways shorter than the first without its loops, with its interval."""
    metrics = json.loads((ROOT / "agents" / name / "metrics.json").read_text())
    solved = find_trial_score(metrics, "solved", episode=2)
    ratios = [
        find_trial_score(metrics, LENGTH_RATIO, episode=2, **condition)
        for condition in ({}, {"memory": "reset at episode ends"})
    ]
    shorter = find_trial_score(metrics, SHORTER)
    share = f"{shorter['value']:.2f} [{shorter['low']:.2f}, {shorter['high']:.2f}]" if shorter else "–"
    return [f"{100 * solved['value']:.1f} %", *(f"{row['value']:.2f}" for row in ratios), share]


@pytest.mark.parametrize("name", [name for name in list_agents(ROOT / "agents") if "-rl2-maze" in name])
def test_the_table_of_second_episodes_has_the_numbers_of_their_scorecards(name):
    found, due = table_rows(README).get(f"{name}, second episode"), second_episodes_of(name)
    assert found == due, f"README's row should be: | {name}, second episode | {' | '.join(due)} |"


@pytest.mark.parametrize("name", [name for name in list_agents(ROOT / "agents") if "-rl2-" in name])
def test_the_table_of_trials_has_the_returns_of_their_scorecards(name):
    found, due = table_rows(README).get(name), returns_of(name)
    assert found == due, f"README's row should be: | `{name}` | {' | '.join(due)} |"


@pytest.mark.parametrize("name", [name for name in list_agents(ROOT / "agents") if "-rl-" in name])
def test_the_table_of_agents_has_the_numbers_of_their_scorecards(name):
    found, due = table_rows(README).get(name, ["?"] * 5), numbers_of(name)
    assert found[1:] == due, f"README's row should be: | `{name}` | {found[0]} | {' | '.join(due)} |"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "agents").glob("*/study/verdict.json")), ids=lambda path: path.parts[-3]
)
def test_the_table_of_studies_says_what_was_found(path):
    verdict = json.loads(path.read_text())
    evidence = {item["detector"]: item for item in verdict["evidence"]}
    cells = [
        f"{evidence[name]['beyond_controls']['value']:+.2f} {evidence[name]['outcome']}" if name in evidence else "–"
        for name in (JUDGED_IN_TRIALS if "trials" in verdict["provenance"] else JUDGED_BY)
    ]
    row, due = f"{verdict['agent']}, {verdict['provenance']['budget']['name']}", [verdict["reading"], *cells]
    found = table_rows(README).get(row)
    assert found == due, f"README's row should be: | {row} | {' | '.join(due)} |"


def test_the_figure_follows_from_the_study_that_is_kept_with_its_agent():
    study = ROOT / "agents" / "drc12-rl-maze11-s0" / "study"
    if not (study / "rows" / "D1.parquet").is_file():
        pytest.skip("the rows that the figure is drawn from are not kept with the agent yet")
    (figure,) = rebuild_svgs(study, ROOT / "docs", ["first-moves"], check=True)
    assert figure.same, "docs/first-moves.svg was drawn from other numbers: make figures"


@pytest.mark.parametrize(("file", "row"), [("calibration", "{}"), ("trial_calibration", "{} in trials")])
def test_the_table_of_error_rates_is_that_of_the_calibration(file, row):
    path = ROOT / f"planprobe/verdict/{file}.json"
    if not path.is_file():
        pytest.skip(f"there is no {path.name} yet")
    for detector, each in json.loads(path.read_text())["detectors"].items():
        name = row.format(detector)
        both = (each["false_positives"], each["true_positives"])
        due = [f"{round(rate['value'] * rate['n'])} of {rate['n']}" if rate else "not measured" for rate in both]
        assert table_rows(README).get(name) == due, f"README's row should be: | {name} | {' | '.join(due)} |"


def test_every_agent_of_the_table_has_a_folder():
    names = [row for row in table_rows(README) if re.fullmatch(r"\w+-rl2?-\w+-s\d+", row)]
    assert names
    assert [name for name in names if not (ROOT / "agents" / name / "recipe.toml").is_file()] == []


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md"])
def test_no_number_is_left_open(page):
    assert [line for line in (ROOT / page).read_text().splitlines() if re.search(r"\|\s*…\s*\|", line)] == []
