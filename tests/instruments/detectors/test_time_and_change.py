"""D2, D3 and D10 on policies whose answer is known: who takes how long, and who notices that the world has changed."""

from functools import partial

import numpy as np
import pytest
import torch

from planprobe.core.errors import AddressError, ShapeError, TooFewLevelsError
from planprobe.core.grid import WALL
from planprobe.instruments.detectors import candidate_law, distance_law, revaluation
from planprobe.instruments.lag import CONTROLS, Lags, mean_of_strata, measure_lags
from planprobe.subjects.envs.catalog import distances_to_goal
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.ladders import candidate_ladder, count_candidates, distance_ladder
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.pairs import task_pairs
from planprobe.subjects.recipe import TaskRecipe

DISTANCES, CANDIDATES, STEPS = (4, 8, 12), (2, 4, 8), tuple(range(9))
SIZE, LAYOUTS = 9, 24
SURE = 100.0  # logit of the move that is made
make_env = partial(Maze, autoreset=False)


def solve(observation):
    """Distance to the goal (B,), the first optimal move (B,), candidates (B,) within 12 moves."""
    walls, player = observation[:, 0] != 0, observation[:, 2].flatten(1).argmax(1)
    goals = observation[:, 1].flatten(1).argmax(1)
    maps = distance_maps(walls, goals)

    def here(values):
        return values.flatten(1).gather(1, player[:, None]).squeeze(1)

    moves = optimal_action_mask(maps).flatten(2).gather(2, player[:, None, None].expand(-1, 4, 1)).squeeze(2)
    return here(maps).long(), moves.to(torch.uint8).argmax(1), here(count_candidates(walls, 12)[0])


class Thinker:
    """Needs `time(distance, candidates)` steps in a row on one board; until then it goes by `guess`.

    Memory: steps spent on what it last saw, and a number that tells boards apart. forgets_nothing: counts all steps.
    """

    num_actions = 4

    def __init__(self, time, *, counts_anything=False):
        self.time, self.counts_anything = time, counts_anything

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1), torch.full((num_boards, 1), -1.0, dtype=torch.float64))

    def step(self, observation, state):
        weights = torch.arange(1, observation[0].numel() + 1, dtype=torch.float64).sqrt()
        key = (observation.flatten(1).double() @ weights)[:, None]
        same = (key == state[1]) | self.counts_anything
        count = torch.where(same, state[0], 0.0) + 1
        if not bool(observation.any()):
            return torch.zeros(len(observation), 4), count[:, 0], (count, key)
        distance, best, candidates = solve(observation)
        wrong = (best + 1) % 4
        action = torch.where(count[:, 0] > self.time(distance, candidates), best, wrong)
        return SURE * torch.nn.functional.one_hot(action, 4).float(), count[:, 0], (count, key)


class Cached(Thinker):
    """Decides at once, on the first board that it sees, and stays with it."""

    def __init__(self):
        super().__init__(lambda distance, candidates: 0)

    def initial_state(self, num_boards, board=None):
        return (torch.full((num_boards, 1), -1.0),)

    def step(self, observation, state):
        best = solve(observation)[1][:, None].float()
        kept = torch.where(state[0] < 0, best, state[0])
        return torch.nn.functional.one_hot(kept[:, 0].long(), 4).float(), kept[:, 0], (kept,)


@pytest.fixture(scope="module")
def far_ladder():
    ladder = distance_ladder(DISTANCES, LAYOUTS, size=SIZE, seed=0)
    return ladder, first_moves(ladder.levels)


@pytest.fixture(scope="module")
def wide_ladder():
    ladder = candidate_ladder(CANDIDATES, LAYOUTS, distance=10, size=SIZE, seed=0)
    return ladder, first_moves(ladder.levels)


@pytest.fixture(scope="module")
def toggles():
    return task_pairs(TaskRecipe(kind="maze", size=SIZE), "toggle-wall", 24)


def first_moves(levels):
    optimal = optimal_action_mask(distances_to_goal(levels)[0]).flatten(2)
    return optimal.gather(2, levels.players[:, None, None].expand(-1, 4, 1)).squeeze(2)


def distance_evidence(policy, ladder, **options):
    options = {"thinking_steps": STEPS, "min_effect": 0.05} | options
    return distance_law.run(policy, make_env, *ladder, DISTANCES, **options)


