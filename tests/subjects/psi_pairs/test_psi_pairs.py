"""Histories that differ in psi alone, by kind of task."""

import pytest
import torch

from planprobe.core.errors import RecipeError, TooFewLevelsError
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.doors import DoorsTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.informative_bandit import InformativeBanditTask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.sokoban_trial import SokobanTrialTask
from planprobe.subjects.envs.solver import optimal_actions
from planprobe.subjects.envs.timing import TimingTask
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.psi_pairs.catalog import PSI_PAIRS, psi_pairs
from planprobe.subjects.psi_pairs.walks import DOWN, FARTHEST, LEFT, RIGHT, UP, serpentine

MAZES = MazeTrialTask(size=9, num_mazes=60)
ROOMS = SokobanTrialTask(size=6, num_boxes=(1, 1), episode_steps=24, num_levels=40, split="test")
TASKS = [
    HiddenGoalTask(), DoorsTask(), MAZES, ROOMS, BanditTask(num_arms=3), BanditTask(structure="correlated"),
    InformativeBanditTask(), TwoStepTask(num_rounds=10),
    TwoStepTask(num_rounds=10, swap=0.1, show_map=True, hold_out=True),
]  # fmt: skip
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


def test_the_last_walk_tells_nothing_more(pairs):
    walk = slice(TASK.episode_steps + 1, None)
    assert torch.equal(pairs.clean[:, walk], pairs.corrupted[:, walk])


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
    with pytest.raises(RecipeError, match="timing"):
        psi_pairs(TimingTask(), 4)
    for task in (
        DoorsTask(view="bump"), DoorsTask(episode_steps=5), MazeTrialTask(start="redrawn"),
        MazeTrialTask(num_episodes=1), SokobanTrialTask(permutation_id=0), BanditTask(structure="restless"),
        BanditTask(num_arms=5, num_pulls=5),
        InformativeBanditTask(num_pulls=1), TwoStepTask(num_rounds=2),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=r"pairs|doors"):
            psi_pairs(task, 4)


def test_a_task_too_small_for_pairs_says_so():
    with pytest.raises(TooFewLevelsError, match="hidden-goal"):
        psi_pairs(HiddenGoalTask(size=3, episode_steps=2), 4)  # the walk passes a single goal


# what holds of every kind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}{getattr(task, 'structure', '')}")
class TestEveryKind:
    def test_both_runs_end_on_the_same_view_and_ask_for_other_actions(self, task):
        pairs = psi_pairs(task, 4)
        assert torch.equal(pairs.clean[:, -1], pairs.corrupted[:, -1])
        assert bool((pairs.clean != pairs.corrupted).flatten(1).any(1).all())
        assert bool((pairs.clean_actions != pairs.corrupted_actions).all())
        assert torch.equal(pairs.clean[:, 0], pairs.corrupted[:, 0])

    def test_more_pairs_begin_with_the_fewer(self, task):
        few, more = psi_pairs(task, 2), psi_pairs(task, 4)
        for name in ("clean", "corrupted", "clean_actions", "corrupted_actions"):
            assert torch.equal(getattr(few, name), getattr(more, name)[:2])
        assert not torch.equal(psi_pairs(task, 4, seed=1).clean, more.clean)

    def test_the_agent_is_told_what_its_inputs_say(self, task):
        bare = psi_pairs(task, 3, inputs=Inputs(previous_action=False, reward=True, episode_end=False))
        whole = psi_pairs(task, 3)
        view = bare.clean.shape[2] - 1
        assert torch.equal(bare.clean[:, :, :view], whole.clean[:, :, :view])


def test_the_kinds_are_those_of_the_tasks():
    assert {task.kind for task in TASKS} == set(PSI_PAIRS)


# known answers --------------------------------------------------------------------------------------------------------


def runs_of(pairs):
    """(history (N, T, F) or (N, T, C, H, W), best action (N,)) of both runs."""
    return (pairs.clean, pairs.clean_actions), (pairs.corrupted, pairs.corrupted_actions)


