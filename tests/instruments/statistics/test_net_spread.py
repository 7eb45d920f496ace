"""Leads over untrained nets: worked by hand, and how often the interval covers nothing where nothing is there."""

import math

import numpy as np
import pytest

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.records import Effect
from planprobe.instruments.statistics.net_spread import lead_over_nets, mean_of_nets, smaller_lead
from planprobe.instruments.statistics.stats import as_sums, cluster_bootstrap, ratio

T_3 = 3.182446305284263  # 97.5 % quantile of t with three degrees of freedom


def test_nets_that_do_not_vary_over_levels_leave_a_t_interval_of_the_nets():
    own = as_sums(np.full(10, 0.9))
    nets = as_sums(np.array([0.1, 0.2, 0.3, 0.4])[:, None].repeat(10, 1))
    lead = lead_over_nets(own, nets, ratio, unit="F1")
    sd = np.std([0.1, 0.2, 0.3, 0.4], ddof=1)
    reach = T_3 * sd * math.sqrt(1 + 1 / 4)
    assert (lead.value, lead.n, lead.unit) == (pytest.approx(0.65), 10, "F1")
    assert (lead.low, lead.high) == (pytest.approx(0.65 - reach), pytest.approx(0.65 + reach))
    assert 0.01 < lead.p < 0.05  # t = .65 / (sd sqrt(5/4)) = 4.50 with three degrees of freedom: p = .0205
    assert lead.p == pytest.approx(0.0205, abs=1e-4)
    mean = mean_of_nets(nets, ratio)
    assert (mean.value, mean.high) == (pytest.approx(0.25), pytest.approx(0.25 + T_3 * sd / 2))
    assert mean.p is None


def test_nets_that_differ_by_their_levels_alone_leave_the_interval_over_levels():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 400))
    values[1:] -= values[1:].mean(1, keepdims=True)  # as a level draw would have it, nets of one and the same score
    lead = lead_over_nets(as_sums(values[0]), as_sums(values[1:]), ratio)
    known = cluster_bootstrap(values[0] - values[1:].mean(0))
    assert lead.value == pytest.approx(known.value)
    assert lead.high - lead.low == pytest.approx(known.high - known.low, rel=0.05)


@pytest.mark.parametrize("net_sd", [0.0, 0.3, 1.0])
def test_one_more_untrained_net_is_beyond_the_others_as_rarely_as_stated(net_sd):
    rng, covered, above, by_levels = np.random.default_rng(1), 0, 0, 0
    repeats, num_levels = 400, 24
    for _ in range(repeats):
        level = rng.normal(size=num_levels)
        values = level + net_sd * rng.normal(size=(6, 1)) + rng.normal(size=(6, num_levels))
        lead = lead_over_nets(as_sums(values[0]), as_sums(values[1:]), ratio)
        covered += lead.low <= 0 <= lead.high
        above += lead.p < 0.05
        alone = values[0] - values[1]
        by_levels += abs(alone.mean()) <= 2.07 * alone.std(ddof=1) / math.sqrt(num_levels)
    assert 0.92 <= covered / repeats <= 0.995
    assert above == repeats - covered
    if net_sd == 1:
        assert by_levels / repeats < 0.6  # what an interval over levels makes of it


def test_the_smaller_lead_counts():
    first, second = Effect(0.3, 0.1, 0.5, 20, "F1", 0.01), Effect(0.4, -0.1, 0.9, 19, "F1", 0.2)
    assert smaller_lead(first, second) == smaller_lead(second, first) == Effect(0.3, -0.1, 0.5, 19, "F1", 0.2)
    nothing = Effect(math.nan, math.nan, math.nan, 0, "F1", math.nan)
    assert math.isnan(smaller_lead(first, nothing).low)
    assert smaller_lead(first, first) == first


def test_what_has_no_spread():
    own, nets = as_sums(np.full(10, 0.9)), as_sums(np.full((3, 10), 0.5))
    lead = lead_over_nets(own, nets, ratio)
    assert (lead.low, lead.high) == (pytest.approx(0.4), pytest.approx(0.4))
    assert lead.p == 2.0**-9
    assert lead_over_nets(own, own[None].repeat(3, 0), ratio).p == 1
    empty = lead_over_nets(np.zeros((10, 2)), np.zeros((3, 10, 2)), ratio)
    assert math.isnan(empty.value) and math.isnan(empty.low)
    with pytest.raises(TooFewLevelsError, match="got 1 and 10"):
        lead_over_nets(own, nets[:1], ratio)
    with pytest.raises(ShapeError, match="same levels"):
        lead_over_nets(own, nets[:, :9], ratio)
