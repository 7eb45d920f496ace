"""What holds of every task with trials that is played on boards: a board is its own, and a saved one goes on."""

from __future__ import annotations

import pytest
import torch

from planprobe.core.rng import draw_below
from planprobe.subjects.envs.doors import DoorsTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.sokoban_trial import SokobanTrialTask

TASKS = (
    DoorsTask(start="redrawn", episode_steps=6, num_episodes=2, view="bump"),
    HiddenGoalTask(start="redrawn", hit_rate=0.8, false_rate=0.1),
    MazeTrialTask(num_mazes=40, start="redrawn", episode_steps=7),
    SokobanTrialTask(size=6, num_boxes=(2, 2), num_levels=60, one_pays=True, episode_steps=7, num_episodes=2),
)
WIDE, NARROW, STEPS, SAVED_AT = 9, 4, 50, 17


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_a_board_does_not_depend_on_its_batch_and_a_saved_one_goes_on(task):
    wide, narrow, resumed = (task.make_env(num_boards, seed=3) for num_boards in (WIDE, NARROW, WIDE))
    assert torch.equal(wide.reset()[:NARROW], narrow.reset())
    ended = torch.zeros(WIDE, dtype=torch.bool)
    for t in range(STEPS):
        actions = draw_below(wide.num_actions, 5, t, torch.arange(WIDE))
        if t == SAVED_AT:
            resumed.load_state_dict(wide.state_dict())
        result, other = wide.step(actions), narrow.step(actions[:NARROW])
        again = resumed.step(actions) if t >= SAVED_AT else result
        ended |= result.trial_done
        for name in ("observation", "reward", "episode_done", "trial_done"):
            assert torch.equal(getattr(result, name)[:NARROW], getattr(other, name))
            assert torch.equal(getattr(result, name), getattr(again, name))
    assert ended.all()
