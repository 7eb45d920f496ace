"""The distance ladder of Sokoban, checked with the solver, and the first moves that are scored on boards."""

from __future__ import annotations

import pytest
import torch

from planprobe.core.errors import RecipeError, TooFewLevelsError, UnreachableError
from planprobe.core.grid import BOX, TARGET, WALL, move_offsets
from planprobe.core.levels import split_names
from planprobe.subjects.envs import first_moves
from planprobe.subjects.envs.catalog import named_levels
from planprobe.subjects.envs.first_moves import optimal_first_moves
from planprobe.subjects.envs.ladders_sokoban import sokoban_distance_ladder
from planprobe.subjects.envs.solver import optimal_actions, solve
from planprobe.subjects.recipe import TaskRecipe

RUNGS = (4, 8, 12)


@pytest.fixture(scope="module")
def ladder():
    return sokoban_distance_ladder(RUNGS, 12, seed=3)


def test_each_rung_is_as_far_from_the_solution_as_it_says(ladder):
    levels = ladder.levels
    for row in range(len(levels)):
        found = solve(levels.boards[row], int(levels.players[row]))
        assert found.status == "solved"
        assert found.num_moves == int(ladder.distance[row]) == RUNGS[row // 12]
    assert int(ladder.detour.min()) >= 0


def test_guessing_is_right_half_the_time(ladder):
    """Two moves can be made, one of them is optimal, on every rung."""
    levels = ladder.levels
    cells, player = levels.boards.flatten(1), levels.players
    first = optimal_first_moves(levels, "sokoban")
    for row in range(len(levels)):
        assert first[row].nonzero().flatten().tolist() == list(optimal_actions(levels.boards[row], int(player[row])))
        possible = 0
        for offset in move_offsets(levels.width).tolist()[:4]:
            ahead = int(player[row]) + offset
            pushes = bool(cells[row, ahead] & BOX)
            blocked = bool(cells[row, ahead] & WALL) or (pushes and bool(cells[row, ahead + offset] & (WALL | BOX)))
            possible += not blocked
        assert possible == 2
    assert (first.sum(1) == 1).all()


def test_layouts_and_targets_stand_on_every_rung_and_are_held_out(ladder):
    by_rung = ladder.layout_ids.view(len(RUNGS), -1)
    assert (by_rung == by_rung[0]).all()
    still = ladder.levels.boards.clone()
    still[(still & BOX) != 0] -= BOX
    assert (still.view(len(RUNGS), 12, 7, 7) == still.view(len(RUNGS), 12, 7, 7)[0]).all()
    assert ((ladder.levels.boards & TARGET) != 0).flatten(1).sum(1).eq(1).all()
    assert ((ladder.levels.boards & BOX) != 0).flatten(1).sum(1).eq(1).all()
    assert set(split_names(ladder.levels, with_player=False)) == {"test"}
    assert len(sokoban_distance_ladder(RUNGS, 12, seed=3, split=None)) == len(ladder)


def test_the_same_request_gives_the_same_ladder(ladder):
    again = sokoban_distance_ladder(RUNGS, 12, seed=3)
    assert torch.equal(again.levels.boards, ladder.levels.boards)
    assert torch.equal(again.levels.players, ladder.levels.players)
    other = sokoban_distance_ladder(RUNGS, 12, seed=4)
    assert not torch.equal(other.levels.players, ladder.levels.players)


def test_requests_that_cannot_be_met():
    with pytest.raises(RecipeError, match="different rungs"):
        sokoban_distance_ladder((4, 4), 3, seed=0)
    with pytest.raises(TooFewLevelsError, match="have them all"):
        sokoban_distance_ladder((4, 40), 3, seed=0)


def test_first_moves_of_the_solver_are_those_of_the_table_where_there_is_one_box(monkeypatch):
    """With a level of two boxes among them, all are asked of the solver; one that gives up knows nothing."""
    levels = named_levels(TaskRecipe(kind="sokoban", size=7, num_boxes=(1, 2)), "test", 30)
    single = ((levels.boards & BOX) != 0).flatten(1).sum(1) == 1
    assert 5 < int(single.sum()) < 25
    found = optimal_first_moves(levels, "sokoban")
    assert torch.equal(found[single], optimal_first_moves(levels[single], "sokoban"))
    assert found.any(1).all()

    def give_up(*_, **__):
        raise UnreachableError("no time")

    monkeypatch.setattr(first_moves, "optimal_actions", give_up)
    assert not optimal_first_moves(levels, "sokoban").any()
