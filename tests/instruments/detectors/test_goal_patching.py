"""D8 on policies whose goal is where they say: in what they see, in what they hold, or nowhere but straight on."""

from functools import partial

import pytest
import torch
from torch import nn

from planprobe.core.errors import AddressError, RecipeError, ShapeError, TooFewLevelsError, UnknownNameError
from planprobe.core.grid import TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.core.play import play
from planprobe.instruments.detectors import goal_patching
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.patching.lockstep import LockstepPatch, squares_around
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.goal_swaps import MIN_DISTANCE, goal_swaps, is_round_a_corner, show_goal, straight_distance
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.nets.base import Taps
from planprobe.subjects.organisms.base import View
from planprobe.subjects.organisms.rules import reflex_scores
from planprobe.subjects.recipe import TaskRecipe

SIZE, LEVELS = 9, 12
make_env = partial(Maze, autoreset=False)


KNOWN = {}


def best_moves(walls, goals):
    """Optimal moves (B, 4, H * W), worked out once for each set of boards."""
    key = (walls.numpy().tobytes(), *goals.tolist())
    if key not in KNOWN:
        KNOWN[key] = optimal_action_mask(distance_maps(walls, goals)).flatten(2)
    return KNOWN[key]


class Walker(nn.Module):
    """Goes to the goal in its encoding ('sees'), to the first one it saw, kept in h ('holds'), or 'straight' on."""

    num_actions, planes, board = 4, 3, (SIZE, SIZE)

    def __init__(self, kind):
        super().__init__()
        self.kind, self.hook_encode = kind, nn.Identity()
        self.ticks = nn.ModuleList([nn.ModuleList([Taps(("h",))])])

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1, *self.board),)

    def step(self, observation, state):
        seen = self.hook_encode(observation.float())
        kept = state[0]
        goal = torch.where(kept.flatten(1).any(1).view(-1, 1, 1, 1), kept, seen[:, 1:2])
        goal = self.ticks[0][0]("h", goal)
        walls, player = observation[:, 0] != 0, observation[:, 2].flatten(1).argmax(1)
        target = (goal[:, 0] if self.kind == "holds" else seen[:, 1]) > 0.5
        if self.kind == "straight":
            scores = reflex_scores(View(walls, target, torch.zeros_like(walls), player))
        else:
            best = best_moves(walls, target.flatten(1).to(torch.uint8).argmax(1))
            scores = best.gather(2, player[:, None, None].expand(-1, 4, 1)).squeeze(2).float()
        return scores, scores.amax(1), (goal,)


@pytest.fixture(scope="module")
def swaps():
    return goal_swaps(TaskRecipe(kind="maze", size=SIZE), LEVELS)


@pytest.fixture(scope="module")
def opened():
    return {kind: open_policy(Walker(kind)) for kind in ("sees", "holds", "straight")}


@pytest.fixture(scope="module")
def found(opened, swaps):
    """Evidence of each walker, by place."""
    options = {"min_effect": 0.6, "look_steps": 1}
    sizes = {"sees": ((1,), (0,)), "holds": ((1,), ()), "straight": ((), ())}
    return {
        kind: goal_patching.run_everywhere(
            opened[kind], make_env, swaps, show_goal, held_steps=held, radii=radii, **options
        )
        for kind, (held, radii) in sizes.items()
    }


def shares(evidence):
    keys = ("where", "donor", "radius", "held_steps")
    return {tuple(row[key] for key in keys): row["shortest_to_donor"] for row in evidence.rows}


def test_who_goes_by_what_it_sees_is_led_by_the_encoding_as_long_as_it_is_held(found):
    evidence = found["sees"]["encoding"]
    rows = shares(evidence)
    untouched = rows["nothing", "none", None, None]
    assert (evidence.outcome, found["sees"]["memory"].outcome) == ("supported", "refuted")
    assert evidence.effect.value == rows["board", "none", None, None] == rows["both", "donor", 2, None] == 1.0
    assert rows["encoding", "donor", 2, 1] == rows["memory", "donor", 2, None] == untouched
    assert max(untouched, *(item.value for item in evidence.controls.values())) < 0.2
    assert rows["encoding", "donor", 0, None] == 1.0  # its goal is one square


def test_who_goes_by_what_it_holds_is_led_by_memory_also_when_it_is_let_go(found):
    rows = shares(found["holds"]["memory"])
    assert (found["holds"]["memory"].outcome, found["holds"]["encoding"].outcome) == ("supported", "refuted")
    assert rows["memory", "donor", 2, None] == rows["memory", "donor", 2, 1] == rows["both", "donor", 2, None] == 1.0
    assert max(rows["encoding", "donor", 2, None], rows["memory", "wrong donor", 2, None]) < 0.2


