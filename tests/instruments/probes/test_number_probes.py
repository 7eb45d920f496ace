"""Ridge regression against scikit-learn, probes of numbers where the answer is planted, scores from moments."""

import numpy as np
import pytest
import torch
from scipy import stats as distributions
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from planprobe.core.errors import PlanprobeError, ShapeError
from planprobe.instruments.probes.number_probes import fit_number_probes
from planprobe.instruments.probes.ridge_regression import solve_ridge
from planprobe.instruments.probes.splits import split_by_level
from planprobe.instruments.statistics.metrics import correlation, count_moments, r_squared


def draw(num_rows, width, *, seed=0, noise=0.5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, width, generator=generator) @ torch.randn(width, width, generator=generator) / width**0.5
    y = x @ torch.randn(width, generator=generator) + noise * torch.randn(num_rows, generator=generator)
    return x, y


# the solver ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("num_rows", "width"), [(400, 12), (30, 80)])
def test_loss_equals_scikit_learn(num_rows, width):
    x, y = draw(num_rows, width)
    second = y.clone()
    second[::3] = torch.nan
    strengths = torch.tensor([1e-4, 0.3])
    found = solve_ridge(x, torch.stack([y, second, -y]), strengths)
    for target, values in enumerate((y, second, -y)):
        rows = ~values.isnan()
        for place, l2 in enumerate(strengths.tolist()):
            oracle = Ridge(alpha=int(rows.sum()) * l2).fit(x[rows].double().numpy(), values[rows].double().numpy())
            weights, bias = found.weights[target, place], found.biases[target, place]
            assert np.allclose(weights, oracle.coef_, atol=1e-5)
            errors = values[rows].double() - x[rows].double() @ weights - bias
            loss = 0.5 * errors.square().mean() + 0.5 * l2 * weights.square().sum()
            wanted = values[rows].double().numpy() - oracle.predict(x[rows].double().numpy())
            wanted = 0.5 * (wanted**2).mean() + 0.5 * l2 * (oracle.coef_**2).sum()
            assert float(loss) == pytest.approx(wanted, abs=1e-5)
            assert float(found.losses[target, place]) == pytest.approx(float(loss), abs=1e-9)


def test_a_target_that_is_known_nowhere_is_read_as_nothing():
    x, y = draw(50, 4)
    found = solve_ridge(x, torch.stack([y, torch.full_like(y, torch.nan)]), torch.tensor([0.1]))
    assert found.weights[0].abs().sum() > 0
    assert found.weights[1].abs().sum() == 0
    with pytest.raises(PlanprobeError, match="NaN"):
        solve_ridge(torch.full_like(x, torch.nan), y[None], torch.tensor([0.1]))


# scores --------------------------------------------------------------------------------------------------------------
def test_scores_from_moments_are_those_of_the_rows():
    x, y = draw(300, 3)
    predicted = y + 0.8 * x[:, 0]
    level_index = torch.arange(300) // 20
    moments = count_moments(y[:, None], predicted[:, None], level_index=level_index, num_levels=15)
    assert float(r_squared(moments.sum(0))) == pytest.approx(r2_score(y, predicted), abs=1e-5)
    assert float(correlation(moments.sum(0))) == pytest.approx(distributions.pearsonr(y, predicted)[0], abs=1e-5)
    assert np.allclose(r_squared(moments)[3], r2_score(y[60:80], predicted[60:80]), atol=1e-5)


def test_scores_of_constants_and_of_missing_rows():
    y = torch.tensor([[1.0], [2.0], [torch.nan], [6.0]])
    mean = torch.full((4, 1), 3.0)
    moments = count_moments(y, mean)[0]
    assert moments[0, 0] == 3
    assert float(r_squared(moments)) == pytest.approx(0.0)
    assert np.isnan(correlation(moments))
    assert np.isnan(r_squared(count_moments(mean, mean)[0]))
    with pytest.raises(ShapeError, match="need"):
        count_moments(y, mean[:2])


# probes --------------------------------------------------------------------------------------------------------------
def test_a_planted_number_is_recovered_in_its_own_scale():
    x, y = draw(2000, 8, noise=0.1)
    levels = torch.arange(2000) // 20
    split = split_by_level(levels)
    both = torch.stack([y, -3 * y + 7], dim=1)
    one, two = fit_number_probes(5 * x + 1, [100 * y, both], level_ids=levels, split=split)
    assert one.test_score > 0.95
    assert one.weights.shape == (1, 8)
    assert two.weights.shape == (2, 8)
    assert torch.allclose(two.weights[1], -3 * two.weights[0], rtol=1e-3)
    assert torch.allclose(one.predict((5 * x + 1)[split.test]), one.test_predictions, atol=1e-2)
    assert float((one.test_predictions.squeeze(1) - 100 * y[split.test]).abs().mean()) < 20
    assert float(one.directions.norm()) == pytest.approx(1.0)
    assert one.test_moments.sum(0)[0, 0] == int(split.test.sum())


def test_strength_is_chosen_on_valid_and_test_has_no_say():
    x, y = draw(600, 100, noise=40.0)
    levels = torch.arange(600) // 10
    split = split_by_level(levels)
    scrambled = y.clone()
    scrambled[split.test] = 0.5
    plain, moved = fit_number_probes(x, [y, scrambled], level_ids=levels, split=split, l2_strengths=(1e-6, 0.3))
    assert plain.l2 == pytest.approx(0.3)
    assert torch.equal(plain.weights, moved.weights)
    assert plain.valid_score == moved.valid_score


def test_nothing_is_found_in_noise():
    x, _ = draw(800, 10)
    y = torch.randn(800, generator=torch.Generator().manual_seed(5))
    levels = torch.arange(800) // 10
    (probe,) = fit_number_probes(x, [y], level_ids=levels, split=split_by_level(levels))
    assert -0.1 < probe.test_score < 0.05
    with pytest.raises(ShapeError, match="need"):
        fit_number_probes(x[:-1], [y], level_ids=levels, split=split_by_level(levels))
