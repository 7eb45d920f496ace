"""Concepts of boards with targets and of whole states, on boards worked out by hand and against scalar players."""

import pytest
import torch

from planprobe.core.errors import ShapeError, UnknownConceptError, UnknownNameError
from planprobe.core.grid import ACTION_NAMES, BOX
from planprobe.core.play import play
from planprobe.instruments.concepts.catalog import (
    BATTERY,
    CONCEPTS,
    Concept,
    StateConcept,
    States,
    as_binary,
    behaviour_futures,
    boards_of,
    can_label,
    expand_concepts,
    floor_mask,
    get_concept,
    sample_states,
)
from planprobe.instruments.concepts.state_concepts import return_to_go
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.level_text import levels_from_text
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.plans import observation_planner, optimal_futures
from planprobe.subjects.envs.sokoban import Sokoban

UP, DOWN, LEFT, RIGHT, NOOP = range(5)
CORRIDOR = "#######\n#@$ . #\n#     #\n#######"


class Script:
    """Plays a fixed list of actions on every board, then waits; values say how many steps were taken."""

    def __init__(self, actions):
        self.actions = torch.cat([torch.as_tensor(actions), torch.tensor([NOOP])])

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, dtype=torch.int64),)

    def step(self, observation, state):
        action = self.actions[state[0].clamp(max=len(self.actions) - 1)]
        return torch.nn.functional.one_hot(action, 5).float(), state[0].float(), (state[0] + 1,)


def play_script(text, actions, *, time_limit=50, kind=Sokoban):
    levels = levels_from_text(text, "drawn")[0]
    env = kind(levels, 1, time_limit=time_limit, noop=True, autoreset=False)
    return levels, play(Script(actions), env, torch.tensor([0]), keep_observations=True)


def futures_at(levels, rollout, *steps):
    states = States(torch.zeros(len(steps), dtype=torch.int64), torch.tensor(steps))
    return behaviour_futures(rollout, states, levels=levels), floor_mask(levels, rollout, states)


def squares_of(levels, rollout, concept, step):
    """(row, column) of every square that is not in class 0 or left out, with its class."""
    futures, floor = futures_at(levels, rollout, step)
    values = get_concept(concept).label(futures, height=levels.height, width=levels.width, floor=floor).values[0]
    return {(row, column): int(values[row, column]) for row, column in (values > 0).nonzero().tolist()}


def state_values(levels, rollout, concept, *steps):
    return get_concept(concept).label(futures_at(levels, rollout, *steps)[0]).values


# boxes and targets ---------------------------------------------------------------------------------------------------


def test_two_boxes_that_swap_targets_are_told_apart_by_where_they_land():
    text = "#########\n#   .   #\n# @$ $. #\n#       #\n#       #\n#########"
    # the left box is nearest to the upper target (1, 4), the right one to (2, 6); the right one goes up, the left right
    to_upper = [DOWN, RIGHT, RIGHT, RIGHT, UP]  # pushes the right box from (2, 5) to (1, 5)
    around = [RIGHT, UP, LEFT]  # pushes it left from (1, 5) to (1, 4)
    back = [DOWN, DOWN, LEFT, LEFT, LEFT, UP, RIGHT, RIGHT, RIGHT]  # and the left box along to (2, 6)
    levels, rollout = play_script(text, to_upper + around + back)
    assert rollout.solved.all()
    assert rollout.pushed[0].nonzero().flatten().tolist() == [4, 7, 14, 15, 16]
    assert squares_of(levels, rollout, "next-box", 0) == {(2, 5): 1}
    assert squares_of(levels, rollout, "next-target", 0) == {(1, 4): 1}
    assert squares_of(levels, rollout, "next-box", 8) == {(2, 3): 1}
    assert squares_of(levels, rollout, "next-target", 8) == {(2, 6): 1}
    assert squares_of(levels, rollout, "next-target", 16) == {(2, 6): 1}  # the last push counts
    # the right box leaves its square upwards; later the left box is pushed off that very square to the right
    assert squares_of(levels, rollout, "box-push-direction", 0)[2, 5] == 1 + UP
    assert squares_of(levels, rollout, "box-push-direction", 5)[2, 5] == 1 + RIGHT
    assert squares_of(levels, rollout, "box-push", 5) == {(1, 5): 1, (2, 3): 1, (2, 4): 1, (2, 5): 1}


