"""Teachers of ticks, against exact distances and against a walker that is written out move by move."""

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.core.grid import TARGET, WALL, move_offsets
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.training.teachers import DELAY, FARTHEST, SILENT, make_teacher

LEVELS = generate_mazes(24, size=9, braid=(0.0, 0.5), seed=8)
WALLS = (LEVELS.boards & WALL) != 0
GOALS = ((LEVELS.boards & TARGET) != 0).flatten(1).to(torch.uint8).argmax(1)
DISTANCE = distance_maps(WALLS, GOALS)
FROM_START = DISTANCE.flatten(1).gather(1, LEVELS.players[:, None]).squeeze(1)


def looking(name, levels=LEVELS):
    teacher = make_teacher(name, len(levels), 9, 9)
    teacher.look(levels.boards.flatten(1), levels.players, torch.ones(len(levels), dtype=torch.bool))
    return teacher


def squares_of_plan(plan, player):
    """Follow entries from the player on, square by square; the squares in order."""
    route, here = [], int(player)
    offsets = move_offsets(9).tolist()
    while len(route) < 81:
        onward = [here + offsets[m] for m in range(4) if int(plan.flatten()[here + offsets[m]]) == m + 1]
        if not onward:
            return route
        here = onward[0]
        route.append(here)
    raise AssertionError("the plan goes round in circles")


def test_the_wave_is_the_distance_cut_at_the_number_of_ticks():
    teacher = looking("wavefront")
    optimal = optimal_action_mask(DISTANCE)
    for tick in range(1, 12):
        said = teacher.tick()
        reached = (DISTANCE >= 0) & (tick > DISTANCE)
        assert torch.equal(said["reached"] == 1, reached)
        assert torch.equal(said["value"], torch.where(reached, 1 - DISTANCE / FARTHEST, 0.0))
        told = said["move"] != SILENT
        assert torch.equal(told, reached & (DISTANCE > 0))
        assert bool(optimal.gather(1, said["move"].clamp(min=0)[:, None]).squeeze(1)[told].all())


def test_the_way_is_marked_from_the_agent_on_once_the_wave_has_come():
    teacher = looking("wavefront")
    for tick in range(1, 60):
        plan = teacher.tick()["plan"]
        ticks_since = tick - (FROM_START + 1)  # the wave has come in tick d + 1
        length = torch.minimum(ticks_since.clamp(min=0), FROM_START)
        assert torch.equal((plan > 0).flatten(1).sum(1), length.to(torch.int64))
    for board in range(len(LEVELS)):
        route = squares_of_plan(plan[board], LEVELS.players[board])
        assert len(route) == FROM_START[board]
        assert route[-1] == GOALS[board]


def scalar_walk(board):
    """The walker in plain Python: squares in the order of its ticks, and the way it keeps."""
    offsets, closed = move_offsets(9).tolist(), WALLS[board].flatten().tolist()
    here, seen, way, visits = int(LEVELS.players[board]), set(), [], []
    while True:
        seen.add(here)
        visits.append(here)
        if here == int(GOALS[board]):
            return visits, [square for square, _ in way]
        free = [m for m in range(4) if not closed[here + offsets[m]] and here + offsets[m] not in seen]
        if free:
            here += offsets[free[0]]
            way.append((here, free[0]))
        else:
            _, came_by = way.pop()
            here -= offsets[came_by]


def test_the_walker_takes_one_step_a_tick_as_the_scalar_one_does():
    teacher = looking("rollout")
    walks = [scalar_walk(board) for board in range(len(LEVELS))]
    ends = torch.tensor([len(visits) for visits, _ in walks])
    for tick in range(1, int(ends.max()) + 40):
        said = teacher.tick()
        for board, (visits, kept) in enumerate(walks):
            there = said["walker"][board].flatten().nonzero().squeeze(1).tolist()
            assert there == (visits[tick - 1 : tick] if tick < len(visits) else [])
            assert set(said["seen"][board].flatten().nonzero().squeeze(1).tolist()) == set(visits[:tick])
            planned = int((said["plan"][board] > 0).sum())  # from the goal backwards, one a tick, after the arrival
            assert planned == min(max(tick - len(visits), 0), len(kept))
    for board, (_, kept) in enumerate(walks):
        assert squares_of_plan(said["plan"][board], LEVELS.players[board]) == kept


@pytest.mark.parametrize("name", ["wavefront", "rollout"])
def test_a_changed_board_is_met_with_silence_and_then_begun_anew(name):
    teacher, changed = looking(name), LEVELS.boards.flatten(1).clone()
    for _ in range(20):
        teacher.tick()
    square = 1 * 9 + 2
    free = (LEVELS.players != square) & (square != GOALS)
    changed[free, square] ^= WALL
    teacher.look(changed, LEVELS.players, torch.zeros(len(LEVELS), dtype=torch.bool))
    fresh = make_teacher(name, len(LEVELS), 9, 9)
    fresh.look(changed, LEVELS.players, torch.ones(len(LEVELS), dtype=torch.bool))
    for _ in range(DELAY):
        assert bool((teacher.tick()["plan"] == SILENT).flatten(1).all(1)[free].all())
    for _ in range(30):
        said, expected = teacher.tick(), fresh.tick()
        for key, part in said.items():
            assert torch.equal(part[free].nan_to_num(9), expected[key][free].nan_to_num(9))


def test_advice_is_the_plan_then_and_patience_or_chance_before():
    for name in ("wavefront", "rollout"):
        teacher = looking(name)
        teacher.tick()
        first = teacher.advise()
        ahead = torch.stack([WALLS.flatten(1).gather(1, (LEVELS.players + move_offsets(9)[m])[:, None]).squeeze(1)
                             for m in range(4)], dim=1)  # fmt: skip
        shut = ahead if name == "rollout" else ~ahead
        rows = shut.any(1) & (FROM_START > 3)
        assert torch.equal(first[rows] > 0, shut[rows])
        for _ in range(150):
            plan = teacher.tick()["plan"]
        best = teacher.advise()
        assert bool((best.amax(1) == 1).all())
        step = LEVELS.players + move_offsets(9)[best.argmax(1)]
        assert torch.equal(plan.flatten(1).gather(1, step[:, None]).squeeze(1), 1 + best.argmax(1))


def test_following_the_plan_keeps_it_and_leaving_it_loses_it():
    teacher, players = looking("rollout"), LEVELS.players
    for _ in range(150):
        teacher.tick()
    far = FROM_START > 4
    onward = players + move_offsets(9)[teacher.advise().argmax(1)]
    teacher.look(LEVELS.boards.flatten(1), onward, torch.zeros(len(players), dtype=torch.bool))
    teacher.tick()
    assert bool(teacher.speaks.all())
    assert bool((teacher.advise().amax(1) == 1)[far].all())
    teacher.look(LEVELS.boards.flatten(1), players, torch.zeros(len(players), dtype=torch.bool))  # back again
    teacher.tick()
    assert not bool(teacher.speaks.any())


def test_an_unknown_teacher_is_named():
    with pytest.raises(RecipeError, match="wavefront"):
        make_teacher("wavefrnt", 1, 9, 9)
