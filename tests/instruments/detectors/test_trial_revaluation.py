"""D10 within trials: scores by hand, and a habit told from a choice."""

from functools import partial

import numpy as np
import pytest
import torch

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.instruments.detectors import trial_revaluation
from planprobe.instruments.detectors.trial_revaluation import KEPT, RESET_STEPS, Change
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs

LAST = Change(
    "the other arm at the last pull",
    partial(make_trial_env, BanditTask(num_arms=2, num_pulls=10), Inputs()),
    score=lambda rollout: (rollout.actions[:, -1] != rollout.actions[:, 0]).double().numpy(),
    cached=lambda rollout: {"the same arm": np.zeros(len(rollout.actions))},
)


class Arms:
    """Pulls arm 0; where it `switches`, arm 1 once it has seen nine steps."""

    def __init__(self, switches):
        self.switches = switches

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        count = state[0] + 1
        second = self.switches & (count[:, 0] > 9)
        return 50.0 * torch.nn.functional.one_hot(second.long(), 2).float(), count[:, 0], (count,)


def judge(scores, **options):
    return trial_revaluation.judge({"a change": scores}, **{"min_effect": 0.2} | options)


def test_a_habit_is_told_from_a_choice():
    chosen = trial_revaluation.run(Arms(True), [LAST], num_trials=40, min_effect=0.2)
    assert chosen.outcome == "supported"
    assert (chosen.effect.value, chosen.beyond_controls.value) == (1.0, 1.0)
    assert {name: item.value for name, item in chosen.controls.items()} == {RESET_STEPS: 0.0, "the same arm": 0.0}
    habit = trial_revaluation.run(Arms(False), [LAST], num_trials=40, min_effect=0.2)
    assert habit.outcome == "refuted"
    assert [row["condition"] for row in habit.rows] == [KEPT, RESET_STEPS, "the same arm"]


def test_only_trials_with_a_better_course_count():
    own = np.array([1.0] * 9 + [0.0] * 3 + [np.nan] * 20)
    found = judge({KEPT: own, "replay": np.where(np.isnan(own), np.nan, 0.0)})
    assert found.effect.n == 12
    assert found.effect.value == pytest.approx(0.75)
    assert found.beyond_controls.value == pytest.approx(0.75)


def test_the_best_control_counts_also_where_it_is_better_than_the_agent():
    own, luck = np.tile([1.0, 0.0, 0.0, 0.0], 25), np.tile([1.0, 1.0, 0.0, 0.0], 25)
    found = judge({KEPT: own, "replay": np.zeros(100), "reset": luck})
    assert found.beyond_controls.value == pytest.approx(-0.25)
    assert found.outcome == "refuted"
    shares = judge({KEPT: own / 2, "replay": np.zeros(100)})  # shares of occasions have a power too
    assert 0.9 < shares.power <= 1.0


def test_what_a_rule_of_thumb_finds_too_is_no_sign_of_planning():
    """A rule finds the better course in 60 trials of 100; one agent does nowhere else, one in 30 of the 40 others."""
    thumb, nothing = np.repeat([1.0, 0.0], [60, 40]), np.zeros(100)
    for own, outcome, value in ((thumb, "refuted", 0.0), (np.repeat([1.0, 0.0], [90, 10]), "supported", 0.75)):
        found = judge({KEPT: own, "replay": nothing, "thumb": thumb}, rules_of_thumb=("thumb",))
        assert (found.outcome, found.beyond_controls.value, found.beyond_controls.n) == (outcome, value, 40)
        assert "On 40 of these" in found.notes[1]
    assert judge({KEPT: thumb, "replay": nothing, "thumb": thumb}).beyond_controls.n == 100


def test_who_does_no_better_than_a_habit_where_a_rule_of_thumb_would_do_is_refuted():
    thumb, nothing = np.repeat([1.0, 0.0], [95, 5]), np.zeros(100)  # five trials are too few to say anything
    habit = judge({KEPT: nothing, "replay": nothing, "thumb": thumb}, rules_of_thumb=("thumb",))
    assert (habit.outcome, habit.beyond_controls.value, list(habit.controls)) == ("refuted", 0.0, ["replay"])
    as_good = judge({KEPT: thumb, "replay": nothing, "thumb": thumb}, rules_of_thumb=("thumb",))
    assert as_good.outcome == "inconclusive"  # no better than the rule, and much better than the habit


def test_several_changes_make_one_score_a_trial():
    nan = np.nan
    first = {KEPT: np.array([1.0, 0.0, nan, nan] * 6), "replay": np.zeros(24), "only here": np.ones(24)}
    second = {KEPT: np.array([0.0, 0.0, 1.0, nan] * 6), "replay": np.zeros(24)}
    found = trial_revaluation.judge({"opened": first, "closed": second}, min_effect=0.2)
    assert (found.effect.value, found.effect.n) == (pytest.approx((0.5 + 0 + 1) / 3), 18)
    assert list(found.controls) == ["replay"]
    assert [(row["change"], row["n"]) for row in found.rows if row["condition"] == KEPT] == [
        ("opened", 12), ("closed", 18)
    ]  # fmt: skip


def test_misuse_is_refused():
    with pytest.raises(TooFewLevelsError, match="2 of 12"):
        judge({KEPT: np.array([1.0, 0.0] + [np.nan] * 10), "replay": np.zeros(12)})
    with pytest.raises(ShapeError, match="same trials"):
        judge({KEPT: np.ones(12), "replay": np.zeros(11)})
