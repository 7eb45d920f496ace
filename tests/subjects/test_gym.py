"""The gymnasium adapters against gymnasium's own checker and vector environment; Sokoban by the book."""

import random
import re
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import Error, InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import planprobe.subjects
from planprobe.core.errors import UnknownNameError
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.gym import REGISTERED, BoardGymEnv, BoardVectorEnv, register
from planprobe.subjects.envs.sokoban import Sokoban

# the box is one push from its target, or on one with another box beside it: random play solves and unsolves these
CORRIDOR = ["#######", "#@$.  #", "#     #", "#     #", "#     #", "#     #", "#######"]
TWO_BOXES = ["#######", "#  .  #", "# $*  #", "#  @ .#", "#  $  #", "#     #", "#######"]


def as_levels(*boards):
    codes = {"#": WALL, ".": TARGET, "$": BOX, "*": BOX | TARGET, "@": 0, " ": 0}
    cells = torch.tensor([[[codes[char] for char in row] for row in board] for board in boards], dtype=torch.uint8)
    return LevelSet(cells, torch.tensor(["".join(board).index("@") for board in boards]))


def join(*sets):
    return LevelSet(torch.cat([each.boards for each in sets]), torch.cat([each.players for each in sets]))


@pytest.fixture(scope="module")
def sokoban_levels():
    return join(as_levels(CORRIDOR, TWO_BOXES, *[CORRIDOR] * 4), generate_sokoban(6, size=7, num_boxes=(1, 2), seed=0))


# Sokoban by the book -------------------------------------------------------------------------------------------------


class ScalarSokoban:
    """The rules once more, one board, plain sets and no tensors: what the batched environment is held against."""

    def __init__(self, board, player, limit):
        squares = range(board.numel())
        flat = board.flatten().tolist()
        self.walls = {square for square in squares if flat[square] & WALL}
        self.targets = {square for square in squares if flat[square] & TARGET}
        self.boxes = {square for square in squares if flat[square] & BOX}
        self.player, self.limit, self.width, self.num_squares = int(player), limit, board.shape[1], board.numel()

    def step(self, action):
        """Reward, solved, truncated, pushed."""
        self.limit -= 1
        reward, pushed = -0.1, False
        offset = {0: -self.width, 1: self.width, 2: -1, 3: 1, 4: 0}[action]
        ahead, beyond = self.player + offset, self.player + 2 * offset
        if action != 4 and ahead not in self.walls:
            if ahead not in self.boxes:
                self.player = ahead
            elif beyond not in self.walls and beyond not in self.boxes:
                self.boxes = (self.boxes - {ahead}) | {beyond}
                self.player, pushed = ahead, True
                reward += (beyond in self.targets) - (ahead in self.targets)
        solved = self.boxes <= self.targets
        return reward + 10 * solved, solved, self.limit == 0 and not solved, pushed

    def planes(self):
        return [
            [int(square in kind) for square in range(self.num_squares)]
            for kind in (self.walls, self.targets, self.boxes, {self.player})
        ]


def play_against_twins(levels, num_boards, num_steps, seen):
    """Random play on both, every step compared; counts in `seen` what happened."""
    env = Sokoban(levels, num_boards, time_limit=(20, 60), seed=1, noop=True)
    chooser = random.Random(0)

    def begin(board):
        level = int(env.level_ids[board])
        return ScalarSokoban(levels.boards[level], levels.players[level], int(env.limits[board]))

    env.reset()
    twins = [begin(board) for board in range(num_boards)]
    for _ in range(num_steps):
        actions = [chooser.randrange(5) for _ in range(num_boards)]
        result = env.step(torch.tensor(actions))
        for board, twin in enumerate(twins):
            reward, solved, truncated, pushed = twin.step(actions[board])
            assert result.reward[board].item() == pytest.approx(reward, abs=1e-5)
            assert (result.solved[board], result.truncated[board]) == (solved, truncated)
            assert result.extras["pushed"][board] == pushed
            assert result.episode_done[board] == (solved or truncated)
            seen["pushed"] += pushed
            seen["solved"] += solved
            seen["truncated"] += truncated
            seen["off target"] += reward < -1
            if solved or truncated:
                twins[board] = twin = begin(board)
            assert result.observation[board].flatten(1).tolist() == twin.planes()


def test_sokoban_follows_the_rules_by_the_book(sokoban_levels):
    seen = {"pushed": 0, "solved": 0, "truncated": 0, "off target": 0}
    play_against_twins(sokoban_levels, 1, 300, seen)
    play_against_twins(sokoban_levels, 12, 150, seen)
    assert all(seen.values()), f"random play must meet every rule, got {seen}"


# one board -----------------------------------------------------------------------------------------------------------


