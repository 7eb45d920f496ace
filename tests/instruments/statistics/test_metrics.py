"""Scores against scikit-learn, many tables at once, absent classes included."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from planprobe.core.errors import ShapeError
from planprobe.instruments.statistics.metrics import (
    METRICS,
    balanced_accuracy,
    count_confusions,
    directional_macro_f1,
    macro_f1,
    mcc,
    positive_f1,
)

K = 5


def draw_tables(num_tables=60, num_rows=40, seed=0):
    """True and predicted classes; later tables lack more and more classes on either side."""
    rng = np.random.default_rng(seed)
    true, predicted = np.zeros((2, num_tables, num_rows), dtype=np.int64)
    for table in range(num_tables):
        classes = rng.permutation(K)[: rng.integers(1, K + 1)] if table % 2 else np.arange(K)
        true[table] = rng.choice(classes, num_rows)
        others = rng.permutation(K)[: rng.integers(1, K + 1)] if table % 3 else classes
        right = rng.random(num_rows) < rng.random()
        predicted[table] = np.where(right, true[table], rng.choice(others, num_rows))
    return true, predicted


def score_with_sklearn(name, true, predicted):
    present = np.union1d(true, predicted)
    events = [k for k in range(1, K) if k in present]
    if name == "macro_f1":
        return oracle.f1_score(true, predicted, average="macro", zero_division=0)
    if name == "directional_macro_f1":
        return oracle.f1_score(true, predicted, labels=events, average="macro", zero_division=0) if events else np.nan
    if name == "positive_f1":
        return oracle.f1_score(true, predicted, labels=events, average="micro", zero_division=0) if events else np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # predicted classes that are never true
        if name == "balanced_accuracy":
            return oracle.balanced_accuracy_score(true, predicted)
        return oracle.matthews_corrcoef(true, predicted)


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_those_of_scikit_learn_on_all_tables_at_once(name):
    true, predicted = draw_tables()
    tables = np.stack([count_confusions(t, p, num_classes=K)[0] for t, p in zip(true, predicted, strict=True)])
    found = METRICS[name](tables.reshape(6, 10, K, K))
    expected = [score_with_sklearn(name, t, p) for t, p in zip(true, predicted, strict=True)]
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-12)


def test_scores_of_a_table_worked_out_by_hand():
    #  never is right 8 of 10 times; "up" 3 of 4; "down" 0 of 2, predicted once
    table = np.array([[8, 1, 1], [1, 3, 0], [2, 0, 0]])
    f1 = np.array([2 * 8 / (10 + 11), 2 * 3 / (4 + 4), 0.0])
    assert macro_f1(table) == pytest.approx(f1.mean())
    assert directional_macro_f1(table) == pytest.approx(f1[1:].mean())
    assert positive_f1(table) == pytest.approx(2 * 3 / (6 + 5))
    assert balanced_accuracy(table) == pytest.approx((0.8 + 0.75 + 0.0) / 3)
    assert -1 <= mcc(table) <= 1


def test_the_positive_f1_is_the_one_of_the_far_papers():
    """Precision over predicted events, recall over true events, harmonic mean."""
    true, predicted = (part[0] for part in draw_tables(1, 500))
    precision = (true == predicted)[predicted != 0].mean()
    recall = (true == predicted)[true != 0].mean()
    expected = 2 * precision * recall / (precision + recall)
    assert positive_f1(count_confusions(true, predicted, num_classes=K)[0]) == pytest.approx(expected)


def test_what_an_all_never_probe_scores():
    table = np.zeros((K, K))
    table[:, 0] = [960, 10, 10, 10, 10]
    assert macro_f1(table) == pytest.approx(2 * 960 / 1960 / K)
    assert directional_macro_f1(table) == positive_f1(table) == mcc(table) == 0
    assert balanced_accuracy(table) == pytest.approx(1 / K)


@pytest.mark.parametrize("name", METRICS)
def test_without_rows_a_score_is_nan_and_with_perfect_rows_one(name):
    assert np.isnan(METRICS[name](np.zeros((K, K))))
    assert METRICS[name](np.diag([5, 4, 3, 2, 1])) == pytest.approx(1)
    assert METRICS[name](np.diag([5, 4, 3, 0, 0])) == pytest.approx(1), "classes that do not occur are left out"


def test_counts_of_levels_add_up_and_skip_what_is_no_row():
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(-1, K, (400,), generator=generator)
    predicted = torch.randint(K, (3, 2, 400), generator=generator)
    level_index = torch.randint(7, (400,), generator=generator)
    counts = count_confusions(true, predicted, num_classes=K, level_index=level_index, num_levels=7)
    assert counts.shape == (3, 2, 7, K, K)
    assert counts.dtype == np.int64
    for level in range(7):
        rows = (level_index == level) & (true >= 0)
        expected = oracle.confusion_matrix(true[rows], predicted[2, 1, rows], labels=range(K))
        np.testing.assert_array_equal(counts[2, 1, level], expected)
    np.testing.assert_array_equal(counts.sum(2), count_confusions(true, predicted, num_classes=K)[..., 0, :, :])


@pytest.mark.parametrize(
    ("true", "predicted", "options", "message"),
    [
        ([0, 1], [0, 1, 1], {}, "need"),
        ([0, 5], [0, 1], {}, "true holds"),
        ([0, 1], [0, -1], {}, "predicted holds"),
        ([0, 1], [0, 1], {"level_index": [0, 2], "num_levels": 2}, "level_index holds"),
    ],
)
def test_rows_that_would_be_counted_elsewhere_are_refused(true, predicted, options, message):
    with pytest.raises(ShapeError, match=message):
        count_confusions(true, predicted, num_classes=K, **options)


@pytest.mark.parametrize("table", [np.zeros(5), np.zeros((4, 5)), np.zeros((1, 1))])
def test_tables_that_are_not_square_are_refused(table):
    with pytest.raises(ShapeError):
        macro_f1(table)
