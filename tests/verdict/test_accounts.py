"""Accounts: what rules them out, and that no prediction contradicts an organism of which the account is true."""

from __future__ import annotations

import pytest
from verdict_sample import SOLVES, evidence

from planprobe.subjects.organisms.families import FAMILIES
from planprobe.verdict.accounts import ACCOUNTS, IN_TRIALS, PREDICTIONS, weigh_accounts
from planprobe.verdict.calibrate import Case, JudgedCase, own_account_stands
from planprobe.verdict.judge import judge
from planprobe.verdict.truths import ACCOUNT_OF, TRUE_OF, TRUE_OF_TRIALS, claim_holds

S, R, OPEN_YET = "supported", "refuted", "inconclusive"


def standing(found: dict, **options) -> str:
    return "".join(row["account"][0] for row in weigh_accounts(found, **options) if row["stands"])


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({}, "ABCDEF"),
        ({"D1": OPEN_YET, "D7": OPEN_YET}, "ABCDEF"),
        ({"D1": S, "D2": S, "D3": R, "D7": S, "D10": S}, "CE"),  # as a wavefront
        ({"D1": S, "D2": S, "D3": S, "D6": S, "D7": S, "D10": S}, "D"),  # as a rollout
        ({"D1": R, "D7": R}, "ABF"),
        ({"D11": S, "D13": S}, "ACDE"),
        ({"D11": S, "D13": R}, "ABDE"),
        ({"D11": R, "D12": R}, "DEF"),
        ({"D4": S, "D5": S, "D9": R, "D14": S}, "ABCDEF"),  # no account predicts these
    ],
)
def test_accounts_left(found: dict, left: str):
    assert standing(found) == left


def test_a_better_way_in_a_trial_leaves_adaptation_standing():
    assert standing({"D10": S}) == "BCDE"
    assert standing({"D10": S}, in_trials=True) == "ABCDE"
    assert standing({"D10": R}, in_trials=True) == standing({"D10": R}) == "ABCF"


def test_each_side_names_its_detectors():
    rows = {row["account"]: row for row in weigh_accounts({"D7": S, "D1": S, "D2": S, "D3": R})}
    assert rows["E parallel value sweep"] == {
        "account": "E parallel value sweep", "as predicted": "D7, D1, D2, D3", "against it": "", "stands": True,
    }  # fmt: skip
    assert rows["D serial rollouts"]["against it"] == "D3"
    assert not rows["D serial rollouts"]["stands"]


def test_every_prediction_is_one_of_three_for_each_account():
    assert all(len(signs) == len(ACCOUNTS) and set(signs) <= set("+-o") for signs in PREDICTIONS.values())


@pytest.mark.parametrize(("family", "letter"), ACCOUNT_OF.items())
def test_no_prediction_contradicts_its_organisms(family: str, letter: str):
    kinds = FAMILIES[family].tasks if family in FAMILIES else ("maze",)
    for kind in kinds:
        trials = kind not in ("maze", "sokoban")
        for detector in TRUE_OF_TRIALS if trials else TRUE_OF:
            key = detector + IN_TRIALS * (trials and detector + IN_TRIALS in PREDICTIONS)
            sign = PREDICTIONS.get(key, "oooooo")["ABCDEF".index(letter)]
            holds = claim_holds(detector, family, kind)
            assert sign == "o" or holds is None or holds == (sign == "+"), (family, kind, detector)


def test_the_judge_counts_only_outcomes_that_count():
    weak = judge([evidence("D1", R, power=0.5), evidence("D7", R)], agent="a", solve_rate=SOLVES)
    assert [row["account"][0] for row in weak.accounts if row["stands"]] == list("ABCF")
    assert all("D1" not in row["against it"] for row in weak.accounts)


@pytest.mark.parametrize(
    ("outcome", "power", "solve_rate", "stands"),
    [(R, 0.9, 0.9, False), (R, 0.7, 0.9, True), (R, None, 0.9, True), (R, 0.9, 0.3, True), (S, 0.9, 0.9, True)],
)
def test_own_account_of_an_organism(outcome: str, power: float | None, solve_rate: float, stands: bool):
    rows = [{"detector": "D1", "outcome": outcome, "low": 0.01, "power": power}]
    case = Case("wavefront", "maze", 9, 0)
    judged = JudgedCase(case, "plans", "parallel sweep", "cannot say", "not determined", solve_rate, 1.0, rows)
    assert own_account_stands(judged) is stands