def test_slope_of_lag_worked_by_hand():
    right = np.zeros((4, 1, 2))
    right[1:, 0, 0] = 1  # from the first step on
    right[3:, 0, 1] = 1  # from the third
    lags = Lags(np.array([2.0, 4.0]), np.arange(4), right, np.zeros(1), np.zeros(1))
    assert lags.lag.tolist() == [[0.5, 2.5]]
    assert lags.slopes.tolist() == [1.0]


def test_kinds_of_row_weigh_alike_and_layouts_are_the_unit():
    lags = Lags(np.array([0.0, 1.0]), np.arange(2), np.zeros((2, 5, 2)), np.array([3, 3, 3, 7, 7]), np.arange(5) == 2)
    sums = lags.by_layout(np.array([1.0, 2.0, 12.0, 3.0, 6.0]))
    assert sums.tolist() == [[[3, 2], [12, 1]], [[9, 2], [0, 0]]]
    assert mean_of_strata(sums.sum(0)) == (3 + 12) / 2
    assert mean_of_strata(sums[1]) == 4.5  # nothing of the other kind there


def test_a_route_worked_out_two_squares_a_step_is_found_and_measured(far_ladder):
    evidence = distance_evidence(Thinker(lambda distance, candidates: distance // 2), far_ladder)
    assert evidence.outcome == "supported"
    assert evidence.effect.value == pytest.approx(0.5)
    by_rung = {row["distance"]: row["lag"] for row in evidence.rows if row["variant"] == "thinking"}
    assert by_rung == pytest.approx({4.0: 1.5, 8.0: 3.5, 12.0: 5.5})


def test_a_constant_delay_is_no_law(far_ladder):
    evidence = distance_evidence(Thinker(lambda distance, candidates: torch.full_like(distance, 3)), far_ladder)
    assert evidence.outcome != "supported"
    assert evidence.effect.value == pytest.approx(0.0)


def test_time_that_may_be_spent_on_anything_is_no_evidence(far_ladder):
    clock = Thinker(lambda distance, candidates: distance // 2, counts_anything=True)
    evidence = distance_evidence(clock, far_ladder)
    assert evidence.effect.value == pytest.approx(0.5)
    assert evidence.beyond_controls.value == pytest.approx(0.0)
    assert evidence.outcome != "supported"


class Heading(Thinker):
    """Goes by the crow's way to the goal until it is done, which takes as long on every level."""

    def step(self, observation, state):
        logits, value, state = super().step(observation, state)
        if not bool(observation.any()):
            return logits, value, state
        walls, player = observation[:, 0] != 0, observation[:, 2].flatten(1).argmax(1)
        goal = observation[:, 1].flatten(1).argmax(1)
        ahead = player[:, None] + torch.tensor([-SIZE, SIZE, -1, 1])
        crow = (ahead // SIZE - goal[:, None] // SIZE) ** 2 + (ahead % SIZE - goal[:, None] % SIZE) ** 2
        crow = crow.masked_fill(walls.flatten(1).gather(1, ahead), 10**6)
        headed = SURE * torch.nn.functional.one_hot(crow.argmin(1), 4).float()
        return torch.where((value > self.time(None, None))[:, None], logits, headed), value, state


def test_heading_for_the_goal_until_one_knows_better_is_no_law(wide_ladder):
    """Without the match its guesses are right more often on one rung than on another, and that alone has a slope."""
    (ladder, moves), policy = wide_ladder, Heading(lambda distance, candidates: 4)
    lags = measure_lags(policy, make_env, ladder, moves, (1, 2, 3), STEPS, strata=ladder.heading)["thinking"]
    assert lags.slopes == pytest.approx(np.zeros(LAYOUTS))
    late = lags.lag.mean(1)
    assert late[lags.strata == 1] == pytest.approx(0.0)
    assert late[lags.strata == 0] == pytest.approx(3.5)  # wrong on looks 0 to 3, half a step of each end
    assert mean_of_strata(lags.by_layout(late).sum(0)) == pytest.approx(1.75)


class Soft(Thinker):
    """Leans to the optimal move by as much as the steps it has seen the board."""

    def step(self, observation, state):
        _, value, state = super().step(observation, state)
        if not bool(observation.any()):
            return torch.zeros(len(observation), 4), value, state
        best = torch.nn.functional.one_hot(solve(observation)[1], 4)
        return value.log()[:, None] * best, value, state


def test_first_moves_are_scored_by_their_probability(far_ladder):
    ladder, moves = far_ladder
    lags = measure_lags(Soft(lambda distance, candidates: 0), make_env, ladder, moves, DISTANCES, (0, 1, 3))
    for step, right in zip((0, 1, 3), lags["thinking"].right, strict=True):
        assert right == pytest.approx((step + 1) / (step + 4))  # of n, 1, 1, 1
    assert all(lags[name].right == pytest.approx(0.25) for name in CONTROLS)  # always the first look at this board


def test_serial_search_shows_in_candidates_and_a_sweep_does_not(wide_ladder):
    options = {"thinking_steps": STEPS, "min_effect": 0.2}
    serial = Thinker(lambda distance, candidates: candidates // 2)
    evidence = candidate_law.run(serial, make_env, *wide_ladder, CANDIDATES, **options)
    assert evidence.outcome == "supported"
    assert evidence.effect.value > 0.5
    sweep = Thinker(lambda distance, candidates: distance // 2)
    evidence = candidate_law.run(sweep, make_env, *wide_ladder, CANDIDATES, **options)
    assert evidence.outcome != "supported"
    assert evidence.effect.value == pytest.approx(0.0)
    assert "4.500 thinking steps" in evidence.notes[-1]


def test_revaluation_tells_replanning_from_a_stored_route(toggles):
    planner = Thinker(lambda distance, candidates: torch.zeros_like(distance))
    evidence = revaluation.run(planner, make_env, toggles, min_effect=0.2)
    assert evidence.outcome == "supported"
    assert evidence.effect.value == 1.0
    assert evidence.controls["old board"].value == 0.0
    stored = revaluation.run(Cached(), make_env, toggles, min_effect=0.2)
    assert stored.outcome != "supported"
    assert stored.effect.value == 0.0
    rows = {(row["condition"], row["thinking_steps_after"]): row for row in stored.rows}
    assert rows["new board, no memory", 0]["new_move"] == 1.0  # it could have known, had it not stored the old way
    assert rows["new board", 0]["old_move"] == 1.0
    leads = {key: row["lead"] for key, row in rows.items() if row["judged"]}
    assert leads == {
        ("new board", 0): 0.0, ("new board, no memory", 0): 1.0, ("old board", 0): None,
        ("memory reset, old board", 0): None,
    }  # fmt: skip


def test_a_slow_planner_is_judged_at_once_and_shown_later(toggles):
    slow = Thinker(lambda distance, candidates: torch.full_like(distance, 2))
    evidence = revaluation.run(slow, make_env, toggles, steps_after=(0, 1, 2, 4), min_effect=0.2)
    rows = {row["thinking_steps_after"]: row["new_move"] for row in evidence.rows if row["condition"] == "new board"}
    assert (rows[0], rows[1], rows[2], rows[4]) == (0.0, 0.0, 1.0, 1.0)
    assert evidence.outcome != "supported"


def test_misuse_is_refused(far_ladder, toggles):
    ladder, moves = far_ladder
    planner = Thinker(lambda distance, candidates: distance)
    with pytest.raises(AddressError, match="needs 0"):
        measure_lags(planner, make_env, ladder, moves, DISTANCES, (1, 2))
    with pytest.raises(ShapeError, match="one level a row and rung"):
        measure_lags(planner, make_env, ladder, moves, DISTANCES[:2], STEPS)
    with pytest.raises(TooFewLevelsError):
        revaluation.run(planner, make_env, toggles[:5], min_effect=0.2)
    with pytest.raises(AddressError):
        revaluation.run(planner, make_env, toggles, steps_after=(), min_effect=0.2)


def test_mazes_of_the_fixtures_are_what_the_policies_think(far_ladder):
    ladder, _ = far_ladder
    seen = make_env(ladder.levels, 6).reset(torch.arange(6))
    assert torch.equal(solve(seen)[0], ladder.distance[:6])
    assert torch.equal(seen[:, 0] != 0, ladder.levels.boards[:6] == WALL)
