"""Maze trials: rules, views, what a trial keeps, the belief, loop erasure and the players."""

from __future__ import annotations

import itertools

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.cell_world import GOAL_REWARD, STEP_REWARD, next_squares, wall_windows, walls_around
from planprobe.subjects.envs.maze_trial import MazeTrialTask, cell_squares
from planprobe.subjects.references.loop_erasure import erase_loops, route_lengths
from planprobe.subjects.references.maze_players import (
    LoopErasedReplayPlayer,
    MazeSearchPlayer,
    ShortestPathOracle,
)
from planprobe.subjects.references.play import play_reference

BANK = {"num_mazes": 40}
LOOPED = MazeTrialTask(size=9, braid=(1.0, 1.0), num_episodes=3, episode_steps=120, **BANK)
PERFECT = MazeTrialTask(size=9, braid=(0.0, 0.0), num_episodes=2, episode_steps=120, **BANK)


def random_actions(t: int, num_boards: int) -> torch.Tensor:
    return draw_below(4, 5, t, torch.arange(num_boards))


class TestGeometry:
    def test_moves_and_neighbours_by_hand(self):
        walls = torch.tensor([[[0, 1], [0, 0]]]).bool()
        assert next_squares(walls, noop=True)[0].tolist() == [
            [0, 2, 0, 0, 0], [1, 3, 0, 1, 1], [0, 2, 2, 3, 2], [3, 3, 2, 3, 3],
        ]  # fmt: skip
        assert walls_around(walls)[0].int().tolist() == [[1, 0, 1, 1], [1, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 1]]

    @pytest.mark.parametrize("view_size", [3, 5])
    def test_the_window_is_what_surrounds_the_agent(self, view_size):
        walls = draw_below(2, 0, torch.arange(4 * 6 * 7)).bool().view(4, 6, 7)
        squares = torch.tensor([0, 41, 17, 6])
        windows, reach = wall_windows(walls, view_size), view_size // 2
        for board, square in enumerate(squares.tolist()):
            row, column = divmod(square, 7)
            expected = [
                bool(not (0 <= r < 6 and 0 <= c < 7) or bool(walls[board, r, c]))
                for r in range(row - reach, row + reach + 1)
                for c in range(column - reach, column + reach + 1)
            ]
            assert windows[board, row, column].flatten().tolist() == expected