def test_straight_on_is_no_way_round_a_corner(found):
    assert {item.outcome for item in found["straight"].values()} == {"refuted"}
    assert found["straight"]["encoding"].effect.value < 0.1


def test_patching_every_square_of_the_encoding_is_being_the_donor(opened, swaps):
    ids = torch.arange(LEVELS)
    everywhere = torch.ones(LEVELS, SIZE, SIZE, dtype=torch.bool)
    patched = LockstepPatch(
        opened["sees"], lambda seen: show_goal(seen, swaps.donor_goals), ["hook_encode"], everywhere
    )
    walk = play(patched, make_env(swaps.levels, LEVELS), ids, max_steps=6)
    donor = play(opened["sees"], make_env(swaps.donor_levels, LEVELS), ids, max_steps=6)
    assert torch.equal(walk.positions, donor.positions)
    untouched = LockstepPatch(opened["sees"], lambda seen: seen, [], everywhere)
    plain = play(opened["sees"], make_env(swaps.levels, LEVELS), ids, max_steps=6)
    assert torch.equal(play(untouched, make_env(swaps.levels, LEVELS), ids, max_steps=6).logits, plain.logits)


def test_patched_steps_are_counted_from_the_first(opened, swaps):
    env = make_env(swaps.levels, LEVELS)
    observation = env.reset(torch.arange(LEVELS))
    squares = squares_around(torch.stack([swaps.own_goals, swaps.donor_goals], 1), (SIZE, SIZE), 0)
    show = partial(show_goal, goals=swaps.donor_goals)
    patched = LockstepPatch(opened["sees"], show, ["hook_encode"], squares, first=1, last=3)
    state, own, donor = patched.initial_state(LEVELS), [], []
    for _ in range(4):
        logits, _, state = patched.step(observation, state)
        own.append(bool((logits == opened["sees"].step(observation, state[:1])[0]).all()))
        donor.append(bool((logits == opened["sees"].step(show(observation), state[:1])[0]).all()))
    assert (own, donor) == ([True, False, False, True], [False, True, True, False])


def test_swaps_are_what_they_promise(swaps):
    walls, width = swaps.levels.boards == WALL, SIZE
    away = distance_maps(walls, swaps.levels.players).flatten(1)
    assert torch.equal(away.gather(1, swaps.donor_goals[:, None]).squeeze(1).long(), swaps.lengths)
    for goals in (swaps.own_goals, swaps.donor_goals):
        assert int(straight_distance(swaps.levels.players, goals, width).min()) >= MIN_DISTANCE
    squares = torch.stack(
        [swaps.levels.players, swaps.own_goals, swaps.donor_goals, swaps.wrong_goals, swaps.other_starts], 1
    )
    assert all(len(set(row)) == 5 for row in squares.tolist())
    assert not walls.flatten(1).gather(1, squares).any()
    assert bool((swaps.lengths > straight_distance(swaps.levels.players, swaps.donor_goals, width)).all())
    seen = make_env(swaps.levels, LEVELS).reset(torch.arange(LEVELS))
    assert torch.equal(
        show_goal(seen, swaps.donor_goals), make_env(swaps.donor_levels, LEVELS).reset(torch.arange(LEVELS))
    )


def test_round_a_corner_by_hand():
    """. # G      the way from the left is 6 moves, 2 as the crow flies; from below the goal it is straight
    . # .
    . . P"""
    boards = torch.full((2, 5, 5), WALL, dtype=torch.uint8)
    boards[:, 1:4, 1:4] = torch.tensor([[0, WALL, TARGET], [0, WALL, 0], [0, 0, 0]], dtype=torch.uint8)
    assert is_round_a_corner(LevelSet(boards, torch.tensor([6, 18]))).tolist() == [True, False]


def test_misuse_is_refused(opened, swaps):
    def run(levels=swaps, **options):
        return goal_patching.run(opened["sees"], make_env, levels, show_goal, min_effect=0.2, **options)

    with pytest.raises(UnknownNameError, match="encoding"):
        run(where="encodings")
    with pytest.raises(AddressError, match="look"):
        run(look_steps=0)
    with pytest.raises(AddressError, match="none"):
        LockstepPatch(opened["sees"], lambda seen: seen, [], torch.ones(1, 1, 1), first=3, last=3)
    with pytest.raises(RecipeError, match="sokoban"):
        goal_swaps(TaskRecipe(kind="sokoban", size=7), 4)
    with pytest.raises(ShapeError, match="planes"):
        show_goal(torch.zeros(2, 4, SIZE, SIZE), torch.zeros(2, dtype=torch.int64))
    few = LevelSet(swaps.levels.boards[:3], swaps.levels.players[:3])
    fewer = type(swaps)(few, few, *(getattr(swaps, name)[:3] for name in list(vars(swaps))[2:]))
    with pytest.raises(TooFewLevelsError):
        run(levels=fewer)
