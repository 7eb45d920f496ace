"""When a better course was there to be taken, and whether it was: mazes by hand, swaps with players that are known."""

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import torch

from planprobe.core.play_trials import TrialRollout
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.trial_catalog import TEST_SEED
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.references.two_step_belief import TwoStepBelief
from planprobe.subjects.references.two_step_players import TwoStepBeliefPlayer, make_two_step_player, play_rounds
from planprobe.subjects.trial_changes import (
    CLOSED,
    OPENED,
    REPLAY,
    SHORTCUT,
    STRAIGHT,
    SWAP,
    score_shortcut,
    score_toggled,
    swap_occasions,
    trial_changes,
)

# a ring of 3 x 5 squares on 5 rows of 7: who walks straight from its upper to its lower side gives way to the left
ROUND = [11, 10, 9, 8, 15, 22, 23, 24, 25]
SHORT = [11, 12, 19, 26, 25]
EASY_ROUND, EASY_SHORT = [9, 10, 11, 12, 19, 26, 25, 24, 23], [9, 8, 15, 22, 23]


def rollout_of(walks, new_shortest=0, toggled=-1, goal=25):
    """Trials of two episodes from their squares; an episode that ends on the goal found it."""
    num_steps = sum(max(len(walk[part]) for walk in walks) for part in (0, 1))
    before, after, episodes = (torch.zeros(len(walks), num_steps, dtype=torch.int64) for _ in range(3))
    active = torch.zeros(len(walks), num_steps, dtype=torch.bool)
    lengths = torch.tensor([[len(part) - 1 for part in walk] for walk in walks])
    for row, (first, second) in enumerate(walks):
        moves = [*pairwise(first), *pairwise(second)]
        for step, (here, there) in enumerate(moves):
            before[row, step], after[row, step], active[row, step] = here, there, True
            episodes[row, step] = int(step >= len(first) - 1)
    walls = torch.ones(5, 7, dtype=torch.bool)
    walls[1:4, 1:6] = False
    walls[2, 2:5] = True
    nothing = dict.fromkeys((field.name for field in fields(TrialRollout)), torch.zeros(0))
    return TrialRollout(
        **nothing | {
            "episodes": episodes, "active": active, "episode_lengths": lengths,
            "success": torch.tensor([[part[-1] == goal for part in walk] for walk in walks]),
            "latents": {"walls": walls.expand(len(walks), -1, -1), "goal": torch.full((len(walks),), goal)},
            "extras": {
                "square_before": before, "square": after,
                "new_shortest": torch.full((len(walks), num_steps), new_shortest),
                "toggled": torch.full((len(walks), num_steps), toggled),
            },
        }
    )  # fmt: skip


def test_a_shortcut_by_hand():
    lost = [11, 10, 9, 10]
    detour = [11, 10, 11, 12, 19, 26, 25]  # without its loop it is the shortest way
    scores = score_shortcut(
        rollout_of([(ROUND, SHORT), (ROUND, ROUND), (ROUND, lost), (lost, SHORT), (SHORT, SHORT), (detour, SHORT)])
    )
    assert np.array_equal(scores, [1, 0, 0, np.nan, np.nan, np.nan], equal_nan=True)


def test_a_changed_maze_by_hand():
    walks = [(ROUND, SHORT), (ROUND, ROUND), ([11, 10], SHORT)]
    assert np.array_equal(score_toggled(rollout_of(walks, new_shortest=4)), [1, 0, np.nan], equal_nan=True)
    assert np.isnan(score_toggled(rollout_of(walks, new_shortest=0))).all()


def test_who_goes_straight_stands_beside_the_agent():
    shortcut, opened, _ = trial_changes(MazeTrialTask(num_mazes=4))
    hard, easy = rollout_of([(ROUND, SHORT)], new_shortest=4), rollout_of([(EASY_ROUND, EASY_SHORT)], 4, goal=23)
    assert [change.cached(each)[STRAIGHT].item() for change in (shortcut, opened) for each in (hard, easy)] == [
        0,
        1,
    ] * 2
    door = [(ROUND, [11, 18, 25])]  # in the middle, which who walks straight goes through too
    assert opened.cached(rollout_of(door, new_shortest=2, toggled=18))[STRAIGHT].tolist() == [1]
    assert opened.cached(rollout_of(door, new_shortest=2))[STRAIGHT].tolist() == [0]  # were it shut


def test_tasks_have_the_changes_that_they_allow():
    maze = trial_changes(MazeTrialTask(num_mazes=4, num_episodes=3))
    assert [change.name for change in maze] == [SHORTCUT, OPENED, CLOSED]
    assert [change.in_sight for change in maze] == [True, True, False]
    assert all(change.in_sight for change in trial_changes(MazeTrialTask(num_mazes=4, view="full")))
    assert all(change.task.num_episodes == 2 and change.task.split == "test" for change in maze)
    assert [change.name for change in trial_changes(TwoStepTask(swap=0.1, show_map=True, hold_out=True))] == [SWAP]
    for task in (BanditTask(), HiddenGoalTask(), TwoStepTask(), MazeTrialTask(start="redrawn", num_mazes=4)):
        assert trial_changes(task) == []
    replayed = maze[0].cached(rollout_of([(ROUND, SHORT), (SHORT, SHORT)]))
    assert np.array_equal(replayed[REPLAY], [0, np.nan], equal_nan=True)


def test_occasions_by_hand():
    good = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
    swapped = torch.tensor([[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1]])
    assert swap_occasions(good, swapped).nonzero().tolist() == [[0, 3], [1, 5]]


def test_who_plans_with_the_map_takes_the_swap_and_who_does_not_does_not():
    task = TwoStepTask(num_rounds=30, swap=0.1, flip=0.01, show_map=True, hold_out=True)
    (change,) = trial_changes(task)
    scores = {}
    for name in ("model_based", "one_back_table"):
        choices = play_rounds(make_two_step_player(name), change.task, 40, TEST_SEED)[0]
        actions = choices.repeat_interleave(2, dim=1)
        scores[name] = np.nanmean(change.score(replace(rollout_of([(SHORT, SHORT)]), actions=actions)))
    cached = change.cached(replace(rollout_of([(SHORT, SHORT)]), actions=torch.zeros(40, 60, dtype=torch.int64)))
    assert scores["model_based"] > 0.75
    assert np.nanmean(cached["one-back table"]) == scores["one_back_table"] < 0.5
    assert np.nanmean(cached["model-free"]) < 0.35


class BelievesTraining(TwoStepBeliefPlayer):
    """Keeps the exact belief of a task without the held-out combination, and acts on it as well as can be."""

    def _start(self, num_boards: int) -> None:
        self.belief = TwoStepBelief(replace(self.task, hold_out=True))
        self.belief.begin(num_boards)


def test_who_believes_what_training_showed_never_takes_the_swap_so_that_missing_it_refutes_nothing():
    (change,) = trial_changes(TwoStepTask(num_rounds=30, swap=0.1, flip=0.01, show_map=True, hold_out=True))
    choices = play_rounds(BelievesTraining("greedy"), change.task, 40, TEST_SEED)[0]
    actions = choices.repeat_interleave(2, dim=1)
    scores = change.score(replace(rollout_of([(SHORT, SHORT)]), actions=actions))
    assert np.nanmax(scores) == 0
    assert not change.refutes
    assert all(each.refutes for each in trial_changes(MazeTrialTask(num_mazes=4)))