def test_boards_of_states_have_boxes_where_they_were_pushed():
    levels, rollout = play_script(CORRIDOR, [DOWN, UP, RIGHT, RIGHT])
    states = States(torch.tensor([0, 0, 0]), torch.tensor([0, 2, 3]))
    boxes = (boards_of(levels, rollout, states) & BOX) != 0
    assert [boxes[row].nonzero().tolist() for row in range(3)] == [[[1, 2]], [[1, 2]], [[1, 3]]]
    seen = rollout.observations[0, states.steps, 2] != 0
    assert torch.equal(boxes, seen)


def test_boards_of_random_play_are_those_that_were_seen():
    levels = generate_sokoban(10, size=7, num_boxes=(2, 3), seed=3)
    script = torch.randint(4, (50,), generator=torch.Generator().manual_seed(1))
    rollout = play(
        Script(script), Sokoban(levels, 10, time_limit=50, noop=True, autoreset=False), torch.arange(10),
        keep_observations=True,
    )  # fmt: skip
    states = sample_states(rollout, per_level=6, seed=0)
    boards = boards_of(levels, rollout, states)
    seen = rollout.observations[states.board_ids, states.steps]
    assert rollout.pushed.any()
    assert torch.equal((boards & BOX) != 0, seen[:, 2] != 0)
    # and h steps on, where they will be seen
    ahead = 5
    states = states[states.steps + ahead < rollout.lengths[states.board_ids]]
    futures = behaviour_futures(rollout, states, levels=levels)
    floor = floor_mask(levels, rollout, states)
    later = rollout.observations[states.board_ids, states.steps + ahead]
    for name, plane in (("box-position-5", 2), ("agent-position-5", 3)):
        labels = CONCEPTS[name].label(futures, height=7, width=7, floor=floor)
        assert torch.equal(labels.values == 1, later[:, plane] != 0)
        assert torch.equal(labels.is_row, floor)


def test_positions_ahead_are_no_rows_once_the_episode_is_over():
    levels, rollout = play_script(CORRIDOR, [RIGHT, RIGHT])
    assert squares_of(levels, rollout, "agent-position-1", 0) == {(1, 2): 1}
    assert squares_of(levels, rollout, "agent-position-2", 0) == {(1, 3): 1}  # where the terminal move leads
    assert squares_of(levels, rollout, "box-position-2", 0) == {(1, 4): 1}
    futures, floor = futures_at(levels, rollout, 0, 1)
    labels = CONCEPTS["agent-position-2"].label(futures, height=levels.height, width=levels.width, floor=floor)
    assert labels.is_row[0].any()
    assert not labels.is_row[1].any()


def test_binary_versions_say_whether_and_not_which_way():
    levels, rollout = play_script(CORRIDOR, [DOWN, RIGHT, UP, RIGHT])
    for name, binary in (
        ("agent-approach-direction", "agent-visit"), ("agent-exit-direction", "agent-departure"),
        ("box-push-direction", "box-push"), ("box-approach-direction", "box-visit"),
    ):  # fmt: skip
        assert set(squares_of(levels, rollout, name, 0)) == set(squares_of(levels, rollout, binary, 0))
        assert set(squares_of(levels, rollout, binary, 0).values()) <= {1}
    mine = as_binary(CONCEPTS["agent-approach-direction"], "mine", "entered")
    assert mine.class_names == ("never", "entered")


# states --------------------------------------------------------------------------------------------------------------
def test_actions_ahead_count_from_the_present_one_and_end_with_the_episode():
    levels, rollout = play_script(CORRIDOR, [DOWN, NOOP, UP, RIGHT, RIGHT])
    assert rollout.lengths.tolist() == [5]
    assert state_values(levels, rollout, "action-ahead-1", 0, 1, 2, 3, 4).tolist() == [NOOP, UP, RIGHT, RIGHT, -1]
    assert state_values(levels, rollout, "action-ahead-4", 0, 1).tolist() == [RIGHT, -1]
    assert get_concept("action-ahead-3").class_names == ACTION_NAMES


def test_steps_left_and_return_are_known_of_episodes_that_ended_by_themselves():
    levels, rollout = play_script(CORRIDOR, [DOWN, UP, RIGHT, RIGHT])
    assert state_values(levels, rollout, "steps-left", 0, 3).flatten().tolist() == [4, 1]
    assert state_values(levels, rollout, "return-to-go", 0, 3).flatten().tolist() == pytest.approx([10.6, 10.9])
    futures = futures_at(levels, rollout, 2)[0]
    assert float(return_to_go(futures, discount=0.5)[0]) == pytest.approx(-0.1 + 0.5 * 10.9)
    levels, rollout = play_script(CORRIDOR, [DOWN, UP, RIGHT, RIGHT], time_limit=3)
    assert rollout.lengths.tolist() == [3]
    for name in ("steps-left", "return-to-go"):
        assert state_values(levels, rollout, name, 0).isnan().all()
    assert state_values(levels, rollout, "predicted-value", 0, 2).flatten().tolist() == [0, 2]


