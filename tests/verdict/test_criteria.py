"""Every threshold stands once, with a reason; detectors agree with it where they must hold a copy."""

from __future__ import annotations

import dataclasses

import pytest

from planprobe.instruments.detectors import outcome
from planprobe.verdict import criteria
from planprobe.verdict.criteria import CRITERIA, are_calibrated


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=list(CRITERIA))
def test_a_threshold_has_a_reason_and_no_invented_error_rate(criterion: criteria.Criterion):
    assert len(criterion.reason) > 40
    assert criterion.source
    assert criterion.value > 0
    assert not criterion.calibrated
    with pytest.raises(dataclasses.FrozenInstanceError):
        criterion.value = 0.5


def test_every_criterion_of_the_module_is_listed():
    defined = {value.name for value in vars(criteria).values() if isinstance(value, criteria.Criterion)}
    assert defined == set(CRITERIA)


def test_instruments_decide_with_the_same_level_and_power():
    """Instruments may not import the verdict, so these two stand twice; they must not drift apart."""
    assert criteria.ALPHA.value == outcome.LEVEL
    assert criteria.MIN_POWER.value == outcome.MIN_POWER


def test_calibrated_means_every_detector_has_measured_rates():
    assert not are_calibrated([])
    assert not are_calibrated(["D1"])
    assert not are_calibrated(["D99"])
    measured = {
        name: dataclasses.replace(each, false_positive_rate=0.0, true_positive_rate=1.0)
        for name, each in CRITERIA.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(criteria, "CRITERIA", measured)
        assert are_calibrated(["D1", "D7"])
        assert not are_calibrated(["D1", "D2"])
