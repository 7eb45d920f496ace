"""All organisms by family, with the answer that each must get: the calibration's list of known cases."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from planprobe.core.errors import RecipeError, UnknownAgentError, unknown_name
from planprobe.core.levels import LevelSet
from planprobe.core.protocols import Policy
from planprobe.subjects.envs.catalog import level_set_names, named_levels
from planprobe.subjects.envs.stimuli import two_route_mazes, two_route_sokoban
from planprobe.subjects.envs.trial_catalog import make_trial_env, trial_class
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs
from planprobe.subjects.organisms.base import Style, draw_style
from planprobe.subjects.organisms.untrained import make_untrained
from planprobe.subjects.recipe import TaskRecipe

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

PLANS, UNUSED, ADAPTS, DOES_NOT_PLAN = (
    "plans", "plan present but unused", "adapts without planning", "does not plan",
)  # fmt: skip
SWEEP, SERIAL, SAMPLED, NO_TYPE = "parallel sweep", "serial rollout", "sampled worlds", "none"
SWEEP_ONCE = f"{SWEEP}, once"
KNOWN_LEVELS = {"test": 1000, "valid": 500, "far": 1000, "medium": 0}
"""How many levels of each set a table knows, beside the two-route levels: those that a *quick* study asks about."""
KNOWN_ROUTES, ROUTE_SEED = 1200, 7


@dataclass(frozen=True)
class Family:
    """What is known of a family. answer: the right reading; kind: the right type where there is a plan, else 'none'.

    tasks: kinds of task that it can be made for. ticks: inclusive range of ticks a step. adapts_on: kinds of task on
    which the right reading is another, 'adapts without planning': there what it looks up depends on what it has learnt.
    """

    name: str
    answer: str
    kind: str
    tasks: tuple[str, ...]
    ticks: tuple[int, int] = (2, 4)
    adapts_on: tuple[str, ...] = ()

    def answer_on(self, kind: str) -> str:
        """The right reading on a kind of task."""
        return ADAPTS if kind in self.adapts_on else self.answer


BOARDS = ("maze", "sokoban")
TRIALS = ("hidden-goal", "doors", "maze-trial")
TASK_KINDS = (*BOARDS, *TRIALS)
FAMILIES = {
    family.name: family
    for family in (
        Family("reflex", DOES_NOT_PLAN, NO_TYPE, (*BOARDS, "hidden-goal", "doors")),
        Family("table", DOES_NOT_PLAN, NO_TYPE, (*BOARDS, "doors"), adapts_on=("doors",)),
        Family("untrained", DOES_NOT_PLAN, NO_TYPE, TASK_KINDS),
        Family("bystander", UNUSED, SWEEP, (*BOARDS, "hidden-goal", "doors")),
        Family("wavefront", PLANS, SWEEP, TASK_KINDS),
        Family("one-shot", PLANS, SWEEP_ONCE, BOARDS),
        Family("short-sighted", PLANS, SWEEP, ("maze",)),
        Family("rollout", PLANS, SERIAL, ("maze",), ticks=(8, 12)),
        Family("sampler", PLANS, SAMPLED, ("maze", "hidden-goal", "doors")),
        Family("mixture", PLANS, SWEEP, ("hidden-goal",)),
        Family("sweeper", ADAPTS, NO_TYPE, TRIALS),
        Family("replayer", ADAPTS, NO_TYPE, ("maze-trial",)),
    )
}


TRAINED_SIZE = 9
TRAINED = {
    family.name: family
    for family in (
        Family("signpost", DOES_NOT_PLAN, NO_TYPE, ("maze",)),
        Family("memorised", DOES_NOT_PLAN, NO_TYPE, ("maze",)),
        Family("no-use", DOES_NOT_PLAN, NO_TYPE, ("maze",)),
        Family("taught", PLANS, SWEEP, ("maze",)),
        Family("taught-serial", PLANS, SERIAL, ("maze",)),
    )
}
"""Families whose weights come from gradient descent, for one size of board and a few seeds: see `organisms.trained`."""


@dataclass(frozen=True)
class Organism:
    """One organism with its answer. policy, task: what an agent is made of; see `agent.Agent`. agent: the whole of it
    where it was trained, None where it was built."""

    policy: Policy
    family: str
    task: Any
    seed: int
    answer: str
    kind: str
    agent: Agent | None = None

    @property
    def name(self) -> str:
        return f"{self.family}-{self.task.kind}{task_size(self.task)}-s{self.seed}"


def make_organism(family: str, task: Any, seed: int = 0, *, levels: Sequence[LevelSet] | None = None) -> Organism:
    """Build one organism; the same arguments give the same one bit for bit.

    Args: task: `TaskRecipe` of a maze or of one-box Sokoban, or the options of a task with trials; a trained organism
        has its own, and only the size is asked for. levels: what tables know, in place of `known_levels(task)`.
    Raises: UnknownAgentError (no such family); RecipeError (a family that has none for this task).
    """
    if family in TRAINED and task.kind == "maze":
        from planprobe.subjects.organisms.trained import load_trained

        return load_trained(family, task.size, seed)
    if family not in FAMILIES:
        raise unknown_name("organism", family, [*FAMILIES, *TRAINED], error=UnknownAgentError)
    about = FAMILIES[family]
    if task.kind not in about.tasks:
        raise RecipeError(
            f"there is no organism '{family}' for '{task.kind}': it can be made for {', '.join(about.tasks)}."
        )
    if isinstance(task, TaskRecipe) and (task.observation != "planes" or task.noop):
        raise RecipeError(f"organisms see planes and have four moves, got {task.observation!r}, noop = {task.noop}.")
    if task.kind == "sokoban" and tuple(task.num_boxes) != (1, 1):
        raise RecipeError(f"organisms of Sokoban know boards of one box, got num_boxes = {task.num_boxes}.")
    style = draw_style(seed, ticks=about.ticks)
    policy = _make_policy(family, task, style, levels).eval()
    return Organism(policy, family, task, seed, about.answer_on(task.kind), about.kind)


def named_task(kind: str, size: int = 0) -> Any:
    """The task of an organism's name, its options at their defaults; size 0: the default one. Sokoban has one box."""
    if kind not in TASK_KINDS:
        raise unknown_name("task", kind, TASK_KINDS, where="organisms", error=RecipeError)
    if kind == "sokoban":
        return TaskRecipe(size=size or 7, kind=kind)
    sizes: dict[str, Any] = {"num_doors" if kind == "doors" else "size": size} if size else {}
    if kind == "maze":
        return TaskRecipe(**sizes)
    return trial_class(kind)(**sizes, **({"view": "full"} if kind == "maze-trial" else {}))


