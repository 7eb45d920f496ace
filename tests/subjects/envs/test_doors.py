"""Doors: rules, the filter over maps, and values against a plain recursion."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.cell_world import GOAL_REWARD, STEP_REWARD
from planprobe.subjects.envs.doors import WIDTH, DoorsTask, door_maps
from planprobe.subjects.references.door_players import (
    DoorBayesPlayer,
    DoorGreedyPlayer,
    DoorOraclePlayer,
    DoorPlayer,
)
from planprobe.subjects.references.door_values import door_posterior, solve_doors
from planprobe.subjects.references.play import play_reference

UP, DOWN, LEFT, RIGHT = range(4)


def test_maps_differ_in_one_door():
    drawing = ["".join(".#"[int(wall)] for wall in row) for row in door_maps(2)[0]]
    assert drawing == ["#######", "#.....#", "#..#..#", "#..#..#", "#######"]
    maps = door_maps(4)
    assert ((maps[:, None] != maps[None]).sum((2, 3)) == 2 - 2 * torch.eye(4)).all()


class TestRules:
    def test_a_walk_through_the_lower_door(self):
        task = DoorsTask(num_doors=2, num_episodes=2)
        env = task.make_env(1, autoreset=False)
        env.reset()
        env.doors[:] = 1
        seen = []
        for action in (RIGHT, RIGHT, DOWN, RIGHT, RIGHT, RIGHT, UP):
            result = env.step(torch.tensor([action]))
            view = result.observation.flatten()
            seen.append((int(result.extras["square"]), bool(result.extras["moved"]), view[-4:].int().tolist()))
        row = 2 * WIDTH
        assert [s[0] - row for s in seen] == [2, 2, 2 + 7, 3 + 7, 4 + 7, 5 + 7, 5]
        assert [s[1] for s in seen] == [True, False, True, True, True, True, True]
        assert [s[2] for s in seen[:4]] == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 0]]
        assert float(result.reward) == pytest.approx(STEP_REWARD + GOAL_REWARD)
        assert bool(result.solved) and bool(result.episode_done) and not bool(result.trial_done)
        assert env.players.tolist() == [row + 1] and env.latents()["door"].tolist() == [1]

    def test_bump_view_shows_a_blocked_move_until_the_next(self):
        env = DoorsTask(view="bump").make_env(1, autoreset=False)
        bumps = [float(env.reset()[0, -1])]
        for action in (LEFT, UP, RIGHT, RIGHT, DOWN):
            env.doors[:] = 3
            bumps.append(float(env.step(torch.tensor([action])).observation[0, -1]))
        assert bumps == [0, 1, 0, 0, 1, 0]

    @pytest.mark.parametrize("options", [{"view": "bumps"}, {"start": "corner"}, {"num_doors": 1}, {"num_doors": 9}])
    def test_nonsense_is_refused(self, options):
        with pytest.raises(RecipeError):
            DoorsTask(**options)


class RandomDoorPlayer(DoorPlayer):
    """Wanders, mostly to the right so that it gets somewhere."""

    def act(self):
        self.t = getattr(self, "t", -1) + 1
        return draw_below(6, 8, self.t, torch.arange(len(self.sets))).clamp(max=RIGHT)


@pytest.mark.parametrize("view", ["neighbours", "bump"])
@pytest.mark.parametrize("start", ["fixed", "redrawn"])
def test_filter_keeps_exactly_the_maps_that_would_have_shown_the_same(view, start):
    task = DoorsTask(view=view, start=start, episode_steps=9, num_episodes=4)
    player, taken, sets = RandomDoorPlayer(), [], []
    play_reference(
        player,
        task,
        40,
        seed=4,
        on_step=lambda t, actions, _: (taken.append(actions), sets.append(player.sets.clone())),
    )
    real, *imagined = (history(task, taken, door) for door in (None, 0, 1, 2, 3))
    for step in range(len(taken)):
        expected = sum(
            (other[:, : step + 1] == real[:, : step + 1]).all(2).all(1).long() << door
            for door, other in enumerate(imagined)
        )
        # a board whose trial is over learns nothing, and its history stays the same
        assert torch.equal(sets[step], expected)
    posterior = door_posterior(sets[-1], 4)
    assert (posterior.max(1).values == 1).any() and (posterior.max(1).values < 1).any()


def history(task: DoorsTask, actions, door: int | None) -> torch.Tensor:
    """What the same actions show when a given door is open, (B, T, F); nothing once the trial is over."""
    env = task.make_env(40, seed=4, autoreset=False)
    first = env.reset()
    if door is not None:
        env.doors[:] = door
        first = env.observe()
    seen = []
    for step in actions:
        result = env.step(step)
        outcome = torch.stack([result.reward, result.episode_done.float(), result.solved.float()], dim=1)
        seen.append(
            torch.cat([first.flatten(1), result.observation.flatten(1) * ~env.finished[:, None], outcome], dim=1)
        )
    return torch.stack(seen, dim=1)


def value_by_recursion(task: DoorsTask) -> float:
    """Bayes-adaptive value of a trial: maps as sets, outcomes grouped by what they show, nothing tabulated."""
    walls, goal = door_maps(task.num_doors).flatten(1).tolist(), task.goal
    offsets = (-WIDTH, WIDTH, -1, 1)

    def shows(door: int, square: int):
        return tuple(walls[door][square + o] for o in offsets) if task.view == "neighbours" else ()

    def groups(doors, key):
        split = {}
        for door in doors:
            split.setdefault(key(door), []).append(door)
        return [(outcome, frozenset(part)) for outcome, part in split.items()]

    @cache
    def begin(episode: int, doors: frozenset) -> float:
        if episode == task.num_episodes:
            return 0.0
        starts = task.starts().tolist()
        return sum(
            len(part) / len(doors) * best(episode, 0, start, part)
            for start in starts
            for _, part in groups(doors, lambda door, start=start: shows(door, start))
        ) / len(starts)

    @cache
    def best(episode: int, step: int, square: int, doors: frozenset) -> float:
        last = step == task.episode_steps - 1

        def outcome(door: int, action: int):
            ahead = square + offsets[action]
            landed = square if walls[door][ahead] else ahead
            if landed == goal:
                return "goal"
            return "cut" if last else (landed, shows(door, landed))

        options = []
        for action in range(4):
            total = 0.0
            for result, part in groups(doors, lambda door, action=action: outcome(door, action)):
                if result == "goal":
                    rest = GOAL_REWARD + begin(episode + 1, part)
                else:
                    rest = begin(episode + 1, part) if result == "cut" else best(episode, step + 1, result[0], part)
                total += len(part) / len(doors) * (STEP_REWARD + rest)
            options.append(total)
        return max(options)

    return begin(0, frozenset(range(task.num_doors)))


@pytest.mark.parametrize(
    "options",
    [
        {"num_doors": 2, "episode_steps": 8, "num_episodes": 2},
        {"num_doors": 3, "episode_steps": 11, "num_episodes": 2, "view": "bump"},
        {"num_doors": 3, "episode_steps": 7, "num_episodes": 3, "start": "redrawn"},
        {"num_doors": 4, "episode_steps": 25, "num_episodes": 1, "view": "bump"},
    ],
)
def test_values_are_those_of_a_plain_recursion(options):
    task = DoorsTask(**options)
    assert solve_doors(task).trial_return == pytest.approx(value_by_recursion(task), abs=1e-9)


@pytest.mark.parametrize("view", ["neighbours", "bump"])
def test_players_earn_what_they_should(view):
    task = DoorsTask(view=view)
    value = solve_doors(task).trial_return
    bayes, greedy, oracle = (
        play_reference(player(), task, 600, seed=5) for player in (DoorBayesPlayer, DoorGreedyPlayer, DoorOraclePlayer)
    )
    error = float(bayes.sum(1).std()) / math.sqrt(600)
    assert abs(float(bayes.sum(1).mean()) - value) < 4 * error + 1e-6
    assert float(greedy.sum(1).mean()) < value + 4 * error
    # doors 1 and 2 are 6 moves away, 0 and 3 are 10: what knowing the door earns
    door = task.make_env(600, seed=5)
    door.reset()
    moves = torch.where((door.doors == 1) | (door.doors == 2), 6, 10)
    assert torch.allclose(oracle, (1 + STEP_REWARD * moves)[:, None].expand(-1, 3))
    # once it has been through the door there is nothing left to learn
    assert torch.allclose(bayes[:, 1:], oracle[:, 1:])
    assert float(bayes[:, 0].mean()) < float(oracle[:, 0].mean()) - 0.02
