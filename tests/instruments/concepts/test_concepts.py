"""Labels on boards worked out by hand, and against a scalar player that shares no code with them."""

import pytest
import torch

from planprobe.core.errors import ShapeError, TooFewLevelsError, UnknownConceptError
from planprobe.core.grid import BOX, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.play import play, play_levels
from planprobe.instruments.concepts.catalog import (
    CONCEPTS,
    Concept,
    Events,
    Futures,
    States,
    behaviour_futures,
    branch_squares,
    floor_mask,
    get_concept,
    sample_states,
)
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.level_text import levels_from_text
from planprobe.subjects.envs.sokoban import Sokoban

UP, DOWN, LEFT, RIGHT, NOOP = range(5)
ENTRY, EXIT, PUSH, ARRIVAL = (
    "agent-approach-direction", "agent-exit-direction", "box-push-direction", "box-approach-direction",
)  # fmt: skip


class ScriptedPolicy:
    """Plays a fixed list of actions on every board, then waits; memory counts the steps."""

    def __init__(self, actions):
        self.actions = torch.cat([torch.as_tensor(actions), torch.tensor([NOOP])])

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, dtype=torch.int64),)

    def step(self, observation, state):
        action = self.actions[state[0].clamp(max=len(self.actions) - 1)]
        logits = torch.nn.functional.one_hot(action, 5).to(torch.float32)
        return logits, logits[:, 0], (state[0] + 1,)


def play_script(text, actions, time_limit=50):
    levels = levels_from_text(text, "drawn")[0]
    env = Sokoban(levels, 1, time_limit=time_limit, noop=True, autoreset=False)
    return levels, play(ScriptedPolicy(actions), env, torch.tensor([0]))


def label(levels, rollout, concept, step):
    """Labels of one state."""
    states = States(torch.tensor([0]), torch.tensor([step]))
    floor = floor_mask(levels, rollout, states)
    futures = behaviour_futures(rollout, states)
    return get_concept(concept).label(futures, height=levels.height, width=levels.width, floor=floor)


def events_of(levels, rollout, concept, step=0):
    """What a label map says, {(row, column): (direction, horizon)}; squares without event are left out."""
    labels = label(levels, rollout, concept, step)
    found = {}
    for row, column in (labels.values[0] > 0).nonzero().tolist():
        action = int(labels.values[0, row, column]) - 1
        found[row, column] = (action, int(labels.horizon[0, row, column]))
    return found


CORRIDOR = "#######\n#@$ . #\n#     #\n#######"


def test_last_push_counts():
    levels, rollout = play_script(CORRIDOR, [RIGHT, RIGHT])
    assert rollout.solved.all()
    assert rollout.lengths.tolist() == [2]
    assert events_of(levels, rollout, PUSH) == {(1, 2): (RIGHT, 0), (1, 3): (RIGHT, 1)}
    assert events_of(levels, rollout, PUSH, step=1) == {(1, 3): (RIGHT, 0)}
    assert events_of(levels, rollout, ARRIVAL) == {(1, 3): (RIGHT, 0), (1, 4): (RIGHT, 1)}
    assert label(levels, rollout, PUSH, 0).pushes[0, 1, 3] == 1


def test_entry_and_exit_name_the_same_route_by_different_squares():
    levels, rollout = play_script(CORRIDOR, [DOWN, RIGHT, UP])
    assert events_of(levels, rollout, ENTRY) == {(2, 1): (DOWN, 0), (2, 2): (RIGHT, 1)}  # up is blocked: a box, a wall
    assert events_of(levels, rollout, EXIT) == {(1, 1): (DOWN, 0), (2, 1): (RIGHT, 1)}
    assert events_of(levels, rollout, ENTRY, step=1) == {(2, 2): (RIGHT, 0)}


def test_noops_and_blocked_moves_are_no_event_but_take_a_step():
    levels, rollout = play_script(CORRIDOR, [NOOP, LEFT, RIGHT, UP, NOOP, RIGHT])
    assert rollout.lengths.tolist() == [6]
    assert rollout.moved[0].tolist() == [False, False, True, False, False, True]
    assert events_of(levels, rollout, ENTRY) == {(1, 2): (RIGHT, 2), (1, 3): (RIGHT, 5)}
    assert events_of(levels, rollout, EXIT) == {(1, 1): (RIGHT, 2), (1, 2): (RIGHT, 5)}
    assert events_of(levels, rollout, PUSH) == {(1, 2): (RIGHT, 2), (1, 3): (RIGHT, 5)}
    assert events_of(levels, rollout, PUSH, step=3) == {(1, 3): (RIGHT, 2)}


