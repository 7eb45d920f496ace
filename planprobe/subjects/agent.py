"""One agent: a policy with its recipe and scorecard, read from a folder or made by a factory of yours."""

from __future__ import annotations

import hashlib
import importlib
import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from planprobe.core.errors import CheckpointError, UnknownAgentError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.store import load_strictly, load_tensors
from planprobe.subjects.envs.catalog import named_levels
from planprobe.subjects.envs.trial_catalog import TrialTask, make_trial_env
from planprobe.subjects.envs.trial_inputs import TrialInputs
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.recipe import Recipe, TaskRecipe, load_recipe
from planprobe.subjects.scorecard import NUM_LEVELS
from planprobe.subjects.training.evaluate import env_maker
from planprobe.subjects.training.worlds import make_shape_env

RECIPE_FILE, WEIGHTS_FILE, METRICS_FILE, CARD_FILE = "recipe.toml", "weights.safetensors", "metrics.json", "CARD.md"
RESUME_FILE = "resume.safetensors"


@dataclass(frozen=True)
class Agent:
    """A policy with everything needed to put it to work.

    net: untouched by instruments, which open a copy. recipe: task, net and training. metrics: its scorecard, empty
    where none was published. folder: None for agents made by a factory. frames: environment steps it was trained for.
    """

    name: str
    net: Policy
    recipe: Recipe
    metrics: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    frames: int = 0

    @property
    def task(self) -> TaskRecipe:
        """The task on boards that it was trained on. Raises: RecipeError (it plays trials)."""
        return self.recipe.board_task

    @property
    def trial_task(self) -> TrialTask:
        """The task with trials that it was trained on. Raises: RecipeError (it plays single episodes on levels)."""
        return self.recipe.trial_task

    def make_trials(self, num_trials: int, **options: Any) -> TrialInputs:
        """One trial a board, as `core.play_trials` takes them; options (seed, device) of `make_trial_env`."""
        return make_trial_env(self.trial_task, self.recipe.inputs, num_trials, **options)

    @property
    def make_env(self) -> EnvMaker:
        """Environments of its task for evaluation, as instruments take them."""
        return env_maker(self.task)

    def levels(self, name: str = "test", num_levels: int = NUM_LEVELS) -> LevelSet:
        """A named level set of its task; see `envs.catalog.named_levels`."""
        return named_levels(self.task, name, num_levels)


def load_folder(folder: Path, file: Path | None = None) -> Agent:
    """Load an agent's folder or a run's. file: where one weights file was named.

    Raises: CheckpointError (nothing there, truncated, foreign, of another recipe, other shapes); RecipeError.
    """
    candidates = [folder / WEIGHTS_FILE, folder / RESUME_FILE]
    file = file or next((path for path in candidates if path.is_file()), None)
    if file is None:
        next_move = (
            f"it has a recipe, so train it: planprobe train {folder / RECIPE_FILE}"
            if (folder / RECIPE_FILE).is_file()
            else "planprobe train RECIPE.toml makes a run, planprobe agents publish RUN an agent of it."
        )
        raise CheckpointError(
            f"'{folder}' holds neither {WEIGHTS_FILE} (an agent) nor {RESUME_FILE} (a training run).\n"
            f"  Next: {next_move}"
        )
    tensors, metadata = load_tensors(file)
    recipe = load_recipe(folder / RECIPE_FILE)
    if metadata.get("recipe_hash") not in (recipe.hash(), _hash_as_written(folder / RECIPE_FILE)):
        raise CheckpointError(
            f"'{file}' belongs to another recipe than '{folder / RECIPE_FILE}'; nothing was loaded.\n"
            "  Next: put the recipe back that it was trained with, or train anew with this one."
        )
    if file.name != WEIGHTS_FILE:
        tensors = {key.removeprefix("net."): value for key, value in tensors.items() if key.startswith("net.")}
    net = make_net_for(recipe.net, make_shape_env(recipe))
    load_strictly(net, tensors, where=f"'{file}'")
    net = net.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue] - a stub lacks it
    return Agent(recipe.name, net, recipe, _read_metrics(folder), folder, int(metadata.get("frames", 0)))


def _hash_as_written(path: Path) -> str:
    """Hash of the values in a recipe file alone: what `Recipe.hash` gave before recipes had keys that it lacks."""
    table = tomllib.loads(path.read_text())
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def _read_metrics(folder: Path) -> dict[str, Any]:
    path = folder / METRICS_FILE
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"'{path}' is not JSON: {error}.\n  Next: publish the agent anew.") from None


def load_factory(module: str, factory: str, task: TaskRecipe | TrialTask | None = None) -> Agent:
    """Import `module` and call its `factory`; see `zoo.load_agent`. Raises: UnknownAgentError."""
    spec = f"{module}:{factory}"
    try:
        make_agent = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise UnknownAgentError(
            f"cannot load '{spec}': {str(error).rstrip('.')}.\n"
            "  Next: check that the module can be imported from here, and that it has that name."
        ) from None
    made = make_agent()
    if isinstance(made, Agent):
        return made if task is None else replace(made, recipe=replace(made.recipe, task=task))
    policy, own_task = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    task = task or own_task
    if not isinstance(policy, Policy) or task is None or not hasattr(task, "kind"):
        raise UnknownAgentError(
            f"'{spec}' returned {type(made).__name__}; it must return an Agent, a pair (policy, task), or a policy "
            "where the task is given, as by --task maze9.\n"
            "  A policy has initial_state(num_boards, board) and step(observation, state): planprobe.core.protocols."
        )
    agent = Agent(spec, policy, Recipe(name=spec, task=task))
    _tell_shape(agent)
    return agent


def _tell_shape(agent: Agent) -> None:
    """Instruments ask a net what it sees, to list its sites before it has played; a foreign net is told."""
    if isinstance(agent.net, nn.Module) and not (hasattr(agent.net, "planes") and hasattr(agent.net, "board")):
        env = make_shape_env(agent.recipe)
        vars(agent.net).update(planes=env.num_planes, board=(env.height, env.width))
