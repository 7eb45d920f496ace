"""Intervals and power of proportions, against counting by hand and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats as oracle

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.records import Effect
from planprobe.instruments.statistics.proportions import (
    mcnemar_p,
    paired_difference,
    paired_proportion_power,
    power_of_interval,
    proportion,
)


@pytest.mark.parametrize("num_true", [0, 1, 30, 40])
def test_the_interval_of_a_proportion_is_wilsons(num_true):
    effect = proportion(np.arange(40) < num_true, unit="fraction solved")
    expected = oracle.binomtest(num_true, 40).proportion_ci(method="wilson")
    assert (effect.value, effect.n, effect.unit) == (num_true / 40, 40, "fraction solved")
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))


def draw_pairs(repeats, num_levels, only_first, only_second, both, seed=0):
    """Paired outcomes with the given chances, (repeats, num_levels) twice."""
    kinds = np.random.default_rng(seed).choice(
        4, size=(repeats, num_levels), p=[only_first, only_second, both, 1 - only_first - only_second - both]
    )
    return (kinds == 0) | (kinds == 2), (kinds == 1) | (kinds == 2)


def test_the_paired_interval_of_a_published_example():
    """Cavo et al. 2012: 59 both, 6 and 16 discordant, 80 neither; limits as the R package contingencytables gives."""
    counts = [59, 6, 16, 80]
    effect = paired_difference(np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts))
    assert (effect.value, effect.low, effect.high) == pytest.approx((-0.0621, -0.1186, -0.0046), abs=5e-5)
    assert effect.p == pytest.approx(oracle.binomtest(6, 22).pvalue)


def test_the_paired_interval_covers_as_often_as_it_says():
    repeats = 400
    first, second = draw_pairs(repeats, 150, 0.08, 0.03, 0.6)
    effects = [paired_difference(a, b) for a, b in zip(first, second, strict=True)]
    covered = sum(effect.low <= 0.05 <= effect.high for effect in effects)
    assert oracle.binomtest(covered, repeats, 0.95).pvalue > 1e-3
    reversed_effect = paired_difference(second[0], first[0])
    assert (reversed_effect.low, reversed_effect.high) == pytest.approx((-effects[0].high, -effects[0].low))


def test_without_discordant_levels_the_interval_has_a_width():
    solved = np.ones(300, dtype=bool)
    effect = paired_difference(solved, solved)
    assert effect.low < -0.01
    assert effect.high > 0.01
    assert effect.p == 1.0


def test_mcnemar_by_hand():
    assert mcnemar_p(0, 0) == mcnemar_p(4, 4) == 1.0
    assert mcnemar_p(5, 0) == pytest.approx(2 / 32)
    assert mcnemar_p(1, 6) == pytest.approx(2 * (1 + 7) / 128)


@pytest.mark.parametrize(
    ("num_levels", "effect", "rate"), [(200, 0.05, 0.08), (400, 0.02, 0.06), (100, -0.1, 0.2), (60, 0.1, 0.1)]
)
def test_power_is_that_of_a_simulation(num_levels, effect, rate):
    repeats = 4000
    first, second = draw_pairs(repeats, num_levels, (rate + effect) / 2, (rate - effect) / 2, 0.5)
    counts = zip((first & ~second).sum(1).tolist(), (second & ~first).sum(1).tolist(), strict=True)
    known: dict = {}
    seen = sum(known.setdefault(pair, mcnemar_p(*pair)) <= 0.05 for pair in counts)
    expected = paired_proportion_power(num_levels, effect=effect, discordant_rate=rate)
    assert abs(seen / repeats - expected) < 4 * math.sqrt(expected * (1 - expected) / repeats)


def test_power_grows_with_levels_and_starts_at_the_error_rate():
    powers = [paired_proportion_power(n, effect=0.02, discordant_rate=0.05) for n in (100, 400, 1600, 100_000)]
    assert powers == sorted(powers)
    assert powers[-1] > 0.999
    assert paired_proportion_power(2000, effect=0.0, discordant_rate=0.2) <= 0.05
    assert paired_proportion_power(500, effect=0.0, discordant_rate=0.0) == 0
    same = paired_proportion_power(500, effect=0.03, discordant_rate=0.03)
    assert paired_proportion_power(500, effect=0.03, discordant_rate=0.001) == same


def test_power_of_an_interval_is_that_of_a_z_test():
    effect = Effect(value=0.1, low=0.1 - 1.959964 * 0.02, high=0.1 + 1.959964 * 0.02, n=100, unit="")
    assert power_of_interval(effect, min_effect=0.04) == pytest.approx(0.516, abs=1e-3)  # two standard errors
    assert power_of_interval(effect, min_effect=0.0) == pytest.approx(0.05)
    assert math.isnan(power_of_interval(Effect(0.0, 0.0, 0.0, 9, ""), min_effect=0.1))


def test_outcomes_that_mean_nothing_are_refused():
    with pytest.raises(TooFewLevelsError):
        proportion(np.zeros(0))
    with pytest.raises(ShapeError):
        paired_difference(np.zeros(3), np.zeros(4))
    with pytest.raises(ShapeError):
        proportion(np.zeros((3, 3)))
