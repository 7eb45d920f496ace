"""The zoo: agents as data. Load one by name, from a folder, from a run, or from your own code; publish; re-compute.

An agent's folder holds recipe.toml (what it was trained on, every value), weights.safetensors, metrics.json and
CARD.md. Nothing in it runs: weights are tensors and JSON, loaded strictly, and refused where they belong to another
recipe.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import planprobe
from planprobe.core.errors import CheckpointError, OutputError, PlanprobeError, UnknownAgentError, unknown_name
from planprobe.core.records import Row
from planprobe.core.store import save_tensors, write_atomic, write_json
from planprobe.subjects.agent import (
    CARD_FILE,
    METRICS_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    Agent,
    load_factory,
    load_folder,
)
from planprobe.subjects.agent_card import write_card
from planprobe.subjects.envs.catalog import task_levels
from planprobe.subjects.envs.trial_catalog import TrialTask
from planprobe.subjects.recipe import Recipe, TaskRecipe, load_recipe, recipe_to_toml
from planprobe.subjects.scorecard import NUM_LEVELS, compute_scores
from planprobe.subjects.trial_scores import compute_trial_scores

SCHEMA = 1
MEMORYLESS = ("resnet", "mlp")
MAX_WEIGHT_BYTES = 2_000_000  # agents travel in the repository and in the wheel


@dataclass(frozen=True)
class Verification:
    """What re-computing an agent's metrics gave. differences: rows whose numbers moved, with both values."""

    agent: str
    num_rows: int
    differences: list[Row]

    @property
    def passed(self) -> bool:
        return not self.differences


# find and load -------------------------------------------------------------------------------------------------------
def agents_folder() -> Path:
    """Where the zoo lives: in the package once installed, beside it in a source checkout."""
    package = Path(planprobe.__file__).parent
    packaged = package / "_agents"
    return packaged if packaged.is_dir() else package.parent / "agents"


def list_agents(folder: Path | None = None) -> list[str]:
    """Names in the zoo, sorted. folder: another zoo than the shipped one."""
    return sorted(path.parent.name for path in (folder or agents_folder()).glob(f"*/{WEIGHTS_FILE}"))


def list_recipes() -> list[str]:
    """Names of all recipes in the zoo, of agents that have no weights yet too, sorted."""
    return sorted(path.parent.name for path in agents_folder().glob(f"*/{RECIPE_FILE}"))


def find_twin(agent: Agent) -> str | None:
    """Name of a memoryless agent of the zoo trained on the same task, with the same seed where there is one."""

    def seen(recipe: Recipe) -> object:
        task = recipe.task
        if not isinstance(task, TaskRecipe):
            return task, recipe.inputs
        levels = (task.kind, task.size, task.num_boxes, task.braid, task.difficulty, task.pool, task.in_sight)
        return (*levels, task.observation, task.noop)

    recipes = [load_recipe(agents_folder() / name / RECIPE_FILE) for name in list_agents()]
    twins = [each for each in recipes if each.net.kind in MEMORYLESS and seen(each) == seen(agent.recipe)]
    twins.sort(key=lambda each: each.seed != agent.recipe.seed)
    return twins[0].name if twins and agent.recipe.net.kind not in MEMORYLESS else None


def load_agent(spec: str | Path, *, task: TaskRecipe | TrialTask | None = None) -> Agent:
    """Load an agent, on the CPU, ready to act.

    Args:
        spec: a name in the zoo; an agent's folder; the folder of a training run, finished or not; or
            'package.module:factory', a callable without arguments that returns an `Agent` or a pair (policy, task),
            the policy following `core.protocols.Policy` and the task a `TaskRecipe`.
        task: what such a factory's policy plays, in place of the task that it names, if any.
    Raises: UnknownAgentError (nothing there, or a task for an agent that has its own); CheckpointError (truncated,
    foreign, of another recipe); RecipeError.
    """
    text, path = str(spec), Path(spec)
    module, colon, factory = text.partition(":")
    is_factory = bool(colon) and module.replace(".", "").isidentifier() and not path.exists()
    if task is not None and not is_factory:
        raise UnknownAgentError(
            f"'{text}' plays the task that it was trained on.\n"
            "  A task can be given to a factory of yours, 'package.module:factory'."
        )
    if (agents_folder() / text / RECIPE_FILE).is_file() and path.name == text:
        return load_folder(agents_folder() / text)
    if path.is_dir():
        return load_folder(path)
    if path.is_file():
        return load_folder(path.parent, path)
    if is_factory:
        return load_factory(module, factory, task)
    hint = "Or give a folder with weights, a training run, or 'package.module:factory' for an agent of your own."
    raise unknown_name("agent", text, list_agents(), where="the zoo", next_move=hint, error=UnknownAgentError)