def test_what_truncation_cut_off_never_happens():
    levels, rollout = play_script(CORRIDOR, [NOOP, RIGHT, RIGHT], time_limit=2)
    assert not rollout.solved.any()
    assert rollout.lengths.tolist() == [2]
    assert events_of(levels, rollout, ENTRY) == {(1, 2): (RIGHT, 1)}
    assert events_of(levels, rollout, PUSH) == {(1, 2): (RIGHT, 1)}


def test_walls_are_no_rows_and_floor_without_event_is_never():
    levels, rollout = play_script(CORRIDOR, [RIGHT, RIGHT])
    labels = label(levels, rollout, PUSH, 0)
    assert torch.equal(labels.values[0] == -1, levels.boards[0] == WALL)
    assert torch.equal(labels.is_row[0], levels.boards[0] != WALL)
    assert labels.values[0, 2, 3] == 0
    assert labels.horizon[0, 2, 3] == -1
    assert labels.pushes[0, 2, 3] == -1
    assert labels.class_names == ("never", "up", "down", "left", "right")
    assert labels.num_classes == 5


def test_a_square_visited_twice_keeps_its_first_visit_until_it_is_past():
    levels, rollout = play_script("######\n#@   #\n# $ .#\n######", [RIGHT, RIGHT, LEFT, LEFT, RIGHT])
    assert events_of(levels, rollout, ENTRY) == {(1, 2): (RIGHT, 0), (1, 3): (RIGHT, 1), (1, 1): (LEFT, 3)}
    assert events_of(levels, rollout, ENTRY, step=1) == {(1, 3): (RIGHT, 0), (1, 2): (LEFT, 1), (1, 1): (LEFT, 2)}
    assert events_of(levels, rollout, ENTRY, step=3) == {(1, 1): (LEFT, 0), (1, 2): (RIGHT, 1)}
    assert events_of(levels, rollout, EXIT, step=1) == {(1, 2): (RIGHT, 0), (1, 3): (LEFT, 1), (1, 1): (RIGHT, 3)}


TWO_BOXES = "########\n# .    #\n#   $  #\n#@$ .  #\n#      #\n########"


def test_two_boxes_have_their_own_directions_and_one_square_can_serve_both():
    # the lower box goes right to (3, 4)'s left neighbour; then from above the upper one is pushed down twice
    actions = [RIGHT, DOWN, RIGHT, RIGHT, RIGHT, UP, UP, UP, LEFT, DOWN, DOWN]
    levels, rollout = play_script(TWO_BOXES, actions)
    assert rollout.moved[0].nonzero().flatten().tolist() == list(range(len(actions)))
    assert rollout.pushed[0].nonzero().flatten().tolist() == [0, 9, 10]
    assert events_of(levels, rollout, PUSH) == {(3, 2): (RIGHT, 0), (2, 4): (DOWN, 9), (3, 4): (DOWN, 10)}
    labels = label(levels, rollout, PUSH, 0)
    assert [int(labels.pushes[0, r, c]) for r, c in ((3, 2), (2, 4), (3, 4))] == [0, 1, 2]
    assert events_of(levels, rollout, PUSH, step=1) == {(2, 4): (DOWN, 8), (3, 4): (DOWN, 9)}
    assert list(events_of(levels, rollout, "next-box")) == [(3, 2)]
    assert list(events_of(levels, rollout, "next-box", step=1)) == [(2, 4)]
    assert set(events_of(levels, rollout, "box-visit")) == {(3, 3), (3, 4), (4, 4)}
    assert set(events_of(levels, rollout, "agent-visit")) == set(events_of(levels, rollout, ENTRY))


