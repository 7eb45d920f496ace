"""Selection or control: each part rests on the detectors it names, and what is not settled stays open."""

from __future__ import annotations

from dataclasses import replace

import pytest
from verdict_sample import SOLVES, evidence

from planprobe.verdict.criteria import SWITCHES
from planprobe.verdict.judge import judge
from planprobe.verdict.selection import (
    CONTROL,
    NEITHER,
    OPEN,
    SELECTION,
    answer_selection,
    excludes_effect,
    ways_alternate,
)

S, R, OPEN_YET = "supported", "refuted", "inconclusive"


def ticks_of(outcome: str, *, switches_low: float | None = 0.0, slope: float = 1.0, several_ways: bool = True):
    row = {"table": "order found", "switches_low": switches_low, "several_ways": several_ways}
    item = evidence("D6", outcome, rows=[{"table": "order"}, row])
    return replace(item, effect=replace(item.effect, value=slope))


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ({"D1": S, "D3": S, "D10": S}, SELECTION),  # followed one by one
        ({"D1": S, "D2": S, "D3": R, "D4": S, "D10": S}, SELECTION),  # swept all at once
        ({"D1": S, "D2": S, "D3": R, "D10": S}, OPEN),  # no plan was read beside the sweep
        ({"D1": S, "D3": S, "D8": R, "D10": S}, OPEN),  # an edit of the objective outweighs one of the world
        ({"D1": S, "D3": S, "D8": S, "D10": R}, SELECTION),
        ({"D10": R, "D11": S}, CONTROL),
        ({"D1": R, "D10": R}, NEITHER),
        ({"D1": R, "D10": R, "D11": S}, CONTROL),
        ({"D1": OPEN_YET, "D3": S, "D10": S}, OPEN),
        ({"D11": S}, OPEN),  # nothing was edited
        ({"D10": OPEN_YET, "D11": S}, OPEN),
        ({"D1": R, "D10": OPEN_YET}, OPEN),
        ({}, OPEN),
    ],
)
def test_answer(found: dict, name: str):
    taken = [evidence(detector, outcome) for detector, outcome in found.items()]
    assert answer_selection(found, taken).split(":")[0] == name


@pytest.mark.parametrize(("lead", "name"), [(0.6, SELECTION), (0.1, OPEN)])
def test_a_choice_that_can_be_changed_until_it_is_made(lead: float, name: str):
    row = {"condition": "new board, no memory", "judged": True, "lead": lead, "lead_low": lead - 0.05}
    answer = answer_selection({"D1": S, "D3": S, "D10": R}, [evidence("D10", R, rows=[row])])
    assert answer.split(":")[0] == name
    assert ("until it has settled" in answer) == (name == SELECTION)


def test_an_interval_below_the_smallest_effect_is_enough_to_be_flat():
    """What lacks power for a verdict of its own still rules out what its interval excludes."""
    flat, open_yet = (
        replace(item, beyond_controls=replace(item.beyond_controls, low=-1.0, value=0.0, high=high))
        for item in [evidence("D3", OPEN_YET)]
        for high in (0.9 * item.min_effect, 1.1 * item.min_effect)
    )
    assert excludes_effect([flat], "D3") and not excludes_effect([open_yet], "D3") and not excludes_effect([], "D3")
    for item, planning_type in ((flat, "parallel sweep"), (open_yet, "not determined")):
        verdict = judge([evidence("D2", S), item], agent="x", solve_rate=SOLVES)
        assert verdict.planning_type == planning_type


def test_ways_that_take_turns_are_candidates():
    alternating = ticks_of(R, switches_low=SWITCHES.value)
    assert ways_alternate([alternating])
    assert not ways_alternate([ticks_of(R, switches_low=SWITCHES.value / 2), ticks_of(R, switches_low=None)])
    assert not ways_alternate([ticks_of(R, switches_low=9.0, several_ways=False)])
    found = {"D1": S, "D10": S, "D6": R}
    assert answer_selection(found, [alternating]).startswith(SELECTION)
    assert answer_selection(found, [ticks_of(R)]).startswith(OPEN)


@pytest.mark.parametrize(
    ("outcomes", "ticks", "planning_type"),
    [
        ({"D2": S, "D3": S}, ticks_of(S), "serial rollout"),
        ({"D2": S, "D3": S}, ticks_of(S, slope=-1.0), "serial rollout"),
        ({"D2": S, "D3": S}, ticks_of(OPEN_YET), "serial or sampled"),
        ({"D2": S, "D3": S}, ticks_of(R, switches_low=2.0), "sampled worlds"),
        ({"D2": S, "D3": S}, ticks_of(R), "sampled worlds"),  # whole ways, one after the other
        ({"D2": S, "D3": S}, ticks_of(S, switches_low=2.0), "serial rollout"),  # of several candidates
        ({"D2": S, "D3": S}, ticks_of(OPEN_YET, switches_low=2.0), "sampled worlds"),
        ({"D2": S, "D3": R}, ticks_of(R, switches_low=2.0), "sampled worlds"),
        ({"D2": S, "D3": R}, ticks_of(R), "parallel sweep"),
        ({"D2": S, "D3": R}, ticks_of(S), "not determined"),  # forward, yet no longer for more candidates
        ({"D2": S, "D3": R}, ticks_of(S, slope=-1.0), "parallel sweep"),  # a wave's values come from the goal
    ],
)
def test_order_of_decoding_in_the_type(outcomes: dict, ticks, planning_type: str):
    items = [evidence(name, outcome) for name, outcome in outcomes.items()]
    verdict = judge([*items, ticks], agent="a", solve_rate=SOLVES)
    assert verdict.planning_type == planning_type
    assert verdict.selection == answer_selection({**outcomes, "D6": ticks.outcome}, [ticks])
