"""D8 within trials: another trial's memory makes a planner go to that trial's goal, and a replayer go astray."""

from functools import partial

import pytest
import torch
from trial_walkers import Walker

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.play_trials import play_trials
from planprobe.instruments.detectors import psi_patching
from planprobe.instruments.detectors.psi_patching import DONOR, REPEATED, SAME, WRONG, TransplantedMemory
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.psi_donors import find_goal_donors, find_wall_beside, score_goal_courses

TASK = MazeTrialTask(view="full", num_mazes=40, episode_steps=30, split="test")
TRIALS = 240
make_trials = partial(make_trial_env, TASK, Inputs())


def run(policy, num_trials=TRIALS):
    score = partial(score_goal_courses, wait=psi_patching.WAIT)
    return psi_patching.run(
        policy, make_trials, find_goal_donors, score, find_wall_beside, num_trials=num_trials, min_effect=0.5
    )


def test_who_plans_goes_to_the_donors_goal_in_its_own_maze():
    evidence = run(Walker(plans=True))
    assert evidence.outcome == "supported"
    assert evidence.effect.value > 0.95
    assert evidence.effect.n >= psi_patching.MIN_TRIALS
    assert evidence.controls[SAME].value == 0.0
    assert max(item.value for item in evidence.controls.values()) < 0.6


def test_who_replays_goes_the_donors_way_in_the_wrong_maze():
    evidence = run(Walker(plans=False))
    assert evidence.outcome != "supported"
    assert evidence.effect.value < 0.7  # mazes of nine cells: some ways fit both


@pytest.fixture(scope="module")
def plain():
    return play_trials(Walker(plans=True), make_trials(60))


def test_donors_are_what_they_promise(plain):
    donors = find_goal_donors(plain)
    goals, levels = plain.latents["goal"], plain.latents["level"]
    starts = plain.extras["square_before"][:, 0]
    for name, ids in vars(donors).items():
        own = (ids >= 0).nonzero().squeeze(1)
        theirs = ids[own]
        assert len(own) > 5, name
        assert torch.equal(starts[own], starts[theirs])
        assert bool((levels[own] != levels[theirs]).all())
        assert bool(plain.success[theirs, 0].all())
        assert bool(((goals[own] == goals[theirs]) == (name == "same")).all())
    both = (donors.donor >= 0) & (donors.wrong >= 0)
    assert bool((goals[donors.donor[both]] != goals[donors.wrong[both]]).all())


def test_moves_into_a_wall_beside_lead_nowhere(plain):
    still, second = find_wall_beside(plain), psi_patching.first_step_of_second_episode(plain)
    waited = play_trials(
        Walker(plans=True), make_trials(60), forced=psi_patching.wait_after(plain, second, still.clamp(min=0))
    )
    rows = ((still >= 0) & (second >= 0)).nonzero().squeeze(1)
    there = plain.extras["square"][rows, second[rows]]
    later = (second[rows] + psi_patching.WAIT).clamp(max=plain.actions.shape[1] - 1)
    kept = waited.active[rows, later]
    assert int(kept.sum()) > 20
    assert torch.equal(waited.extras["square"][rows, later][kept], there[kept])


def test_a_memory_of_ones_own_changes_nothing(plain):
    second = psi_patching.first_step_of_second_episode(plain)
    keeper = psi_patching._Keeper(Walker(plans=True), second)
    kept = play_trials(keeper, make_trials(60))
    again = play_trials(TransplantedMemory(Walker(plans=True), second + 1, keeper.kept), make_trials(60))
    assert torch.equal(kept.logits, plain.logits)
    assert torch.equal(again.logits, plain.logits)


def test_moves_are_repeated_from_the_second_step_on():
    plain = play_trials(Walker(plans=True), make_trials(12))
    second = psi_patching.first_step_of_second_episode(plain)
    donors = torch.arange(12).roll(1)
    waits = psi_patching.wait_after(plain, second, torch.full_like(second, 3))
    forced = psi_patching.repeat_moves(plain, donors, second, waits)
    wait = psi_patching.WAIT
    row = int((second > 0).nonzero()[0])
    own, theirs = int(second[row]), int(second[donors[row]])
    assert torch.equal(forced[row, : own + 1], plain.actions[row, : own + 1])
    assert forced[row, own + 1 : own + 1 + wait].tolist() == [3] * wait
    assert set(waits[row, : own + 1].tolist()) == {-1}
    if theirs >= 0 and max(theirs, own + wait) + 1 < plain.actions.shape[1]:
        assert int(forced[row, own + wait + 1]) == int(plain.actions[donors[row], theirs + 1])


def test_misuse_is_refused():
    class Blank(Walker):
        def initial_state(self, num_boards, board=None):
            return ()

    with pytest.raises(ShapeError, match="no memory"):
        run(Blank(plans=True))
    with pytest.raises(TooFewLevelsError, match="donors"):
        run(Walker(plans=True), num_trials=12)
    assert (DONOR, WRONG, REPEATED) == ("donor", "wrong donor", "donor's moves repeated")
