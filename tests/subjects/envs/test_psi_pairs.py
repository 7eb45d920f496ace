"""Histories that differ in the goal alone."""

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.psi_pairs import DOWN, LEFT, RIGHT, psi_pairs, serpentine

TASK = HiddenGoalTask()
SQUARES = TASK.size**2
REWARD = SQUARES + 5


@pytest.fixture(scope="module")
def pairs():
    return psi_pairs(TASK, 30)


def test_a_serpentine_by_hand():
    assert serpentine(3).tolist() == [RIGHT, RIGHT, DOWN, LEFT, LEFT, DOWN, RIGHT, RIGHT]


def test_pairs_differ_in_pay_alone_and_are_told_apart_by_it(pairs):
    assert pairs.change == "psi"
    assert pairs.num_steps == TASK.episode_steps + 3 + 1
    differs = (pairs.clean != pairs.corrupted).flatten(3).any(3).any(0).any(0)
    assert differs.nonzero().flatten().tolist() == [REWARD]
    assert bool((pairs.clean != pairs.corrupted).flatten(1).any(1).all())


def test_each_run_was_paid_on_its_goal_and_the_best_move_leads_there(pairs):
    snake = torch.tensor([*range(5), *range(9, 4, -1), *range(10, 15), 19])
    for run, best in ((pairs.clean, pairs.clean_actions), (pairs.corrupted, pairs.corrupted_actions)):
        seen = run.flatten(2)
        square, paid = seen[:, :, :SQUARES].argmax(2), seen[:, :, REWARD] > 0.5
        first = paid.to(torch.uint8).argmax(1)
        assert bool(paid[:, : TASK.episode_steps + 1].any(1).all())
        goals = snake[first]  # what the last step of an episode paid is told where the next one starts
        here = square[:, -1]
        offsets = torch.tensor([-TASK.size, TASK.size, -1, 1, 0])
        ahead = here + offsets[best]

        def away(squares, goals=goals):
            return (squares // 5 - goals // 5).abs() + (squares % 5 - goals % 5).abs()

        assert bool((away(ahead) == (away(here) - 1).clamp(min=0)).all())


def test_no_move_is_best_for_both_goals(pairs):
    assert bool((pairs.clean_actions != pairs.corrupted_actions).all())


def test_pairs_are_drawn_by_their_seed():
    assert torch.equal(psi_pairs(TASK, 4).clean, psi_pairs(TASK, 4).clean)
    assert not torch.equal(psi_pairs(TASK, 4).clean, psi_pairs(TASK, 4, seed=1).clean)


def test_misuse_is_refused():
    for task in (HiddenGoalTask(hit_rate=0.9), HiddenGoalTask(start="redrawn"), HiddenGoalTask(num_episodes=1)):
        with pytest.raises(RecipeError):
            psi_pairs(task, 4)
    with pytest.raises(RecipeError, match="at least one"):
        psi_pairs(TASK, 0)
