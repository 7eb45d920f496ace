"""Slices in site patterns, and everything that would name nothing."""

import pytest
import torch
from counting_policies import H0, Counter, run

from planprobe.core.errors import AddressError, CaptureError, UnknownSiteError
from planprobe.instruments.hooks import Address, Edit, ablate, capture, intervene, open_policy, select_sites


@pytest.fixture(scope="module")
def opened():
    return open_policy(Counter(ticks=12), name="counter")


@pytest.mark.parametrize(
    ("pattern", "ticks"),
    [
        ("ticks.{1:3}.*", [1, 2]),
        ("ticks.{10:}.0.hook_h", [10, 11]),
        ("ticks.{:2}.{k}.hook_h", [0, 1]),
        ("ticks.{-1}.*", [11]),
        ("ticks.{-3:-1}.*", [9, 10]),
        ("ticks.{::5}.{0:1}.hook_h", [0, 5, 10]),
        ("ticks.{0,11}.*", [0, 11]),
        ("ticks.{2}.*", [2]),
    ],
)
def test_slices_choose_by_number_and_not_by_text(opened, pattern, ticks):
    assert select_sites(opened, pattern) == [f"ticks.{tick}.0.hook_h" for tick in ticks]


@pytest.mark.parametrize("pattern", ["ticks.{12:}.*", "ticks.{-13}.*", "ticks.{3:3}.*", "{0:2}.*"])
def test_slices_that_hold_nothing_name_the_sites_there_are(opened, pattern):
    with pytest.raises(UnknownSiteError, match=r"counter.*\n.*ticks\.0\.0\.hook_h"):
        select_sites(opened, pattern)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"steps": []}, "name no step"),
        ({"steps": slice(3, 3)}, "name no step"),
        ({"steps": slice(5, 2, -1)}, "backwards"),
        ({"steps": [-1]}, "Count from 0"),
        ({"channels": []}, "empty list"),
        ({"squares": torch.zeros(2, 2, dtype=torch.bool)}, "with no true entry"),
    ],
)
def test_empty_addresses_are_refused_at_once(parts, message):
    with pytest.raises(AddressError, match=message):
        Address(H0, **parts)


def test_an_edit_at_steps_that_never_come_is_an_error(opened):
    message = r"steps \[7\] did nothing: none of these came in 3 steps"
    with pytest.raises(CaptureError, match=message), intervene(opened, ablate(Address(H0, steps=[7]))):
        run(opened, steps=3)
    assert not opened.live
    with intervene(opened, ablate(Address(H0, steps=[7]))):  # nothing ran, so nothing was missed
        pass
    with intervene(opened, Edit(Address(H0, steps=[2, 7]), lambda value, moment: value)):
        run(opened, steps=3)


def test_a_capture_at_steps_that_never_come_is_an_error(opened):
    with capture(opened, H0, steps=[7]) as cache:
        run(opened, steps=3)
    with pytest.raises(CaptureError, match="no step was captured"):
        _ = cache[H0]