# against a scalar player ---------------------------------------------------------------------------------------------
def scalar_events(levels, level, actions, start):
    """First entry, exit, push and arrival on every square from step `start`, by the rules of the game."""
    board, here = levels.boards[level].flatten().tolist(), int(levels.players[level])
    boxes = {square for square, code in enumerate(board) if code & BOX}
    offsets = move_offsets(levels.width).tolist()
    first = {name: {} for name in (ENTRY, EXIT, PUSH, ARRIVAL)}
    num_pushes = 0
    for step, action in enumerate(actions):
        ahead, beyond = here + offsets[action], here + 2 * offsets[action]
        pushes = ahead in boxes
        blocked = board[ahead] & WALL or (pushes and (board[beyond] & WALL or beyond in boxes))
        if action == NOOP or blocked:
            continue
        seen = {ENTRY: ahead, EXIT: here} | ({PUSH: ahead, ARRIVAL: beyond} if pushes else {})
        if step >= start:
            for name, square in seen.items():
                first[name].setdefault(square, (action + 1, step - start, num_pushes))
            num_pushes += pushes
        if pushes:
            boxes = (boxes - {ahead}) | {beyond}
        here = ahead
    return first


def test_every_label_of_random_play_is_that_of_a_scalar_player():
    levels = generate_sokoban(12, size=7, num_boxes=(2, 3), seed=3)
    script = torch.randint(5, (60,), generator=torch.Generator().manual_seed(1))
    env = Sokoban(levels, 12, time_limit=60, noop=True, autoreset=False)
    rollout = play(ScriptedPolicy(script), env, torch.arange(12))
    states = sample_states(rollout, per_level=4, seed=0)
    futures, floor = behaviour_futures(rollout, states), floor_mask(levels, rollout, states)
    assert rollout.pushed.sum() > 20, "the sample should hold pushes"
    found = {}
    for name in (ENTRY, EXIT, PUSH, ARRIVAL):
        labels = CONCEPTS[name].label(futures, height=7, width=7, floor=floor)
        found[name] = (
            torch.stack([labels.values.to(torch.int16), labels.horizon, labels.pushes], -1).flatten(1, 2).tolist()
        )
    for row, (level, start) in enumerate(zip(states.board_ids.tolist(), states.steps.tolist(), strict=True)):
        actions = script[: int(rollout.lengths[level])].tolist()
        expected = scalar_events(levels, level, actions, start)
        for name in found:
            for square in floor[row].flatten().nonzero().flatten().tolist():
                event = list(expected[name].get(square, (0, -1, -1)))
                assert found[name][row][square] == event, (name, level, start, square)


# states --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def rollout():
    levels = generate_sokoban(300, size=7, num_boxes=(1, 1), seed=0)
    script = torch.randint(4, (30,), generator=torch.Generator().manual_seed(0))

    def make_env(levels, num_boards):
        return Sokoban(levels, num_boards, time_limit=30, noop=True, autoreset=False)

    return play_levels(ScriptedPolicy(script), make_env, levels)


def test_states_are_distinct_active_steps_of_every_level(rollout):
    states = sample_states(rollout, per_level=5, seed=0)
    assert rollout.active[states.board_ids, states.steps].all()
    assert len({*zip(states.board_ids.tolist(), states.steps.tolist(), strict=True)}) == len(states)
    per_board = torch.bincount(states.board_ids, minlength=300)
    assert torch.equal(per_board, rollout.lengths.clamp(max=5))
    assert (rollout.lengths < 5).any() or per_board.min() == 5


def test_states_are_uniform_over_steps(rollout):
    full = rollout.lengths == 30
    drawn = torch.cat([sample_states(rollout, per_level=3, seed=s, keep=full).steps for s in range(20)])
    expected = len(drawn) / 30
    counts = torch.bincount(drawn, minlength=30)
    assert ((counts - expected) ** 2 / expected).sum() < 60  # chi-square of 29 degrees of freedom, p = .0006


def test_a_level_gives_the_same_states_in_any_rollout(rollout):
    import dataclasses

    part = dataclasses.replace(
        rollout, **{name: value[100:150] for name, value in vars(rollout).items() if value is not None}
    )
    states, some = sample_states(rollout, per_level=4, seed=7), sample_states(part, per_level=4, seed=7)
    inside = (states.board_ids >= 100) & (states.board_ids < 150)
    assert torch.equal(states[inside].steps, some.steps)
    assert not torch.equal(sample_states(rollout, per_level=4, seed=8).steps, states.steps)


