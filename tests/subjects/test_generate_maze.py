"""Mazes: what every one of them must be, what braid means, and who may meet whom across splits."""

import pytest
import torch

from planprobe.core.errors import RecipeError, ShapeError, TooFewLevelsError
from planprobe.core.grid import TARGET, WALL
from planprobe.core.levels import LevelSet, split_names
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.generate_maze import generate_mazes


def layouts_of(levels):
    return LevelSet(levels.boards & WALL, torch.zeros_like(levels.players))


def goals_of(levels):
    return (levels.boards == TARGET).flatten(1).to(torch.uint8).argmax(1)


def count_ways(levels):
    """Open neighbours of each cell, (N, cells, cells)."""
    free = levels.boards != WALL
    around = free.roll(1, 1).int() + free.roll(-1, 1).int() + free.roll(1, 2).int() + free.roll(-1, 2).int()
    return around[:, 1::2, 1::2]


@pytest.mark.parametrize("size", [7, 11, 25])
def test_every_maze_is_connected_walled_in_and_made_of_cells(size):
    levels = generate_mazes(40, size=size, seed=3, distinct_layouts=size > 7)
    walls = levels.boards == WALL
    assert walls[:, [0, -1]].all()
    assert walls[:, :, [0, -1]].all()
    assert not walls[:, 1::2, 1::2].any()
    assert walls[:, 2:-1:2, 2:-1:2].all()
    reached = distance_maps(walls, goals_of(levels)) >= 0
    assert torch.equal(reached, ~walls)


def test_each_maze_has_one_goal_and_a_start_apart_from_it():
    levels = generate_mazes(500, seed=0)
    assert ((levels.boards == TARGET).sum((1, 2)) == 1).all()
    assert set(levels.boards.unique().tolist()) == {0, 1, 2}
    assert (levels.boards.flatten(1).gather(1, levels.players[:, None]) == 0).all()


def test_without_braid_a_maze_is_a_tree_and_with_full_braid_nothing_is_a_dead_end():
    trees = generate_mazes(200, seed=0, braid=0.0)
    assert ((trees.boards != WALL).sum((1, 2)) == 25 + 24).all()
    assert (count_ways(generate_mazes(200, seed=0, braid=1.0)) >= 2).all()
    assert (count_ways(trees) == 1).any()


def test_braid_opens_its_share_of_the_dead_ends():
    """The same trees with and without braid: a dead end of the tree stays one with probability 1 - braid, at most."""
    trees = generate_mazes(2000, seed=5, braid=0.0, distinct_layouts=False)
    braided = generate_mazes(2000, seed=5, braid=0.4, distinct_layouts=False)
    assert ((trees.boards == WALL) | (braided.boards != WALL)).all(), "braid only takes walls away"
    dead_end = count_ways(trees) == 1
    removed = ((braided.boards != WALL).sum((1, 2)) - 49).sum()
    # two dead ends side by side may open the same wall, so a few less than 40 % of them
    assert 0.36 < removed / dead_end.sum() < 0.402


def test_a_braid_range_is_drawn_per_maze():
    extra = (generate_mazes(2000, seed=1, braid=(0.0, 1.0)).boards != WALL).sum((1, 2)) - 49
    fixed = (generate_mazes(2000, seed=1, braid=0.5).boards != WALL).sum((1, 2)) - 49
    assert abs(extra.float().mean() - fixed.float().mean()) < 0.3
    assert extra.float().std() > 1.5 * fixed.float().std()


def test_all_192_trees_of_three_by_three_cells_turn_up_and_are_28_up_to_symmetry():
    levels = generate_mazes(6000, size=7, seed=0, braid=0.0, distinct_layouts=False)
    assert len(layouts_of(levels).boards.flatten(1).unique(dim=0)) == 192
    assert len(generate_mazes(28, size=7, seed=0, braid=0.0)) == 28
    with pytest.raises(TooFewLevelsError, match="distinct_layouts=False"):
        generate_mazes(29, size=7, seed=0, braid=0.0)


def test_start_and_goal_are_uniform_over_the_floor():
    """On one fixed layout class: cells and passages, corners and centre are drawn alike."""
    levels = generate_mazes(20_000, seed=2, braid=0.0)
    for squares in (levels.players, goals_of(levels)):
        counts = squares.bincount(minlength=121).view(11, 11)[1:-1:2, 1:-1:2].flatten().float()
        expected = 20_000 / 49  # every tree has 49 floor squares, and each of the 25 cells is one of them
        assert ((counts - expected) ** 2 / expected).sum() < 60  # chi square, 25 cells: beyond 60 in under 1 of 10,000


def test_same_seed_same_levels_and_a_longer_request_starts_with_the_shorter():
    longer, shorter = generate_mazes(900, seed=7, split="test"), generate_mazes(100, seed=7, split="test")
    assert longer[:100].hash() == shorter.hash()
    assert generate_mazes(100, seed=8, split="test").hash() != shorter.hash()
    assert shorter.name == "maze11/test"


def test_how_many_mazes_are_drawn_together_changes_no_level(monkeypatch):
    expected = generate_mazes(60, size=9, seed=4, split="valid").hash()
    monkeypatch.setattr("planprobe.subjects.envs.generate_maze.CHUNK_CELLS", 100 * 16)
    assert generate_mazes(60, size=9, seed=4, split="valid").hash() == expected


def test_the_levels_of_a_seed_never_change_between_versions():
    """Stored agents and results name levels by seed: change this number only with a note in the change log."""
    assert generate_mazes(64, seed=0, split="train").hash()[:16] == "2fc6c3efc6554c87"


def test_no_layout_occurs_twice_or_in_two_splits_even_across_seeds():
    keys = {}
    for split in ("train", "valid", "test"):
        levels = generate_mazes(400, size=9, seed=len(split), split=split)
        found = layouts_of(levels).canonical_keys(with_player=False)
        assert len(set(found)) == 400
        assert set(split_names(layouts_of(levels), with_player=False)) == {split}
        keys[split] = set(found)
    assert not (keys["train"] & keys["valid"])
    assert not (keys["train"] & keys["test"])
    assert not (keys["valid"] & keys["test"])


def test_splits_take_80_10_and_10_percent():
    names = list(split_names(layouts_of(generate_mazes(4000, seed=0)), with_player=False))
    shares = [names.count(split) / 4000 for split in ("train", "valid", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.025)


def test_repeated_layouts_still_differ_in_start_or_goal():
    levels = generate_mazes(800, size=7, seed=0, split="train", distinct_layouts=False)
    assert len(set(levels.canonical_keys())) == 800
    assert set(split_names(layouts_of(levels), with_player=False)) == {"train"}


def test_nothing_asked_nothing_given():
    assert generate_mazes(0, seed=0).boards.shape == (0, 11, 11)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": 10}, ShapeError),
        ({"size": 27}, ShapeError),
        ({"size": 5}, ShapeError),
        ({"braid": 1.2}, RecipeError),
        ({"braid": (0.5, 0.2)}, RecipeError),
        ({"split": "tset"}, RecipeError),
        ({"num_levels": -1}, RecipeError),
    ],
)
def test_impossible_requests_are_refused(options, error):
    with pytest.raises(error):
        generate_mazes(**({"num_levels": 3, "seed": 0} | options))
