"""Every threshold stands once, with a reason; detectors agree with it where they must hold a copy."""

from __future__ import annotations

import dataclasses

import pytest

from planprobe.instruments.detectors import outcome
from planprobe.verdict import criteria
from planprobe.verdict.criteria import CRITERIA


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=list(CRITERIA))
def test_a_threshold_has_a_reason(criterion: criteria.Criterion):
    assert len(criterion.reason) > 40
    assert criterion.source
    assert criterion.value > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        criterion.value = 0.5


def test_every_criterion_of_the_module_is_listed():
    defined = {value.name for value in vars(criteria).values() if isinstance(value, criteria.Criterion)}
    assert defined == set(CRITERIA)


def test_instruments_decide_with_the_same_level_and_power():
    """Instruments may not import the verdict, so these two stand twice; they must not drift apart."""
    assert criteria.ALPHA.value == outcome.LEVEL
    assert criteria.MIN_POWER.value == outcome.MIN_POWER
