"""Recipes: everything that decides what an agent becomes, as frozen dataclasses and as TOML.

A file need only name what differs from the defaults. Unknown keys are an error with the nearest name: a misspelt
`entropy` that silently kept the default would train another agent than the one asked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
import types
import typing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.subjects.envs.trial_catalog import TRIAL_KINDS, TrialTask, trial_class
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.recipe_limits import check_name, check_numbers

ALGORITHMS = ("ppo", "impala", "teach")
BOARD_TASKS = ("maze", "sokoban", "boxoban")


@dataclass(frozen=True)
class TaskRecipe:
    """What the agent is trained on; see `envs.catalog` for the level sets behind it.

    kind: 'maze', 'sokoban' (generated) or 'boxoban' (files under PLANPROBE_BOXOBAN). size: squares a side, outer wall
    included. Until `warm_up_frames` frames are seen, boards are `warm_up_size` (size-free heads only) with
    `warm_up_boxes`: easier, and several times cheaper a frame. num_boxes, braid: inclusive ranges.
    num_levels: size of the training bank. time_limit: drawn per episode.
    end_when_lost: see `Sokoban`; in training alone. near_fraction, max_walk, in_sight: see `Maze`; in_sight holds of
    every split. pool: mazes alone: there are so many layouts, each with its goal, and all splits are made of them, with
    other starts (0: a split's own, as many as asked for). thinking_steps,
    thinking_fraction: see `BoardEnv`. observation: 'planes', 'rgb' or, for mazes, 'signpost': see `envs.signpost`.
    """

    kind: str = "maze"
    size: int = 11
    warm_up_size: int = 0
    warm_up_boxes: tuple[int, int] = (1, 1)
    warm_up_frames: int = 0
    num_boxes: tuple[int, int] = (1, 1)
    braid: tuple[float, float] = (0.0, 0.5)
    num_levels: int = 100_000
    time_limit: tuple[int, int] = (60, 120)
    eval_time_limit: int = 120
    end_when_lost: bool = False
    near_fraction: float = 0.0
    max_walk: int = 20
    in_sight: bool = False
    pool: int = 0
    thinking_steps: tuple[int, int] = (0, 0)
    thinking_fraction: float = 1.0
    noop: bool = False
    observation: str = "planes"
    difficulty: str = "unfiltered"


@dataclass(frozen=True)
class NetRecipe:
    """The network; see `nets`. Keys that a kind does not use keep their defaults.

    crop_border: leave the outer wall to the encoder and compute on the squares inside it. num_heads, context: of a
    transformer; context is how many steps it remembers, 0 for the longest trial of its task.
    """

    kind: str = "drc"
    channels: int = 16
    num_layers: int = 1
    num_ticks: int = 2
    pool_and_inject: bool = True
    boundary: bool = False
    crop_border: bool = False
    forget_bias: float = 1.0
    head: str = "flatten"
    hidden: int = 128
    num_blocks: int = 4
    num_heads: int = 4
    context: int = 0


@dataclass(frozen=True)
class TrainingRecipe:
    """How it is trained. algorithm: 'ppo', 'impala' (V-trace) or 'teach': no reward, but a `teacher`
    (`training.teachers`) that tells what to hold on every square after every tick; change_fraction: chance before each
    step that a wall of a board opens or closes while it is taught.

    frames: environment steps over all boards. unroll: steps between updates, the length of back-propagation through
    time. lr, entropy: start and end of a linear schedule over the first `anneal_frames` frames (0: over all of them).
    logit_l2: weight on the squared logits. reset_memory: train with memory reset each step (a control). reward_scale
    multiplies rewards before the loss sees them. predict_weight: of the error in predicting reward and next
    observation, a task beside the task; see `training.predict`.
    num_eval_levels: levels, or trials, that the run is watched on.
    """

    algorithm: str = "ppo"
    frames: int = 1_000_000
    anneal_frames: int = 0
    num_boards: int = 128
    unroll: int = 20
    gamma: float = 0.97
    lam: float = 0.95
    lr: tuple[float, float] = (1e-3, 1e-4)
    entropy: tuple[float, float] = (0.01, 0.01)
    value_weight: float = 0.5
    clip: float = 0.2
    epochs: int = 1
    num_minibatches: int = 2
    grad_clip: float = 0.5
    logit_l2: float = 0.0
    adam_eps: float = 1e-5
    reward_scale: float = 1.0
    reset_memory: bool = False
    predict_weight: float = 0.0
    teacher: str = ""
    change_fraction: float = 0.0
    eval_every: int = 500_000
    num_eval_levels: int = 256
    checkpoint_every: int = 100_000


@dataclass(frozen=True)
class Recipe:
    """A whole agent. name follows `<net>-<regime>-<task><size>[-<variant>]-s<seed>`.

    task: on boards (`TaskRecipe`), or with trials: the dataclass that `kind` names, see `envs.trial_catalog`.
    start: the agent whose weights it begins with (a zoo name or a folder), of a net with the same shapes; '' for random
    weights.
    inputs: what an agent is told beside the view; of tasks with trials alone.
    """

    name: str
    seed: int = 0
    start: str = ""
    task: TaskRecipe | TrialTask = field(default_factory=TaskRecipe)
    inputs: Inputs = field(default_factory=Inputs)
    net: NetRecipe = field(default_factory=NetRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)

    @property
    def plays_trials(self) -> bool:
        return not isinstance(self.task, TaskRecipe)

    @property
    def board_task(self) -> TaskRecipe:
        """The task, where it is one on boards. Raises: RecipeError."""
        if isinstance(self.task, TaskRecipe):
            return self.task
        raise RecipeError(
            f"'{self.name}' plays trials of the task '{self.task.kind}', and this needs a task on levels.\n"
            f"  Take an agent of one of {', '.join(BOARD_TASKS)}: planprobe agents list."
        )

    @property
    def trial_task(self) -> TrialTask:
        """The task, where it is one with trials. Raises: RecipeError."""
        if not isinstance(self.task, TaskRecipe):
            return self.task
        raise RecipeError(
            f"'{self.name}' plays single episodes on {self.task.kind} levels, and this needs a task with trials.\n"
            "  Take an agent with rl2 in its name: planprobe agents list."
        )

    def to_table(self) -> dict[str, Any]:
        """Nested tables of what TOML holds, every default but None included; `make_recipe` reads them."""
        table = json.loads(json.dumps(dataclasses.asdict(self)))
        if not self.plays_trials:
            del table["inputs"]
        if not self.start:
            del table["start"]
        options = {key: value for key, value in table["task"].items() if value is not None}
        table["task"] = {"kind": self.task.kind, **options}
        return table

    def hash(self) -> str:
        """sha256 over every value, defaults included."""
        return hashlib.sha256(json.dumps(self.to_table(), sort_keys=True).encode()).hexdigest()


def load_recipe(path: str | Path) -> Recipe:
    """Read a TOML recipe. Raises: RecipeError (missing, malformed, unknown key, value of a wrong type or range)."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe at '{path}'. Shipped ones: planprobe agents list.") from None
    except OSError as error:
        raise RecipeError(f"cannot read a recipe from '{path}': {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"'{path}' is not a TOML file: {error}.") from None
    table.setdefault("name", path.stem)
    return make_recipe(table, where=str(path))


def make_recipe(table: dict[str, Any], *, where: str = "recipe") -> Recipe:
    """Build a recipe from nested tables. Raises: RecipeError."""
    recipe = _build(Recipe, table, where)
    if recipe.training.algorithm not in ALGORITHMS:
        raise unknown_name("algorithm", recipe.training.algorithm, ALGORITHMS, where=where, error=RecipeError)
    warms_up = isinstance(recipe.task, TaskRecipe) and recipe.task.warm_up_frames > 0
    if not recipe.plays_trials and recipe.inputs != Inputs():
        raise RecipeError(f"{where}: [inputs] belong to tasks with trials, and '{recipe.task.kind}' has none.")
    if warms_up and recipe.net.head == "flatten":
        raise RecipeError(f"{where}: a flattened head cannot warm up on smaller boards; use head = 'pool'.")
    check_name(recipe.name, recipe.seed, where=where)
    if isinstance(recipe.task, TaskRecipe):
        check_numbers(recipe.task, "task", where=where)
    check_numbers(recipe.net, "net", where=where)
    check_numbers(recipe.training, "training", where=where)
    return recipe


def recipe_to_toml(recipe: Recipe) -> str:
    """Every value, defaults included, so that a later change of a default cannot change an old agent."""
    import tomli_w

    return tomli_w.dumps(recipe.to_table())


def _build(cls: type, table: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in table.items():
        if key not in hints:
            raise unknown_name("key", key, hints, where=where, error=RecipeError)
        convert = _make_task if key == "task" else partial(_convert, hints[key])
        values[key] = convert(value, f"{where}: {key}")
    try:
        return cls(**values)
    except TypeError as error:
        raise RecipeError(f"{where}: {error}.") from None


def _make_task(table: Any, where: str) -> TaskRecipe | TrialTask:
    if not isinstance(table, dict):
        raise RecipeError(f"{where} must be a table, got {table!r}.")
    kind = table.get("kind", TaskRecipe.kind)
    if kind in BOARD_TASKS:
        return _build(TaskRecipe, table, where)
    if kind not in TRIAL_KINDS:
        raise unknown_name(
            "task", kind, [*BOARD_TASKS, *TRIAL_KINDS], where=where.removesuffix(": task"), error=RecipeError
        )
    return _build(trial_class(kind), {key: value for key, value in table.items() if key != "kind"}, where)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise RecipeError(f"{where} must be a table, got {value!r}.")
        return _build(typing.cast(type, hint), value, where)
    if isinstance(hint, types.UnionType):  # of a kind and None, which TOML cannot write and a file leaves out
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if kinds[1:] == (...,) and isinstance(value, (list, tuple)):
            kinds = kinds[:1] * len(value)
        if not isinstance(value, (list, tuple)) or len(value) != len(kinds):
            raise RecipeError(f"{where} must be a list of {len(kinds)}, got {value!r}.")
        return tuple(_convert(kind, part, where) for kind, part in zip(kinds, value, strict=True))
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise RecipeError(f"{where} must be of type {hint.__name__}, got {value!r}.")
    return value