class TestTrials:
    def test_goal_ends_the_episode_but_not_the_trial(self):
        env = MazeTrialTask(**BANK, num_episodes=2, episode_steps=3).make_env(1, autoreset=False)
        env.reset()
        before = env.players
        action = int((env._next[env.level_ids, before] != before[:, None]).to(torch.uint8).argmax())
        env.goals = env._next[env.level_ids, before, torch.tensor([action])]
        first = env.step(torch.tensor([action]))
        assert float(first.reward) == pytest.approx(GOAL_REWARD + STEP_REWARD)
        assert (bool(first.solved), bool(first.episode_done), bool(first.trial_done)) == (True, True, False)
        assert torch.equal(env.players, before)
        assert torch.equal(first.extras["square"], env.goals)
        flags = []
        for _ in range(3):
            blocked = int((env._next[env.level_ids, env.players] == env.players[:, None]).to(torch.uint8).argmax())
            last = env.step(torch.tensor([blocked]))
            flags.append((bool(last.truncated), bool(last.trial_done), round(float(last.reward), 4)))
        assert flags == [(False, False, STEP_REWARD), (False, False, STEP_REWARD), (True, True, STEP_REWARD)]

    @pytest.mark.parametrize("start", ["fixed", "redrawn"])
    def test_a_trial_keeps_its_maze_and_goal(self, start):
        env = MazeTrialTask(**BANK, start=start, num_episodes=4, episode_steps=2).make_env(300)
        env.reset()
        cells, trials = cell_squares(7), []
        for t in range(24):
            latents = env.latents()
            assert cells[latents["goal"]].all() and cells[env.starts].all() and (latents["goal"] != env.starts).all()
            kept = torch.stack([latents["goal"], latents["level"]])
            trials.append(torch.cat([kept, env.starts[None], env.trials[None]]))
            env.step(random_actions(t, 300))
        for first, second in itertools.pairwise(trials):
            same_trial = first[3] == second[3]
            assert torch.equal(first[:2, same_trial], second[:2, same_trial])
            assert torch.equal(first[2, same_trial], second[2, same_trial]) or start == "redrawn"
        starts, numbers = (torch.stack([trial[row] for trial in trials]) for row in (2, 3))
        moved = (starts[1:] != starts[:-1]).any(0)
        one_trial = numbers[:7].max(0).values == numbers[0]
        moved_within = (starts[:7] != starts[0]).any(0)[one_trial].float().mean()
        assert float(moved_within) == 0 if start == "fixed" else float(moved_within) > 0.9
        assert float(moved.float().mean()) > 0.9
        assert int(trials[0][1].unique().numel()) > 20

    def test_one_maze_and_one_goal_for_ever_whatever_the_seed(self):
        for one_goal in (False, True):
            task = MazeTrialTask(**BANK, maze_id=3, one_goal=one_goal)
            seen = []
            for seed in (0, 1):
                env = task.make_env(50, seed=seed)
                env.reset()
                assert (env.level_ids == 3).all()
                seen.append(torch.stack([env.goals, env.starts]))
            assert (torch.cat(seen, dim=1).unique(dim=1).shape[1] == 1) == one_goal

    def test_views(self):
        full = MazeTrialTask(**BANK, view="full").make_env(5, seed=2)
        local = MazeTrialTask(**BANK).make_env(5, seed=2)
        board, window = full.reset(), local.reset()
        assert board.shape == (5, 2, 7, 7) and window.shape == (5, 9, 1, 1)
        assert torch.equal(board[:, 0].bool(), full.walls)
        assert board[:, 1].flatten(1).argmax(1).equal(full.players) and board[:, 1].sum() == 5
        around = wall_windows(full.walls, 3)[torch.arange(5), full.players // 7, full.players % 7]
        assert torch.equal(window.view(5, 3, 3), around.float())

    def test_layouts_of_a_split_are_in_no_other(self):
        banks = [
            MazeTrialTask(size=9, split=split, num_mazes=60).levels().canonical_keys(with_player=False)
            for split in ("train", "test")
        ]
        layouts = [set(bank) for bank in banks]
        assert len(layouts[0]) == len(layouts[1]) == 60
        assert not layouts[0] & layouts[1]

    @pytest.mark.parametrize(
        "options",
        [{"size": 8}, {"view": "locale"}, {"view_size": 4}, {"maze_id": 1000}, {"one_goal": True}, {"split": "dev"}],
    )
    def test_nonsense_is_refused(self, options):
        with pytest.raises(RecipeError):
            MazeTrialTask(**options)


class WanderingPlayer(MazeSearchPlayer):
    def act(self):
        return random_actions(self._t, len(self.squares))


def test_belief_is_every_goal_that_would_have_shown_the_same():
    task, taken, beliefs = MazeTrialTask(**BANK, num_episodes=3, episode_steps=12), [], []
    player = WanderingPlayer()
    play_reference(
        player, task, 30, on_step=lambda t, actions, _: (taken.append(actions), beliefs.append(player.belief.clone()))
    )
    cells = cell_squares(7).nonzero().flatten().tolist()
    real = maze_history(task, taken, None)
    possible = torch.zeros(len(taken), 30, 49, dtype=torch.bool)
    for cell in cells:
        other = maze_history(task, taken, cell)
        same = (other == real).all(2).cumprod(1).bool()
        possible[:, :, cell] = same.T
    starts = task.make_env(30)
    starts.reset()
    possible[:, torch.arange(30), starts.starts] = False  # no goal is drawn on the start
    expected = possible.double() / possible.sum(2, keepdim=True)
    assert torch.allclose(torch.stack(beliefs), expected)
    assert (possible[-1].sum(1) == 1).any() and (possible[-1].sum(1) > 1).any()


def maze_history(task: MazeTrialTask, actions, goal: int | None) -> torch.Tensor:
    env = task.make_env(30, autoreset=False)
    env.reset()
    if goal is not None:
        env.goals[:] = goal
    seen = []
    for step in actions:
        result = env.step(step)
        outcome = torch.stack([result.reward, result.solved.float(), result.episode_done.float()], dim=1)
        seen.append(torch.cat([result.observation.flatten(1), outcome], dim=1))
    return torch.stack(seen, dim=1)


class TestLoopErasure:
    def test_by_hand(self):
        walks = torch.tensor(
            [[1, 2, 3, 2, 4, 5, 4, 1, 6], [1, 2, 3, 4, -1, -1, -1, -1, -1], [7, 8, 7, 8, 7, -1, -1, -1, -1]]
        )
        assert erase_loops(walks).tolist() == [[1, 6, -1, -1], [1, 2, 3, 4], [7, -1, -1, -1]]
        assert route_lengths(erase_loops(walks)).tolist() == [1, 3, 0]

    def test_against_a_list(self):
        steps = draw_below(12, 0, torch.arange(200)[:, None], torch.arange(25))
        lengths = 1 + draw_below(25, 1, torch.arange(200))
        walks = torch.where(torch.arange(25) < lengths[:, None], steps, -1)
        for walk, erased in zip(walks.tolist(), erase_loops(walks).tolist(), strict=True):
            path: list[int] = []
            for square in (s for s in walk if s >= 0):
                path = path[: path.index(square)] if square in path else path
                path.append(square)
            assert [square for square in erased if square >= 0] == path


def lengths_of(player, task, *, seed=0, num_trials=120) -> torch.Tensor:
    """Steps of every episode, (N, E); every one is solved."""
    returns = play_reference(player, task, num_trials, seed=seed)
    return ((GOAL_REWARD - returns) / -STEP_REWARD).round().long()


class TestPlayers:
    def test_in_a_perfect_maze_replay_and_planning_look_the_same(self):
        replay, planned = lengths_of(LoopErasedReplayPlayer(), PERFECT), lengths_of(ShortestPathOracle(), PERFECT)
        assert torch.equal(replay[:, 1:], planned[:, 1:])
        assert (replay[:, 0] > planned[:, 0]).any()

    def test_in_a_looped_one_replay_is_longer_on_some(self):
        player = LoopErasedReplayPlayer()
        replay, planned = lengths_of(player, LOOPED), lengths_of(ShortestPathOracle(), LOOPED)
        assert (replay >= planned).all()
        assert 0.02 < float((replay[:, 1] > planned[:, 1]).float().mean()) < 0.9
        assert torch.equal(replay[:, 1], replay[:, 2])
        assert torch.equal(route_lengths(player.routes), replay[:, 1])
        assert (replay[:, 1] <= replay[:, 0]).all()

    def test_search_finds_the_goal_once_and_then_walks_straight(self):
        for start in ("fixed", "redrawn"):
            task = MazeTrialTask(**BANK, start=start)
            found, planned = lengths_of(MazeSearchPlayer(), task), lengths_of(ShortestPathOracle(), task)
            assert torch.equal(found[:, 1], planned[:, 1])
            assert float(found[:, 0].float().mean()) > 1.5 * float(planned[:, 0].float().mean())

    def test_replay_needs_a_start_that_stays(self):
        with pytest.raises(RecipeError, match="fixed"):
            play_reference(LoopErasedReplayPlayer(), MazeTrialTask(**BANK, start="redrawn"), 2)
