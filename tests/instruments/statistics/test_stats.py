"""Intervals over levels: scipy as oracle, coverage on simulated clusters, tests that err as often as they say."""

import numpy as np
import pytest
from scipy import stats as oracle

from planprobe.core.errors import ShapeError, TooFewLevelsError, UnknownNameError
from planprobe.instruments.statistics.metrics import macro_f1
from planprobe.instruments.statistics.stats import (
    as_sums,
    bootstrap_difference,
    bootstrap_table,
    cluster_bootstrap,
    difference_over_best,
    difference_table,
    holm,
    ratio,
    swap_test,
)

BINOMIAL_P = 1e-3  # a count this unlikely fails a test


def draw_clusters(cells, levels, *, accuracy=0.7, spread=4.0, seed=0):
    """(right, rows) of each level: rows of a level share its own accuracy, as squares of one board do."""
    rng = np.random.default_rng(seed)
    own = rng.beta(accuracy * spread, (1 - accuracy) * spread, size=(cells, levels))
    rows = rng.integers(10, 40, size=(cells, levels))
    return np.stack([rng.binomial(rows, own), rows], axis=-1).astype(float)


def draw_confusions(levels, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    chances = 0.15 + 0.6 * np.eye(3) + shift * (np.eye(3) - 1 / 3)
    own = np.stack([rng.dirichlet(3 * chance, size=levels) for chance in chances], axis=1)
    rows = rng.poisson([20, 5, 3], size=(levels, 3))
    return rng.multinomial(rows, own)


# against scipy -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_limits_of_a_mean_are_those_of_scipy(method):
    values = np.random.default_rng(1).exponential(size=40)
    found = cluster_bootstrap(values, interval=method, num_resamples=20_000)
    expected = oracle.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        rng=np.random.default_rng(2),
        method="BCa" if method == "bca" else method,
    ).confidence_interval
    error = values.std() / np.sqrt(40)
    assert found.value == pytest.approx(values.mean())
    assert found.n == 40
    assert found.p is None
    assert abs(found.low - expected.low) < 0.12 * error
    assert abs(found.high - expected.high) < 0.12 * error


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_limits_of_a_macro_f1_are_those_of_scipy(method):
    counts = draw_confusions(30)

    def statistic(ids, axis=-1):
        return macro_f1(counts[ids].sum(axis=-3))

    found = cluster_bootstrap(counts, macro_f1, interval=method, num_resamples=10_000)
    expected = oracle.bootstrap(
        (np.arange(30),), statistic, n_resamples=10_000, rng=np.random.default_rng(2), vectorized=True,
        method="BCa" if method == "bca" else method,
    )  # fmt: skip
    assert found.value == pytest.approx(macro_f1(counts.sum(0)))
    interval, error = expected.confidence_interval, expected.standard_error
    assert abs(found.low - interval.low) < 0.12 * error
    assert abs(found.high - interval.high) < 0.12 * error


def test_a_table_is_its_cells_one_by_one_whatever_the_block(monkeypatch):
    tables = np.stack([draw_confusions(25, seed) for seed in range(12)])
    together = bootstrap_table(tables, macro_f1, num_resamples=300)
    assert together == [cluster_bootstrap(table, macro_f1, num_resamples=300) for table in tables]
    monkeypatch.setattr("planprobe.instruments.statistics.stats._BLOCK_VALUES", 10_000)
    assert together == bootstrap_table(tables, macro_f1, num_resamples=300)
    others = bootstrap_table(tables, macro_f1, num_resamples=300, seed=1)
    assert others[0].value == together[0].value
    assert others[0].low != together[0].low


# coverage ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_intervals_cover_as_often_as_they_say_on_simulated_clusters(method):
    repeats = 500
    effects = bootstrap_table(draw_clusters(repeats, 100), ratio, interval=method, num_resamples=1000)
    covered = sum(effect.low <= 0.7 <= effect.high for effect in effects)
    assert oracle.binomtest(covered, repeats, 0.95).pvalue > BINOMIAL_P, covered / repeats