def check_without_warnings(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_registered_ids_pass_the_checker_of_gymnasium_without_a_warning():
    register()
    register()
    for name in ("planprobe/Sokoban7-v0", "planprobe/Maze9-v0"):
        check_without_warnings(gymnasium.make(name, num_levels=20))
    assert set(REGISTERED) <= set(gymnasium.registry)


@pytest.mark.parametrize(
    "options",
    [
        {"levels": as_levels(CORRIDOR), "time_limit": 2},  # truncated, or solved, within the checker's few steps
        {"levels": as_levels(CORRIDOR), "observation": "rgb", "noop": True},
        {"levels": generate_mazes(5, size=9, seed=0), "task": "maze", "redraw": True, "thinking_steps": (0, 3)},
    ],
)
def test_every_kind_of_board_passes_the_checker(options):
    register()
    check_without_warnings(gymnasium.make("planprobe/Sokoban7-v0", **options))


def test_an_episode_ends_as_terminated_or_truncated_and_then_wants_a_reset():
    env = BoardGymEnv(levels=as_levels(CORRIDOR), time_limit=3)
    env.reset()
    assert env.step(3)[1:4] == (pytest.approx(10.9), True, False)
    with pytest.raises(ResetNeeded):
        env.step(3)
    env.reset()
    ends = [env.step(0)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_seeds_decide_levels_and_starts():
    def play(env, seed):
        return [env.reset(seed=seed)[0]] + [env.reset()[0] for _ in range(5)]

    options = {"task": "maze", "levels": generate_mazes(50, seed=0), "redraw": True}
    env = BoardGymEnv(**options)
    first, other, again = play(env, 7), play(env, 8), play(BoardGymEnv(**options), 7)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({board.tobytes() for board in first}) == 6
    assert not np.array_equal(play(env, None), play(env, None))


def test_a_level_can_be_asked_for(sokoban_levels):
    env = BoardGymEnv(levels=sokoban_levels)
    observation, info = env.reset(options={"level_id": 8})
    assert info == {"level_id": 8}
    assert np.array_equal(observation[0], (sokoban_levels.boards[8] & WALL).numpy())


def test_boards_are_drawn_as_text_and_in_colours():
    env = BoardGymEnv(levels=as_levels(TWO_BOXES), render_mode="ansi")
    env.reset()
    assert env.render().split("\n") == TWO_BOXES
    env.step(1)
    assert env.render().split("\n")[3:6] == ["#    .#", "#  @  #", "#  $  #"]
    env = BoardGymEnv(levels=as_levels(CORRIDOR), render_mode="rgb_array")
    env.reset()
    picture = env.render()
    assert picture.shape == (112, 112, 3)
    assert picture.dtype == np.uint8
    row = picture[24, 8::16].tolist()
    assert row[:5] == [[0, 0, 0], [160, 212, 56], [142, 121, 56], [254, 126, 125], [243, 248, 238]]


@pytest.mark.parametrize("action", [-1, 4, 1.5])
def test_actions_that_do_not_exist_are_refused(action):
    env = BoardGymEnv(levels=as_levels(CORRIDOR))
    env.reset()
    with pytest.raises(InvalidAction):
        env.step(action)


def test_requests_that_mean_nothing_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'sokoban'"):
        BoardGymEnv("sokobam")
    with pytest.raises(UnknownNameError):
        BoardGymEnv(levels=as_levels(CORRIDOR), render_mode="human")
    env = BoardGymEnv(levels=as_levels(CORRIDOR))
    with pytest.raises(ResetNeeded):
        env.step(0)
    with pytest.raises(UnknownNameError, match="level_id"):
        env.reset(options={"level": 0})
    for level_id in (-1, 1, 0.5):
        with pytest.raises(Error, match="level ids"):
            env.reset(options={"level_id": level_id})


# many boards ---------------------------------------------------------------------------------------------------------

SEVERAL = [
    {"time_limit": (3, 9), "noop": True},
    {"time_limit": 12, "thinking_steps": (0, 2), "observation": "rgb"},
    {"task": "maze", "time_limit": (2, 20), "redraw": True, "near_fraction": 0.9, "max_walk": 3},
]


def make_pair(options, sokoban_levels, mode, num_envs=3):
    """Our vector environment and gymnasium's own one over single boards."""
    levels = generate_mazes(6, size=9, seed=0) if options.get("task") == "maze" else sokoban_levels
    options = {"levels": levels, **options}
    alone = [lambda board=board: BoardGymEnv(board_id=board, **options) for board in range(num_envs)]
    return BoardVectorEnv(num_envs=num_envs, autoreset_mode=mode, **options), SyncVectorEnv(alone, autoreset_mode=mode)


def assert_same(ours, theirs, where):
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{where}, {key}")
    elif theirs.dtype == object:
        for our, their in zip(ours, theirs, strict=True):
            assert np.array_equal(our, their), where
    else:
        assert ours.dtype == theirs.dtype, where
        assert np.array_equal(ours, theirs), f"{where}: {ours} is not {theirs}"


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("options", SEVERAL, ids=["sokoban", "rgb, thinking", "maze"])
def test_a_batch_plays_as_a_plain_loop_of_single_boards(options, mode, sokoban_levels):
    """Observations, rewards, ends and every entry of info, in all three autoreset modes, reseeded on the way."""
    ours, theirs = make_pair(options, sokoban_levels, mode)
    chooser = np.random.default_rng(0)
    num_ends = np.zeros(2, dtype=int)
    for part, seed in enumerate((11, [4, None, 9], None)):
        for name, our, their in zip(("obs", "info"), ours.reset(seed=seed), theirs.reset(seed=seed), strict=True):
            assert_same(our, their, f"reset {part}, {name}")
        for step in range(20):
            actions = chooser.integers(ours.single_action_space.n, size=3)
            both = list(zip(ours.step(actions), theirs.step(actions), strict=True))
            for name, (our, their) in zip(("obs", "reward", "terminated", "truncated", "info"), both, strict=True):
                assert_same(our, their, f"part {part}, step {step}, {name}")
            ended = both[2][0] | both[3][0]
            num_ends += [both[2][0].sum(), both[3][0].sum()]
            if mode is AutoresetMode.DISABLED and ended.any():
                mask = {"reset_mask": ended}
                for our, their in zip(ours.reset(options=dict(mask)), theirs.reset(options=dict(mask)), strict=True):
                    assert_same(our, their, f"part {part}, step {step}, partial reset")
    assert (num_ends > 2).all(), "the comparison must see both kinds of end"


def test_the_mode_is_in_the_metadata_of_the_instance():
    one, other = (BoardVectorEnv(levels=as_levels(CORRIDOR), autoreset_mode=mode) for mode in ("SameStep", "Disabled"))
    assert one.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert other.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert "autoreset_mode" not in BoardVectorEnv.metadata


def test_make_vec_gives_the_batched_environment():
    register()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec("planprobe/Maze9-v0", num_envs=3, num_levels=10, autoreset_mode="SameStep")
    assert isinstance(env, BoardVectorEnv)
    assert env.reset(seed=0)[0].shape == (3, 3, 9, 9)
    assert env.observation_space.contains(env.step(env.action_space.sample())[0])


def test_nothing_that_was_returned_changes_later(sokoban_levels):
    env = BoardVectorEnv(levels=sokoban_levels, num_envs=4, autoreset_mode=AutoresetMode.SAME_STEP, time_limit=4)
    kept = [env.reset(seed=0)[0]]
    for _ in range(12):
        observation, *rest, info = env.step(env.action_space.sample())
        last = [entry for entry in info.get("final_obs", []) if entry is not None]
        kept += [observation, *rest, *last, info["level_id"], info["_level_id"]]
    copies = [array.copy() for array in kept]
    for array in kept[:-1]:
        assert not any(np.shares_memory(array, other) for other in kept if other is not array)
    for _ in range(5):
        env.step(env.action_space.sample())
    assert all(np.array_equal(array, copy) for array, copy in zip(kept, copies, strict=True))


def test_given_levels_are_played_and_other_boards_go_on(sokoban_levels):
    env = BoardVectorEnv(levels=sokoban_levels, num_envs=3, autoreset_mode=AutoresetMode.DISABLED)
    before = env.reset(seed=0, options={"level_ids": [2, 3, 4]})[0]
    assert np.array_equal(before[:, 0], (sokoban_levels.boards[2:5] & WALL).numpy())
    mask = np.array([False, True, False])
    after, info = env.reset(options={"reset_mask": mask, "level_ids": [0, 9, 0]})
    assert np.array_equal(after[[0, 2]], before[[0, 2]])
    assert info["level_id"].tolist() == [0, 9, 0]
    assert info["_level_id"].tolist() == mask.tolist()


def test_a_batch_is_drawn_board_by_board():
    env = BoardVectorEnv(levels=as_levels(CORRIDOR), num_envs=2, render_mode="ansi")
    env.reset()
    env.step(np.array([1, 0]))
    first, second = env.render()
    assert first.split("\n")[1:3] == ["# $.  #", "#@    #"]
    assert second.split("\n")[1] == "#@$.  #"


def test_calls_out_of_turn_are_refused():
    env = BoardVectorEnv(levels=as_levels(CORRIDOR), num_envs=2, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(ResetNeeded):
        env.step(np.array([0, 0]))
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ResetNeeded):
        env.step(np.array([0, 0]))
    env.reset()
    env.step(np.array([3, 0]))
    with pytest.raises(ResetNeeded, match=r"boards \[0\]"):
        env.step(np.array([0, 0]))
    env.reset()
    for actions in ([0], [0, 4], [-1, 0], [0.0, 1.0]):
        with pytest.raises(InvalidAction):
            env.step(np.array(actions))
    for mask in ([True, False], np.array([1, 0]), np.array([True]), np.array([False, False])):
        with pytest.raises(Error, match="reset_mask"):
            env.reset(options={"reset_mask": mask})
    with pytest.raises(Error, match="seeds"):
        env.reset(seed=[1, 2, 3])


def test_gymnasium_is_only_imported_by_the_adapters():
    """It is a dependency of the adapters, not of training, levels or the command line."""
    package = Path(planprobe.subjects.__file__).parents[1]
    importing = {
        path.name
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) gymnasium\b", path.read_text(), re.MULTILINE)
        or (re.search(r"envs(\.| import )gym\b", path.read_text()))
    }
    assert importing == {"gym.py", "gym_boards.py", "gym_trials.py"}