# measure and publish -------------------------------------------------------------------------------------------------
def compute_metrics(
    agent: Agent, *, num_levels: int = NUM_LEVELS, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """An agent's scorecard as `metrics.json` holds it: of `scorecard.compute_scores`, or of `trial_scores`.

    num_levels: of each held-out set, or trials. Minutes at full size.
    """
    recipe = agent.recipe
    if recipe.plays_trials:
        scores = compute_trial_scores(
            agent.net, recipe.trial_task, recipe.inputs, num_trials=num_levels, on_progress=on_progress
        )
    else:
        scores = compute_scores(agent.net, agent.task, num_levels=num_levels, on_progress=on_progress)
    return {"schema": SCHEMA, "agent": agent.name, "frames": agent.frames, **scores}


def verify_agent(
    spec: str | Path, *, tolerance: float = 0.0, on_progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Compute a published agent's metrics again and compare every number.

    tolerance: largest difference that still passes. Zero on the kind of machine that published; another one may round
    a convolution anew and flip an argmax here or there.
    Raises: CheckpointError (it has no metrics, or its levels are not those it was measured on).
    """
    agent = load_agent(spec)
    if "rows" not in agent.metrics:
        raise CheckpointError(f"'{agent.name}' has no {METRICS_FILE} to verify.\n  Next: planprobe agents publish RUN.")
    found = compute_metrics(agent, num_levels=agent.metrics["num_levels"], on_progress=on_progress)
    if found["level_hashes"] != agent.metrics["level_hashes"]:
        raise CheckpointError(
            f"the level sets of '{agent.name}' are not the ones it was measured on: their generator has changed.\n"
            "  Next: take the version of planprobe that its card names."
        )
    return Verification(agent.name, len(found["rows"]), _differences(agent.metrics["rows"], found["rows"], tolerance))


def _differences(stored: list[Row], found: list[Row], tolerance: float) -> list[Row]:
    """Rows of either side that the other does not confirm."""
    numbers = ("value", "low", "high", "n")

    def by_condition(rows: list[Row]) -> dict[tuple, dict[str, Any]]:
        return {tuple(value for key, value in row.items() if key not in numbers): dict(row) for row in rows}

    before, after = by_condition(stored), by_condition(found)
    moved = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        # NaN is within no tolerance
        if old is None or new is None or not all(abs(old[number] - new[number]) <= tolerance for number in numbers):
            label = {name: value for name, value in (old or new or {}).items() if name not in numbers}
            moved.append({**label, "stored": old and old["value"], "computed": new and new["value"]})
    return moved


def save_agent(
    folder: str | Path,
    recipe: Recipe,
    weights: dict[str, Tensor],
    *,
    frames: int = 0,
    level_hashes: dict[str, str] | None = None,
) -> Path:
    """Write recipe and weights so that `load_agent(folder)` finds them. weights: a state_dict of the recipe's net."""
    folder = Path(folder)
    metadata = {
        "schema": SCHEMA, "name": recipe.name, "recipe_hash": recipe.hash(), "frames": frames,
        "code_version": planprobe.__version__, "level_hashes": level_hashes or {},
    }  # fmt: skip
    write_atomic(folder / RECIPE_FILE, recipe_to_toml(recipe))
    save_tensors(folder / WEIGHTS_FILE, weights, metadata)
    return folder


def publish_agent(
    run: str | Path,
    zoo: str | Path | None = None,
    *,
    num_levels: int = NUM_LEVELS,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Turn a training run into a specimen, zoo/NAME with recipe, weights, metrics and card, all of it or nothing.

    Args: zoo: folder of agents, the shipped one by default. num_levels: of each level set in the metrics, or trials.
    Returns: the agent's folder.
    Raises: CheckpointError; OutputError (it exists and `overwrite` is false, weights over 2 MB, or not writable).
    """
    agent = load_agent(run)
    zoo = Path(zoo) if zoo is not None else agents_folder()
    target = zoo / agent.name
    if agent.folder is None or not isinstance(agent.net, nn.Module):
        raise CheckpointError(f"'{run}' made an agent without a recipe; a run of planprobe train has one.")
    weights = agent.net.state_dict()
    num_bytes = sum(weight.nbytes for weight in weights.values())
    if num_bytes > MAX_WEIGHT_BYTES:
        raise OutputError(f"the weights of '{agent.name}' take {num_bytes / 1e6:.1f} MB; the zoo takes 2 MB at most.")
    if target.exists() and not overwrite:
        raise OutputError(f"'{target}' exists already.\n  Next: --overwrite, or another zoo folder.")
    scratch = _make_scratch(zoo, agent.name)
    try:
        metrics = compute_metrics(agent, num_levels=num_levels, on_progress=on_progress)
        hashes = metrics["level_hashes"]
        if not agent.recipe.plays_trials:
            hashes = {"train": task_levels(agent.task, "train", agent.task.num_levels).hash(), **hashes}
        save_agent(scratch, agent.recipe, weights, frames=agent.frames, level_hashes=hashes)
        write_json(scratch / METRICS_FILE, metrics)
        write_atomic(scratch / CARD_FILE, write_card(agent.recipe, metrics, num_bytes, planprobe.__version__))
        _move_into_place(scratch, target)
    except OSError as error:
        raise error if isinstance(error, PlanprobeError) else _unwritable(target, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _make_scratch(zoo: Path, name: str) -> Path:
    """A folder beside the target, made before minutes of evaluation so that an unwritable zoo is found out first."""
    try:
        zoo.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=zoo, prefix=f".{name}."))
    except OSError as error:
        raise _unwritable(zoo / name, error) from None


def _move_into_place(scratch: Path, target: Path) -> None:
    scratch.chmod(0o755)
    retired = scratch.with_name(scratch.name + ".old")
    if target.exists():
        os.rename(target, retired)
    os.rename(scratch, target)
    shutil.rmtree(retired, ignore_errors=True)


def _unwritable(target: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write '{target}': {error.strerror or error}. Choose another folder.")