def test_an_interval_over_rows_would_cover_far_too_seldom():
    """The reason for all this: the same data, rows taken as independent."""
    clusters = draw_clusters(500, 100).sum(1)
    share = clusters[:, 0] / clusters[:, 1]
    half = 1.96 * np.sqrt(share * (1 - share) / clusters[:, 1])
    assert (np.abs(share - 0.7) < half).mean() < 0.75


def test_intervals_of_a_macro_f1_cover_its_true_value():
    repeats, levels = 400, 60
    truth = float(macro_f1(draw_confusions(100_000, seed=99).sum(0)))
    tables = draw_confusions(repeats * levels, seed=5).reshape(repeats, levels, 3, 3)
    effects = bootstrap_table(tables, macro_f1, num_resamples=1000)
    covered = sum(effect.low <= truth <= effect.high for effect in effects)
    assert oracle.binomtest(covered, repeats, 0.95).pvalue > BINOMIAL_P, covered / repeats


def test_differences_cover_zero_and_their_p_is_small_as_often_as_it_says():
    """Two conditions with the same levels: what they share must not count, what differs must."""
    repeats, levels = 500, 80
    rng = np.random.default_rng(3)
    own = rng.beta(3, 1, size=(repeats, levels))
    rows = rng.integers(10, 40, size=(repeats, levels))
    first, second = (np.stack([rng.binomial(rows, own), rows], axis=-1) for _ in range(2))
    effects = difference_table(first, second, ratio, num_resamples=1000)
    covered = sum(effect.low <= 0 <= effect.high for effect in effects)
    assert oracle.binomtest(covered, repeats, 0.95).pvalue > BINOMIAL_P, covered / repeats
    for alpha in (0.05, 0.2):
        small = sum(effect.p <= alpha for effect in effects)
        assert oracle.binomtest(small, repeats, alpha).pvalue > BINOMIAL_P, (alpha, small / repeats)
    alone = bootstrap_table(first, ratio, num_resamples=1000)
    widths = [np.mean([effect.high - effect.low for effect in some]) for some in (effects, alone)]
    assert widths[0] < widths[1], "pairing by level removes what the levels share"


