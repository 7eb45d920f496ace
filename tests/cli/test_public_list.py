"""`import planprobe` offers everything and imports nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import planprobe


def test_the_list_is_complete_and_sorted():
    assert set(planprobe.__all__) == {*planprobe._HOMES, "__version__"}
    assert len(set(planprobe.__all__)) == len(planprobe.__all__)
    assert dir(planprobe) == sorted(planprobe.__all__)


@pytest.mark.parametrize("name", planprobe.__all__)
def test_every_name_is_there_and_documented(name):
    value = getattr(planprobe, name)
    assert name == "__version__" or isinstance(value, dict) or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lode_agent'"):
        _ = planprobe.lode_agent


def test_importing_costs_nothing():
    code = "import sys, planprobe; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "numpy", "importlib.metadata"}.isdisjoint(loaded)