def test_doors_by_hand():
    """Four doors at rows 1, 3, 5, 7; before the wall in row 4 the upper two call for up, the lower two for down."""
    pairs = psi_pairs(DoorsTask(), 12)
    for run, best in runs_of(pairs):
        seen = run.flatten(2)
        squares = seen[..., : 9 * 7].argmax(2)
        assert squares[0, :11].tolist() == [29, 30, 23, 16, 9, 16, 23, 30, 37, 44, 51]
        assert squares[0, -1] == 30
        at_door = (seen[..., 9 * 7 + RIGHT] == 0) & (squares % 7 == 2)  # no wall to the right
        rows = (squares // 7).masked_fill(~at_door, 0).amax(1).tolist()
        assert set(rows) <= {1, 3, 5, 7}
        assert best.tolist() == [UP if row < 4 else DOWN for row in rows]


def test_mazes_are_walked_to_the_goal_and_the_best_move_begins_that_walk():
    pairs = psi_pairs(MazeTrialTask(size=9, num_mazes=60, view="full"), 8)
    for run, best in runs_of(pairs):
        assert run[:, FARTHEST, -2, 0, 0].tolist() == pytest.approx([0.96] * 8)  # reward of the goal
        assert run[:, :, -1, 0, 0].sum(1).tolist() == [1] * 8  # one episode end
        squares = run[:, :, 1].flatten(2).argmax(2)
        assert torch.equal(squares[:, 0], squares[:, -1])
        for walked, action in zip(squares[:, :FARTHEST].tolist(), best.tolist(), strict=True):
            left = next(square for square in walked if square != walked[0])
            assert left - walked[0] == (-9, 9, -1, 1)[action]


def test_the_best_arm_is_the_one_that_paid_most():
    for run, best in runs_of(psi_pairs(BanditTask(num_arms=3), 20)):
        seen = run.flatten(2)
        paid = torch.einsum("nta,nt->na", seen[:, 1:, 1:4], seen[:, 1:, 4])  # what each last action paid
        top = paid.sort(1).values
        assert torch.equal(paid.argmax(1), best)
        assert bool((top[:, -1] > top[:, -2]).all())


def test_the_informative_arm_names_the_target():
    for run, best in runs_of(psi_pairs(InformativeBanditTask(), 30)):
        hints, waited = run.flatten(2)[:, 1, 1 + 11], run.flatten(2)[:, 2, 1 + 11]
        assert torch.equal((10 * hints).round().long() - 1, best)
        assert waited.tolist() == [1.0] * 30  # an arm that is not the target pays little


def test_the_best_choice_leads_to_the_state_that_paid_more():
    for run, best in runs_of(psi_pairs(TwoStepTask(num_rounds=10, flip=0.0), 20)):
        seen = run.flatten(2)
        states, paid = seen[:, 1::2, 1:3], 2 * seen[:, 2::2, 5] - 1  # a state is seen, then what it paid
        evidence = (states * paid[..., None]).sum(1)  # of state 0, of state 1
        assert torch.equal((evidence[:, 1] > evidence[:, 0]).long(), best)


def test_swapped_transitions_are_reckoned_with():
    """Where transitions are shown, the best choice leads to the state that paid more by the way they are now."""
    task = TwoStepTask(num_rounds=12, flip=0.0, swap=0.3, show_map=True)
    for run, best in runs_of(psi_pairs(task, 20)):
        seen = run.flatten(2)
        states, paid = seen[:, 1::2, 1:3], 2 * seen[:, 2::2, 6] - 1
        evidence = (states * paid[..., None]).sum(1)
        swapped = seen[:, -1, 3] > 0.5
        assert torch.equal(((evidence[:, 1] > evidence[:, 0]) ^ swapped).long(), best)
        assert bool(swapped.any()) and not bool(swapped.all())


def test_the_best_action_makes_the_best_move_of_the_second_board():
    task = SokobanTrialTask(size=6, num_boxes=(1, 1), episode_steps=24, num_levels=40, split="test")
    pairs = psi_pairs(task, 6)
    for run, best in runs_of(pairs):
        for row in range(6):
            wall, target, box, player = run[row, -1, :4].to(torch.uint8)
            board, here = wall + 2 * target + 4 * box, int(player.flatten().argmax())
            action_moves = _learnt(run[row])
            assert action_moves[int(best[row])] in optimal_actions(board, here)


def _learnt(run):
    """What each action was seen to do, by where the player went: the move, {action: move}; the last one follows."""
    places, actions = run[:, 3].flatten(1).argmax(1), run[1:, 4:8, 0, 0].argmax(1)
    moves = {}
    for step, action in enumerate(actions.tolist()[:-1]):  # the last step ended on another board
        if places[step] != places[step + 1]:
            moves[action] = [-6, 6, -1, 1].index(int(places[step + 1] - places[step]))
    missing = set(range(4)) - set(moves)
    assert len(missing) <= 1
    return moves | dict(zip(missing, set(range(4)) - set(moves.values()), strict=True))