# differences ---------------------------------------------------------------------------------------------------------
def test_the_p_of_one_value_a_level_is_nearly_that_of_a_t_test_and_of_sign_flips():
    rng = np.random.default_rng(4)
    second = rng.normal(size=60)
    first = second + rng.normal(0.25, 1, size=60)
    effect = bootstrap_difference(first, second, unit="reward")
    assert effect.p == pytest.approx(oracle.ttest_rel(first, second).pvalue, rel=1e-9)
    assert effect.value == pytest.approx((first - second).mean())
    assert effect.unit == "reward"
    flips = oracle.permutation_test(
        (first, second), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert swap_test(first, second, num_resamples=20_000) == pytest.approx(flips.pvalue, abs=0.01)
    assert effect.p == pytest.approx(flips.pvalue, abs=0.02)


def test_the_swap_test_is_exact_where_everything_can_be_counted():
    """Three levels, all better: 2 of 8 sign patterns are as extreme."""
    assert swap_test(np.array([1.0, 2.0, 3.0]), np.zeros(3), num_resamples=40_000) == pytest.approx(0.25, abs=0.01)
    assert swap_test(np.ones(5), np.ones(5)) == 1.0


def test_the_swap_test_reads_any_statistic():
    first, second = draw_confusions(40, 0, shift=0.4), draw_confusions(40, 1)
    assert swap_test(first, second, macro_f1) < 0.01
    assert swap_test(second, draw_confusions(40, 2), macro_f1) > 0.01


def test_a_difference_that_every_level_shares_is_as_sure_as_a_sign_test_and_no_surer():
    assert bootstrap_difference(np.arange(10) + 1.0, np.arange(10.0)).p == pytest.approx(2**-9)
    nothing = bootstrap_difference(np.arange(10.0), np.arange(10.0))
    assert (nothing.value, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)


def test_one_control_can_serve_every_cell():
    tables = np.stack([draw_confusions(25, seed, shift=0.2) for seed in range(4)])
    control = draw_confusions(25, 9)
    together = difference_table(tables, control[None], macro_f1, num_resamples=200)
    assert together == [bootstrap_difference(table, control, macro_f1, num_resamples=200) for table in tables]


def test_the_best_control_is_the_one_to_beat():
    measured = draw_confusions(60, 0, shift=0.3)
    controls = {"weak": draw_confusions(60, 1, shift=-0.3), "strong": draw_confusions(60, 2, shift=0.2)}
    name, effect = difference_over_best(measured, controls, macro_f1)
    alone = {key: bootstrap_difference(measured, control, macro_f1) for key, control in controls.items()}
    assert name == "strong"
    assert effect.value == min(other.value for other in alone.values())
    assert effect.p == max(other.p for other in alone.values())
    with pytest.raises(ShapeError, match="at least one control"):
        difference_over_best(measured, {}, macro_f1)


def test_beating_the_best_of_many_equal_controls_is_not_too_easy():
    repeats, rejected = 60, 0
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        controls = {str(number): rng.normal(size=40) for number in range(4)}
        _, effect = difference_over_best(rng.normal(size=40), controls, num_resamples=20)
        rejected += effect.value > 0 and effect.p < 0.05
    assert rejected <= 4


# many tests, levels without a value, errors --------------------------------------------------------------------------
def test_holm_by_hand():
    # sorted: .01 x 4, .02 x 3, .03 x 2, .04 x 1, never falling
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([[0.5, 0.9], [np.nan, 0.001]]), [[1.0, 1.0], [np.nan, 0.003]])
    assert holm([]).shape == (0,)


def test_holm_errs_on_a_whole_table_at_most_as_often_as_one_test():
    rng = np.random.default_rng(0)
    wrong = sum((holm(rng.random(20)) < 0.05).any() for _ in range(1000))
    assert oracle.binomtest(wrong, 1000, 0.05, alternative="greater").pvalue > BINOMIAL_P


def test_levels_without_a_value_are_left_out_of_the_mean():
    values = np.array([1.0, np.nan, 3.0, 5.0])
    effect = cluster_bootstrap(values)
    assert (effect.value, effect.n) == (3.0, 3)
    assert effect.low < 3 < effect.high
    np.testing.assert_array_equal(as_sums(values), [[1, 1], [0, 0], [3, 1], [5, 1]])


def test_one_level_with_rows_gives_a_value_and_no_interval():
    counts = np.zeros((10, 3, 3))
    counts[4] = np.diag([3, 2, 1])
    effect = bootstrap_difference(counts, counts, macro_f1)
    assert effect.n == 1
    assert effect.value == 0
    assert np.isnan([effect.low, effect.high, effect.p]).all()
    empty = cluster_bootstrap(np.zeros((10, 3, 3)), macro_f1)
    assert empty.n == 0
    assert np.isnan(empty.value)


def test_what_gives_no_interval_is_refused():
    with pytest.raises(TooFewLevelsError, match="got 1"):
        cluster_bootstrap(np.ones(1))
    with pytest.raises(ShapeError, match="same levels"):
        bootstrap_difference(np.ones(4), np.ones(5))
    with pytest.raises(ShapeError, match="same levels"):
        swap_test(np.ones(4), np.ones(5))
    with pytest.raises(ShapeError, match="without a statistic"):
        cluster_bootstrap(np.ones((4, 2)))
    with pytest.raises(ShapeError, match="counts or sums"):
        cluster_bootstrap(np.ones(4), macro_f1)
    with pytest.raises(UnknownNameError, match="It has: bca, percentile"):
        cluster_bootstrap(np.ones(4), interval="BCa")  # pyright: ignore[reportArgumentType]