def scalar_cycle(keys, moves, now):
    """Some state at or before `now` comes back after it, and the agent moved in between."""
    pairs = ((i, j) for i in range(now + 1) for j in range(now + 1, len(keys)))
    return any(keys[i] == keys[j] and moves[i] < moves[j] for i, j in pairs)


def test_there_and_back_is_a_cycle_and_waiting_is_not():
    text = "########\n#@  $ .#\n#      #\n########"
    levels, rollout = play_script(text, [NOOP, RIGHT, LEFT, NOOP, RIGHT, RIGHT, RIGHT, RIGHT])
    assert rollout.solved.all()
    cycle = state_values(levels, rollout, "in-cycle", *range(8)).tolist()
    # squares 1 1 2 1 1 2 3: both 1 and 2 are come back to, the last time by action 4
    assert cycle == [1, 1, 1, 1, 1, 0, 0, 0]
    levels, rollout = play_script(text, [RIGHT, NOOP, NOOP, UP, RIGHT, RIGHT, RIGHT])
    assert not state_values(levels, rollout, "in-cycle", *range(7)).any()


def test_a_pushed_box_breaks_the_cycle():
    text = "#######\n#     #\n#@$ . #\n#     #\n#######"
    there_and_back = [RIGHT, LEFT]  # the box has moved on, so the start is another state
    levels, rollout = play_script(text, [*there_and_back, UP, DOWN], time_limit=4)
    assert state_values(levels, rollout, "in-cycle", 0, 1, 2, 3).tolist() == [0, 0, 1, 1]


def test_cycles_of_random_play_are_those_of_a_scalar_player():
    levels = generate_sokoban(12, size=7, num_boxes=(1, 2), seed=5)
    script = torch.randint(5, (40,), generator=torch.Generator().manual_seed(2))
    rollout = play(
        Script(script), Sokoban(levels, 12, time_limit=40, noop=True, autoreset=False), torch.arange(12),
        keep_observations=True,
    )  # fmt: skip
    states = sample_states(rollout, per_level=8, seed=0)
    found = CONCEPTS["in-cycle"].label(behaviour_futures(rollout, states)).values.tolist()
    assert 0 < sum(found) < len(found)
    for value, board, step in zip(found, states.board_ids.tolist(), states.steps.tolist(), strict=True):
        length = int(rollout.lengths[board])
        keys = [tuple(rollout.observations[board, t].flatten().tolist()) for t in range(length)]
        keys.append(("end", int(rollout.positions[board, length])))  # the last board was never seen
        moves = [int(rollout.moved[board, :t].sum()) for t in range(length + 1)]
        if bool(scalar_cycle(keys, moves, step)) != bool(value):
            # the one thing seen from positions alone: the very last state came back
            assert value
            assert not rollout.solved[board]


def test_progress_and_distance_come_from_a_planner():
    text = "#######\n#@   .#\n#     #\n#######"
    levels, rollout = play_script(text, [RIGHT, LEFT, RIGHT, DOWN, RIGHT], kind=Maze, time_limit=5)
    planner = observation_planner("maze")
    futures = futures_at(levels, rollout, 0, 1, 2, 3, 4)[0]
    assert not can_label(get_concept("progress"), futures)
    seen = rollout.observations[0, :5]
    lengths = planner(seen).lengths
    before = torch.cat([torch.tensor([-1]), lengths[:-1]])
    futures = futures.with_facts(distance=lengths, distance_before=before)
    assert get_concept("distance-to-goal").label(futures).values.flatten().tolist() == [4, 3, 4, 3, 4]
    assert get_concept("progress").label(futures).values.tolist() == [-1, 1, 0, 1, 0]


def test_the_optimal_plan_gives_the_same_concepts():
    levels = levels_from_text(CORRIDOR, "drawn")[0]
    futures = optimal_futures(levels.boards, levels.players, "sokoban")
    assert get_concept("steps-left").label(futures).values.flatten().tolist() == [2]
    assert get_concept("action-ahead-1").label(futures).values.tolist() == [RIGHT]
    floor = levels.boards != 1
    target = get_concept("next-target").label(futures, height=4, width=7, floor=floor)
    assert (target.values[0] == 1).nonzero().tolist() == [[1, 4]]
    assert get_concept("return-to-go").label(futures).values.tolist() == [[pytest.approx(10.8)]]
    assert not can_label(get_concept("predicted-value"), futures)  # that is the net's own


