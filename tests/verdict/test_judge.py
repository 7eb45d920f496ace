"""The rules of the verdict, on evidence made up by hand: every reading, and everything that must not lead to one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from verdict_sample import SOLVES, effect, evidence

from planprobe.core.records import Evidence, Verdict
from planprobe.verdict.judge import NOT_CALIBRATED, READINGS, headline, judge

CASES = [
    ({"D1": "supported", "D2": "supported", "D7": "supported", "D10": "supported"}, "plans"),
    ({"D1": "supported", "D2": "supported", "D7": "supported"}, "cannot say"),
    ({"D1": "supported", "D7": "supported", "D10": "supported"}, "cannot say"),
    ({"D1": "supported", "D4": "supported", "D7": "supported"}, "cannot say"),
    ({"D1": "refuted", "D4": "refuted", "D7": "refuted"}, "does not plan"),
    ({"D1": "refuted", "D4": "inconclusive", "D7": "refuted"}, "does not plan"),
    ({"D1": "refuted", "D4": "refuted", "D7": "inconclusive"}, "cannot say"),
    ({"D1": "refuted", "D4": "refuted", "D7": "refuted", "D10": "supported"}, "does not plan"),
    ({"D1": "refuted", "D4": "supported", "D7": "refuted"}, "plan present but unused"),
    ({"D1": "inconclusive", "D4": "supported", "D7": "refuted"}, "plan present but unused"),
    ({"D1": "supported", "D4": "supported", "D7": "refuted"}, "cannot say"),
    ({"D1": "refuted", "D4": "supported", "D7": "inconclusive"}, "cannot say"),
    ({"D1": "refuted", "D4": "supported"}, "cannot say"),
    ({"D4": "supported", "D7": "refuted", "D9": "supported"}, "cannot say"),
    ({"D11": "supported", "D10": "refuted"}, "adapts without planning"),
    ({"D11": "supported"}, "cannot say"),
    ({}, "cannot say"),
]


def judged(outcomes: dict[str, str], **options) -> Verdict:
    items = [evidence(detector, outcome) for detector, outcome in outcomes.items()]
    return judge(items, agent="some-agent", solve_rate=options.pop("solve_rate", SOLVES), **options)


@pytest.mark.parametrize(("outcomes", "reading"), CASES)
def test_reading(outcomes: dict[str, str], reading: str):
    verdict = judged(outcomes)
    assert verdict.reading == reading
    assert verdict.reading in READINGS
    assert any(reason.startswith("leaning:") for reason in verdict.reasons) == (reading == "cannot say")


AFRESH = {"condition": "new board, no memory", "judged": True, "lead": 0.6, "lead_low": 0.5}


@pytest.mark.parametrize(
    ("outcomes", "row", "reading"),
    [
        ({}, {}, "plans"),
        ({}, {"lead": 0.15}, "cannot say"),  # too seldom to matter
        ({}, {"lead_low": 0.0}, "cannot say"),
        ({}, {"judged": False}, "cannot say"),  # after another number of looks
        ({}, {"condition": "new board"}, "cannot say"),  # not from a blank memory
        ({"D10": "inconclusive"}, {}, "cannot say"),
        ({"D2": "inconclusive", "D5": "supported"}, {}, "cannot say"),
        ({"D1": "inconclusive"}, {}, "cannot say"),
        ({"D7": "refuted"}, {}, "cannot say"),
        ({"D1": "refuted", "D7": "refuted"}, {}, "does not plan"),
    ],
)
def test_who_plans_once_and_follows_it_whatever_it_sees(outcomes: dict, row: dict, reading: str):
    found = {"D1": "supported", "D2": "supported", "D7": "supported", "D10": "refuted"} | outcomes
    items = [evidence(name, outcome) for name, outcome in found.items() if name != "D10"]
    verdict = judge([*items, evidence("D10", found["D10"], rows=[AFRESH | row])], agent="a", solve_rate=SOLVES)
    assert verdict.reading == reading
    assert any(reason.startswith("It plans once") for reason in verdict.reasons) == (reading == "plans")


def test_its_type_says_once():
    items = [evidence(name, "supported") for name in ("D1", "D2", "D7")]
    once = evidence("D10", "refuted", rows=[AFRESH])
    flat = evidence("D3", "refuted")
    assert judge([*items, flat, once], agent="a", solve_rate=SOLVES).planning_type == "parallel sweep, once"
    assert judge([*items, once], agent="a", solve_rate=SOLVES).planning_type == "not determined"
    again = evidence("D10", "supported", rows=[AFRESH])
    assert judge([*items, flat, again], agent="a", solve_rate=SOLVES).planning_type == "parallel sweep"


@pytest.mark.parametrize("reading", READINGS)
def test_no_reading_is_shown_without_the_warning(reading: str):
    verdict = replace(judged({"D1": "supported"}), reading=reading)
    assert not verdict.calibrated
    assert NOT_CALIBRATED in headline(verdict)
    assert NOT_CALIBRATED not in headline(replace(verdict, calibrated=True))


def test_training_failure_is_not_falsification():
    verdict = judged({"D1": "refuted", "D4": "refuted", "D7": "refuted"}, solve_rate=effect(0.1))
    assert verdict.reading == "cannot say"
    assert "training failure" in verdict.reasons[0]
    assert any("better trained" in item for item in verdict.missing)


def test_a_weak_agent_may_still_be_shown_to_plan():
    outcomes = dict.fromkeys(("D1", "D2", "D7", "D10"), "supported")
    assert judged(outcomes, solve_rate=effect(0.1)).reading == "plans"


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (evidence("D1", "refuted", power=0.3), "power 0.30"),
        (evidence("D1", "supported", beyond=0.01), "reaches zero"),
    ],
)
def test_an_outcome_that_does_not_count_is_named(spoilt: Evidence, why: str):
    verdict = judge([spoilt, evidence("D7", "refuted")], agent="a", solve_rate=SOLVES)
    assert verdict.reading == "cannot say"
    assert any(why in reason for reason in verdict.reasons)
    assert any(item.startswith("D1: a settled outcome") for item in verdict.missing)


def test_a_few_random_directions_settle_nothing():
    few = [{"half": "report", "judged": True, "source": "random directions", "num_tables": 20}]
    verdict = judge([evidence("D1", "refuted"), evidence("D7", "refuted", rows=few)], agent="a", solve_rate=SOLVES)
    assert verdict.reading == "cannot say"
    assert any("20 random directions are too few" in reason for reason in verdict.reasons)


def test_nothing_is_invented():
    """What was not measured is missing, and each reason speaks of evidence that is there."""
    verdict = judged({"D4": "supported"})
    for detector in ("D1", "D2", "D7", "D10"):
        assert any(item.startswith(detector) for item in verdict.missing)
    assert [reason.split()[0] for reason in verdict.reasons] == ["D4", "leaning:"]
    assert any("organisms" in item for item in verdict.missing)


@pytest.mark.parametrize(
    ("outcomes", "planning_type"),
    [
        ({"D2": "supported", "D3": "refuted"}, "parallel sweep"),
        ({"D2": "supported", "D3": "supported"}, "serial or sampled"),
        ({"D2": "refuted", "D3": "refuted"}, "not determined"),
        ({"D2": "supported", "D3": "inconclusive"}, "not determined"),
        ({"D2": "supported"}, "not determined"),
    ],
)
def test_type_of_planning(outcomes: dict[str, str], planning_type: str):
    verdict = judged(outcomes)
    assert verdict.planning_type == planning_type
    assert any(planning_type in reason for reason in verdict.reasons) == (planning_type != "not determined")


def test_in_trials_a_better_course_leans_towards_planning_and_none_is_adapting_alone():
    leaning = judged({"D10": "supported", "D11": "supported"}).reasons[-1]
    assert "never took" in leaning and "memory" not in leaning
    assert "memory" in judged({"D8": "supported", "D10": "supported", "D11": "supported"}).reasons[-1]
    assert judged({"D10": "refuted", "D11": "supported"}).reading == "adapts without planning"


def test_a_lever_is_not_called_a_plan():
    assert "lever" not in judged({"D1": "supported", "D4": "supported", "D7": "supported"}).reasons[-1]
    assert "lever" in judged({"D1": "supported", "D4": "inconclusive", "D7": "supported"}).reasons[-1]


def test_causal_evidence_comes_first_and_order_does_not_matter():
    outcomes = {"D4": "supported", "D1": "refuted", "D7": "refuted"}
    verdict = judged(outcomes)
    assert [item.detector for item in verdict.evidence] == ["D7", "D1", "D4"]
    assert judged(dict(reversed(outcomes.items()))) == verdict