def test_nothing_to_draw_from_is_an_error(rollout):
    with pytest.raises(TooFewLevelsError, match="none of 300"):
        sample_states(rollout, per_level=4, seed=0, keep=torch.zeros(300, dtype=torch.bool))


def test_futures_stand_still_after_the_end(rollout):
    states = sample_states(rollout, per_level=4, seed=0)
    futures = behaviour_futures(rollout, states)
    left = rollout.lengths[states.board_ids] - states.steps
    assert futures.actions.shape[1] == left.max()
    over = torch.arange(futures.actions.shape[1]) >= left[:, None]
    assert not futures.moved[over].any()
    assert not futures.pushed[over].any()
    assert (futures.positions.diff(dim=1)[over] == 0).all()
    here = rollout.positions[states.board_ids, states.steps]
    assert torch.equal(futures.positions[:, 0], here)


# concepts of one's own, and errors -----------------------------------------------------------------------------------
def test_a_concept_of_ones_own_is_one_function():
    def find_vertical_visits(futures: Futures) -> Events:
        return Events(futures.moved & (futures.actions < 2), futures.positions[:, 1:], futures.actions + 1)

    mine = Concept("vertical-visit", ("never", "up", "down"), find_vertical_visits)
    levels, rollout = play_script(CORRIDOR, [DOWN, RIGHT])
    assert get_concept(mine) is mine
    assert mine.num_classes == 3
    assert events_of(levels, rollout, mine) == {(2, 1): (DOWN, 0)}


def test_unknown_concepts_are_refused_with_the_nearest():
    with pytest.raises(UnknownConceptError, match="Did you mean 'box-push-direction'"):
        get_concept("box-push-directions")


def test_labels_that_would_land_elsewhere_are_refused():
    levels, rollout = play_script(CORRIDOR, [DOWN, RIGHT, RIGHT, RIGHT])
    states = States(torch.tensor([0]), torch.tensor([0]))
    futures, floor = behaviour_futures(rollout, states), floor_mask(levels, rollout, states)
    with pytest.raises(ShapeError, match="Are height and width"):
        CONCEPTS[ENTRY].label(futures, height=2, width=7, floor=floor[:, :2])
    with pytest.raises(ShapeError, match="floor is"):
        CONCEPTS[ENTRY].label(futures, height=7, width=4, floor=floor)
    nameless = Concept("half", ("never", "up"), CONCEPTS[ENTRY].find_events)
    with pytest.raises(ShapeError, match="0 never, 1 up"):
        nameless.label(futures, height=4, width=7, floor=floor)


def test_unknown_futures_are_no_rows():
    levels, rollout = play_script(CORRIDOR, [DOWN, RIGHT])
    states = States(torch.tensor([0, 0]), torch.tensor([0, 1]))
    futures = behaviour_futures(rollout, states)
    futures = Futures(futures.positions, futures.actions, futures.moved, futures.pushed, torch.tensor([True, False]))
    labels = CONCEPTS[ENTRY].label(futures, height=4, width=7, floor=floor_mask(levels, rollout, states))
    assert labels.is_row[0].any()
    assert not labels.is_row[1].any()
    assert (labels.horizon[1] == -1).all()


def test_branch_squares_have_three_ways_to_go():
    levels = levels_from_text("#######\n#@ $ .#\n### ###\n#     #\n#######", "drawn")[0]
    branches = branch_squares((levels.boards & WALL) == 0)
    assert branches[0].nonzero().tolist() == [[1, 3], [3, 3]]


def test_level_ids_not_rows_choose_the_floor():
    boards = torch.ones(3, 5, 5, dtype=torch.uint8)
    for number in range(3):
        boards[number, 1, 1 : 2 + number] = 0
    levels = LevelSet(boards, torch.full((3,), 6))
    env = Sokoban(levels, 2, time_limit=2, noop=True, autoreset=False)
    rollout = play(ScriptedPolicy([NOOP]), env, torch.tensor([2, 0]))
    floor = floor_mask(levels, rollout, States(torch.tensor([0, 1]), torch.tensor([0, 0])))
    assert floor.sum((1, 2)).tolist() == [3, 1]
