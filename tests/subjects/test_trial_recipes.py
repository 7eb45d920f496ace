"""Recipes of tasks with trials, and old recipes beside them."""

import dataclasses
from pathlib import Path

import pytest

from planprobe.core.errors import RecipeError
from planprobe.core.store import write_atomic
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.trial import TrialEnv
from planprobe.subjects.envs.trial_catalog import TRIAL_KINDS, held_out, make_trial_env, trial_class, with_small_bank
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.nets import NETS, USED_KEYS
from planprobe.subjects.recipe import NetRecipe, TaskRecipe, load_recipe, make_recipe, recipe_to_toml
from planprobe.subjects.training.worlds import make_shape_env
from planprobe.subjects.zoo import agents_folder

AGENTS = Path(agents_folder())


@pytest.mark.parametrize("kind", TRIAL_KINDS)
def test_every_kind_of_task_is_made_from_its_recipe(kind, tmp_path):
    recipe = make_recipe({"name": "x", "task": {"kind": kind}, "inputs": {"step_index": True}})
    assert recipe.plays_trials
    assert type(recipe.task) is trial_class(kind)
    assert recipe.task == trial_class(kind)()
    assert recipe.task.kind == kind
    path = write_atomic(tmp_path / "r.toml", recipe_to_toml(recipe))
    assert load_recipe(path) == recipe
    assert load_recipe(path).hash() == recipe.hash()
    env = make_shape_env(recipe)
    assert isinstance(env.env, TrialEnv)
    assert env.reset().shape == (1, env.num_planes, env.height, env.width)


def test_every_task_in_the_folder_is_known():
    """Each dataclass there that names a kind."""
    envs = Path(__file__).parents[2] / "planprobe" / "subjects" / "envs"
    lines = [
        line for path in envs.glob("*.py") for line in path.read_text().splitlines() if "kind: ClassVar[str] = " in line
    ]
    assert {line.split('"')[1] for line in lines} == set(TRIAL_KINDS)


def test_the_hash_covers_task_and_inputs():
    recipe = make_recipe({"name": "x", "task": {"kind": "bandit"}})
    others = [
        dataclasses.replace(recipe, task=BanditTask(num_arms=3)),
        dataclasses.replace(recipe, inputs=Inputs(reward=False)),
        make_recipe({"name": "x", "task": {"kind": "two-step"}}),
    ]
    assert len({recipe.hash(), *(other.hash() for other in others)}) == 4


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"task": {"kind": "bandid"}}, "Did you mean 'bandit'"),
        ({"task": {"kind": "bandit", "num_amrs": 3}}, "Did you mean 'num_arms'"),
        ({"task": {"kind": "bandit", "num_arms": 1}}, "two arms"),
        ({"task": {"kind": "bandit"}, "inputs": {"rewrad": True}}, "Did you mean 'reward'"),
        ({"task": {"kind": "maze"}, "inputs": {"reward": False}}, "belong to tasks with trials"),
        ({"task": 3}, "must be a table"),
        ({"task": {"kind": "maze-trial", "maze_id": "first"}}, "must be of type int"),
    ],
)
def test_wrong_recipes_are_refused(table, message):
    with pytest.raises(RecipeError, match=message):
        make_recipe({"name": "x", **table})


def test_a_task_is_asked_for_by_what_it_is():
    boards, trials = make_recipe({"name": "b"}), make_recipe({"name": "t", "task": {"kind": "bandit"}})
    assert boards.board_task == TaskRecipe()
    assert trials.trial_task == BanditTask()
    with pytest.raises(RecipeError, match="needs a task on levels"):
        _ = trials.board_task
    with pytest.raises(RecipeError, match="needs a task with trials"):
        _ = boards.trial_task


def test_recipes_on_levels_hash_as_if_there_were_no_trials():
    assert "inputs" not in make_recipe({"name": "b"}).to_table()


@pytest.mark.parametrize("path", sorted(AGENTS.glob("*/recipe.toml")), ids=lambda path: path.parent.name)
def test_every_recipe_of_the_zoo_loads_and_is_called_by_its_folder(path):
    recipe = load_recipe(path)
    assert recipe.name == path.parent.name
    assert recipe.seed == int(recipe.name.rpartition("-s")[2])
    assert recipe.net.kind in NETS
    assert ("-rl2-" in recipe.name) == recipe.plays_trials


def test_no_key_of_a_net_is_forgotten():
    """Every key of a recipe is read by some kind of net, and every key that a kind reads exists."""
    known = {field.name for field in dataclasses.fields(NetRecipe)} - {"kind"}
    assert set().union(*USED_KEYS.values(), ("channels", "head", "hidden")) == known
    assert USED_KEYS.keys() == NETS.keys()


def test_layouts_for_measuring_are_held_out_and_shapes_cost_no_bank():
    task = MazeTrialTask(num_mazes=500)
    assert held_out(task).split == "test"
    assert held_out(BanditTask()) == BanditTask()
    assert with_small_bank(task).num_mazes == 1
    assert with_small_bank(MazeTrialTask(maze_id=7)).num_mazes == 1000
    one, other = (make_trial_env(each, Inputs(), 2) for each in (task, with_small_bank(task)))
    assert (one.num_planes, one.height, one.width, one.longest_trial) == (
        other.num_planes, other.height, other.width, other.longest_trial,
    )  # fmt: skip