TWO_BOXES = "########\n#@$.   #\n#   $. #\n########"  # one plan: the near box, down and round, the other box


@pytest.mark.parametrize(
    ("text", "actions", "worth", "kind"),
    [
        (CORRIDOR, [RIGHT, RIGHT], 10 + 1 - 0.2, Sokoban),
        (TWO_BOXES, [RIGHT, DOWN, RIGHT, RIGHT], 10 + 2 - 0.4, Sokoban),
        ("#####\n#@  #\n### #\n#.  #\n#####", [RIGHT, RIGHT, DOWN, DOWN, LEFT, LEFT], 10 - 0.6, Maze),
    ],
)
def test_who_follows_the_optimal_plan_has_its_labels(text, actions, worth, kind):
    """Every concept that both sources know, at every step of the only shortest way."""
    levels, rollout = play_script(text, actions, kind=kind)
    assert rollout.solved.all()
    own, floor = futures_at(levels, rollout, *range(len(actions)))
    planner = observation_planner("maze" if kind is Maze else "sokoban")
    planned = planner(rollout.observations[0, : len(actions)])
    assert get_concept("return-to-go").label(planned).values[0].item() == pytest.approx(worth)
    compared = set()
    for concept in CONCEPTS.values():
        if can_label(concept, own) and can_label(concept, planned):
            compared.add(concept.name)
            if isinstance(concept, StateConcept):
                values = [concept.label(futures).values.double() for futures in (own, planned)]
                assert torch.allclose(*values, equal_nan=True), concept.name
                continue
            size = {"height": levels.height, "width": levels.width, "floor": floor}
            labels, others = concept.label(own, **size), concept.label(planned, **size)
            for part in ("values", "horizon", "pushes"):
                assert torch.equal(getattr(labels, part), getattr(others, part)), concept.name
    assert {
        "agent-approach-direction",
        "box-push-direction",
        "next-target",
        "box-position-2",
        "return-to-go",
    } <= compared
    assert set(CONCEPTS) - compared == {"predicted-value", "distance-to-goal", "progress", "in-cycle", "psi", "belief"}


def test_latents_of_a_trial_are_whatever_the_task_says():
    levels, rollout = play_script(CORRIDOR, [RIGHT, RIGHT])
    futures = futures_at(levels, rollout, 0, 1)[0]
    with pytest.raises(UnknownNameError, match="no fact 'belief'"):
        get_concept("belief").label(futures)
    futures = futures.with_facts(belief=torch.tensor([[0.2, 0.8], [0.5, 0.5]]))
    assert get_concept("belief").label(futures).values.shape == (2, 2)


# concepts of one's own, and errors -----------------------------------------------------------------------------------
def test_a_state_concept_of_ones_own_is_one_function():
    waits = StateConcept("waits", ("no", "yes"), lambda futures: (~futures.moved[:, 0]).long())
    levels, rollout = play_script(CORRIDOR, [NOOP, LEFT, RIGHT])
    assert waits.label(futures_at(levels, rollout, 0, 1, 2)[0]).values.tolist() == [1, 1, 0]
    speed = StateConcept("moves-left", (), lambda futures: futures.moved.sum(1).float())
    labels = speed.label(futures_at(levels, rollout, 0, 2)[0])
    assert labels.values.tolist() == [[1.0], [1.0]]
    assert labels.is_row.all()


def test_what_a_function_returns_is_checked():
    levels, rollout = play_script(CORRIDOR, [RIGHT])
    futures, floor = futures_at(levels, rollout, 0)
    with pytest.raises(ShapeError, match="for 1 states"):
        StateConcept("bad", ("a", "b"), lambda futures: torch.zeros(3)).label(futures)
    with pytest.raises(ShapeError, match="0 a, 1 b"):
        StateConcept("bad", ("a", "b"), lambda futures: torch.tensor([2])).label(futures)
    with pytest.raises(ShapeError, match="gave classes"):
        Concept("bad", ("a", "b"), lambda futures: torch.zeros(1, 3)).label(futures, height=4, width=7, floor=floor)


def test_names_are_expanded():
    everything = expand_concepts("all")
    assert [concept.name for concept in everything] == list(BATTERY)
    assert expand_concepts(["next-box", "all", "next-box"])[0].name == "next-box"
    assert len(expand_concepts(["next-box", "all"])) == len(BATTERY)
    with pytest.raises(UnknownConceptError, match="action-ahead-1"):
        expand_concepts(["action-ahead-11"])