def task_size(task: Any) -> int:
    """The number behind a kind of task in names: squares a side, or doors."""
    return task.num_doors if task.kind == "doors" else task.size


@lru_cache(maxsize=4)
def known_levels(task: TaskRecipe) -> tuple[LevelSet, ...]:
    """The levels that a table knows: all that a study of this task would ask about."""
    names = [name for name in level_set_names(task) if KNOWN_LEVELS.get(name)]
    two_routes = two_route_mazes if task.kind == "maze" else two_route_sokoban
    sets = [named_levels(task, name, KNOWN_LEVELS[name]) for name in names]
    return (*sets, two_routes(KNOWN_ROUTES, size=sets[0].height, seed=ROUTE_SEED).levels)


def _make_policy(family: str, task: Any, style: Style, levels: Sequence[LevelSet] | None) -> Any:
    on_board = task.kind in BOARDS
    if family == "untrained":
        env = make_trial_env(task, Inputs(), 1) if not on_board else None
        return make_untrained(style, **(_shape_of(env) if env else _board_shape(task)))
    if not on_board:
        return _class_of(family, task.kind)(task=task, style=style)
    options = _board_shape(task)
    if family in ("table", "bystander"):
        options["level_sets"] = tuple(levels) if levels is not None else known_levels(task)
    if family == "short-sighted":
        options["horizon"] = 2 * (task.size + style.seed % 3)  # some of the far starts lie within, some beyond
    return _class_of(family, task.kind)(style=style, **options)


def _board_shape(task: TaskRecipe) -> dict[str, Any]:
    return {"planes": 4 if task.kind == "sokoban" else 3, "board": (task.size, task.size)}


def _shape_of(env: TrialInputs) -> dict[str, Any]:
    return {"planes": env.num_planes, "board": (env.height, env.width), "num_actions": env.num_actions}


def _class_of(family: str, kind: str) -> Callable[..., torch.nn.Module]:
    """Its class, from the one file of this folder that is about it; nothing else is imported."""
    module, name = _PLACES[family, kind].split(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)


_PLACES = {
    ("reflex", "maze"): "reflex:Reflex",
    ("reflex", "sokoban"): "reflex:SokobanReflex",
    ("reflex", "hidden-goal"): "goal_reflex:GoalReflex",
    ("reflex", "doors"): "doors_reflex:DoorsReflex",
    ("table", "maze"): "table:Table",
    ("table", "sokoban"): "table:SokobanTable",
    ("table", "doors"): "doors_table:DoorsTable",
    ("bystander", "maze"): "bystander:Bystander",
    ("bystander", "sokoban"): "bystander:SokobanBystander",
    ("bystander", "hidden-goal"): "goal_bystander:GoalBystander",
    ("bystander", "doors"): "doors_bystander:DoorsBystander",
    ("wavefront", "maze"): "wavefront:Wavefront",
    ("wavefront", "sokoban"): "sokoban_wavefront:SokobanWavefront",
    ("wavefront", "hidden-goal"): "goal_wavefront:GoalWavefront",
    ("wavefront", "doors"): "doors_wavefront:DoorsWavefront",
    ("wavefront", "maze-trial"): "trial_wavefront:TrialWavefront",
    ("one-shot", "maze"): "one_shot:OneShot",
    ("one-shot", "sokoban"): "sokoban_one_shot:SokobanOneShot",
    ("short-sighted", "maze"): "short_sighted:ShortSighted",
    ("rollout", "maze"): "rollout:Rollout",
    ("sampler", "maze"): "sampler:Sampler",
    ("sampler", "hidden-goal"): "goal_sampler:GoalSampler",
    ("sampler", "doors"): "doors_sampler:DoorsSampler",
    ("mixture", "hidden-goal"): "mixture:Mixture",
    ("sweeper", "hidden-goal"): "sweeper:Sweeper",
    ("sweeper", "doors"): "doors_sweeper:DoorsSweeper",
    ("sweeper", "maze-trial"): "trial_sweeper:TrialSweeper",
    ("replayer", "maze-trial"): "replayer:Replayer",
}
