"""The solver against scikit-learn, and probes where the answer is planted."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from planprobe.core.errors import PlanprobeError, ShapeError
from planprobe.instruments.probes.linear_probes import fit_probe, fit_probes, into_span
from planprobe.instruments.probes.softmax_regression import solve_softmax
from planprobe.instruments.probes.splits import Split, split_by_level
from planprobe.instruments.probes.square_rows import gather_windows, list_rows
from planprobe.instruments.statistics.metrics import macro_f1
from planprobe.instruments.statistics.stats import bootstrap_difference

CLASSES = 5


def draw(num_rows=2500, width=12, *, seed=0, strength=2.0, never=2.0):
    """Correlated features, and labels that depend on them; (N, D), (N,)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    x = torch.tanh(torch.randn(num_rows, width, generator=generator) @ mixing / 2)
    logits = x @ torch.randn(width, CLASSES, generator=generator) * strength
    logits[:, 0] += never
    gumbel = -torch.log(-torch.log(torch.rand(num_rows, CLASSES, generator=generator)))
    return x, (logits + gumbel).argmax(1)


def penalised_loss(x, y, weights, biases, l2):
    return float(
        torch.nn.functional.cross_entropy(x.double() @ weights.T + biases, y) + 0.5 * l2 * weights.square().sum()
    )


def levels_of(num_rows, per_level=25):
    return torch.arange(num_rows) // per_level


# the solver -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("l2", [1e-5, 1e-3, 1e-1])
def test_loss_equals_scikit_learn(l2):
    x, y = draw()
    solution = solve_softmax(x, y[None], torch.tensor([l2]), torch.zeros(1, dtype=torch.int64), num_classes=CLASSES)
    oracle = LogisticRegression(C=1 / (len(y) * l2), tol=1e-9, max_iter=5000).fit(x.double().numpy(), y.numpy())
    wanted = penalised_loss(x, y, torch.tensor(oracle.coef_), torch.tensor(oracle.intercept_), l2)
    found = penalised_loss(x, y, solution.weights[0], solution.biases[0], l2)
    assert bool(solution.converged.all())
    assert found == pytest.approx(wanted, abs=1e-5)
    assert float(solution.losses[0]) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_coordinates_of_the_span_lose_nothing(l2):
    """Fewer rows than features: solved in principal coordinates, at scikit-learn's loss on the features themselves."""
    x, y = draw(120, 200)
    x = x - x.mean(0)
    inside, basis = into_span(x)
    assert basis is not None
    moments = (inside.T @ inside).double() / len(inside)
    assert float((moments - torch.diag(moments.diagonal())).abs().max()) < 1e-5 * float(moments.max())
    problem = (y[None], torch.tensor([l2]), torch.zeros(1, dtype=torch.int64))
    solution = solve_softmax(inside, *problem, num_classes=CLASSES, uncorrelated=True, tolerance=1e-8)
    oracle = LogisticRegression(C=1 / (len(y) * l2), tol=1e-9, max_iter=5000).fit(x.double().numpy(), y.numpy())
    wanted = penalised_loss(x, y, torch.tensor(oracle.coef_), torch.tensor(oracle.intercept_), l2)
    weights = solution.weights[0] @ basis.double()
    assert penalised_loss(x, y, weights, solution.biases[0], l2) == pytest.approx(wanted, abs=1e-5)
    general = solve_softmax(inside, *problem, num_classes=CLASSES, tolerance=1e-8)
    assert float(solution.losses[0]) == pytest.approx(float(general.losses[0]), abs=1e-6)
    # as many steps, but for what another kind of machine rounds anew: 63 and 74 on one of them
    assert abs(int(solution.iterations[0]) - int(general.iterations[0])) <= 0.25 * int(general.iterations[0])


def test_bias_is_not_penalised():
    x, y = draw(never=6.0)
    solution = solve_softmax(x, y[None], torch.tensor([1e4]), torch.zeros(1, dtype=torch.int64), num_classes=CLASSES)
    frequencies = torch.bincount(y, minlength=CLASSES) / len(y)
    assert torch.allclose(solution.biases[0].softmax(0).float(), frequencies, atol=1e-3)


def test_many_problems_at_once_equal_each_alone():
    x, y = draw()
    other = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(3))]
    other[::5] = -1
    labels, l2 = torch.stack([y, other]), torch.tensor([1e-5, 1e-2, 1e-5, 1e-2])
    variants = torch.tensor([0, 0, 1, 1])
    together = solve_softmax(x, labels, l2, variants, num_classes=CLASSES)
    for problem in range(4):
        rows = labels[variants[problem]] >= 0
        alone = solve_softmax(
            x[rows], labels[variants[problem], rows][None], l2[problem, None], torch.zeros(1, dtype=torch.int64),
            num_classes=CLASSES,
        )  # fmt: skip
        assert float(together.losses[problem]) == pytest.approx(float(alone.losses[0]), abs=5e-6)


def test_absent_class_and_constant_feature_do_no_harm():
    x, y = draw()
    x[:, 3] = 0.0
    y[y == 4] = 0
    solution = solve_softmax(x, y[None], torch.tensor([1e-4]), torch.zeros(1, dtype=torch.int64), num_classes=CLASSES)
    assert bool(solution.converged.all())
    assert float(solution.weights[0, :, 3].abs().max()) < 1e-6
    assert float((x.double() @ solution.weights[0].T + solution.biases[0]).softmax(1)[:, 4].max()) < 1e-3


def test_more_features_than_rows_have_the_same_minimum():
    x, y = draw(150, 400)
    levels = levels_of(150, per_level=5)
    split = split_by_level(levels)
    probe = fit_probe(x, y, level_ids=levels, split=split, num_classes=CLASSES, l2_strengths=(1e-2,), tolerance=1e-9)
    train = x[split.train]
    scaled = (train - train.mean(0)) / train.std(0, correction=0).median()
    oracle = LogisticRegression(C=1 / (len(train) * 1e-2), tol=1e-9, max_iter=5000).fit(scaled, y[split.train])
    weights, biases = torch.tensor(oracle.coef_).double(), torch.tensor(oracle.intercept_).double()
    wanted = penalised_loss(scaled, y[split.train], weights, biases, 1e-2)
    assert probe.loss == pytest.approx(wanted, abs=1e-5)
    assert probe.weights.shape == (CLASSES, 400)
    predicted = scaled.double() @ weights.T + biases
    assert torch.allclose(probe.logits(train).softmax(1).double(), predicted.softmax(1), atol=2e-3)


def test_two_classes_are_a_binary_probe():
    """Two columns of opposite weights share a penalty that scikit-learn puts on their difference."""
    x, y = draw()
    y = (y > 0).long()
    solution = solve_softmax(x, y[None], torch.tensor([1e-3]), torch.zeros(1, dtype=torch.int64), num_classes=2)
    oracle = LogisticRegression(C=2 / (len(y) * 1e-3), tol=1e-9, max_iter=5000).fit(x.double().numpy(), y.numpy())
    ours = solution.weights[0, 1] - solution.weights[0, 0]
    assert torch.allclose(ours, torch.tensor(oracle.coef_[0]), atol=2e-2)
    half = torch.tensor(oracle.coef_) / 2
    bias = torch.tensor(oracle.intercept_) / 2
    wanted = penalised_loss(x, y, torch.cat([-half, half]), torch.cat([-bias, bias]), 1e-3)
    assert float(solution.losses[0]) == pytest.approx(wanted, abs=1e-5)


# probes -----------------------------------------------------------------------------------------------------------
def planted(num_rows=6000, width=16, *, noise=0.3, seed=0):
    """Every class has its own direction; levels differ by an offset that says nothing."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(width, CLASSES, generator=generator)).Q.T
    y = torch.randint(0, CLASSES, (num_rows,), generator=generator)
    x = directions[y] + noise * torch.randn(num_rows, width, generator=generator)
    return x, y, directions


def test_planted_directions_are_recovered():
    x, y, directions = planted()
    levels = levels_of(len(y))
    probe = fit_probe(x, y, level_ids=levels, split=split_by_level(levels), num_classes=CLASSES)
    wanted = torch.nn.functional.normalize(directions - directions.mean(0), dim=1)
    assert float((probe.directions * wanted).sum(1).min()) > 0.98
    assert torch.allclose(probe.directions.norm(dim=1), torch.ones(CLASSES), atol=1e-5)
    assert probe.test_score > 0.9
    assert probe.test_counts.sum() == int(split_by_level(levels).test.sum())


def test_weights_are_in_the_scale_of_the_features():
    x, y, _ = planted()
    levels = levels_of(len(y))
    split = split_by_level(levels)
    shift = torch.linspace(-3, 3, 16)
    plain = fit_probe(x, y, level_ids=levels, split=split, num_classes=CLASSES)
    moved = fit_probe(20 * x + shift, y, level_ids=levels, split=split, num_classes=CLASSES)
    assert torch.allclose(plain.logits(x).softmax(1), moved.logits(20 * x + shift).softmax(1), atol=5e-3)
    agrees = moved.logits((20 * x + shift)[split.test]).argmax(1) == moved.test_predictions
    assert float(agrees.float().mean()) > 0.999


def test_dead_channels_do_not_own_the_direction():
    x, y, directions = planted()
    noise = 1e-5 * torch.randn(len(y), 4, generator=torch.Generator().manual_seed(4))
    levels = levels_of(len(y))
    probe = fit_probe(
        torch.cat([x, noise], dim=1), y, level_ids=levels, split=split_by_level(levels), num_classes=CLASSES
    )  # fmt: skip
    wanted = torch.nn.functional.normalize(directions - directions.mean(0), dim=1)
    assert float((probe.directions[:, :16] * wanted).sum(1).min()) > 0.98


def test_nothing_is_found_in_noise():
    """Against the same probe on shuffled labels. Not against 'never' everywhere: guesses score above a constant."""
    _, y = draw(4000, never=1.5)
    generator = torch.Generator().manual_seed(9)
    x, shuffled = torch.randn(4000, 20, generator=generator), y[torch.randperm(4000, generator=generator)]
    levels = levels_of(4000)
    probe, null = fit_probes(
        x, torch.stack([y, shuffled]), level_ids=levels, split=split_by_level(levels), num_classes=CLASSES
    )[0]
    delta = bootstrap_difference(probe.test_counts, null.test_counts, macro_f1)
    assert delta.low < 0 < delta.high
    assert delta.high - delta.low < 0.15
    assert delta.p > 0.05


def test_test_levels_have_no_say():
    """Scrambled test labels change the score and nothing else."""
    x, y, _ = planted(noise=0.7)
    levels = levels_of(len(y))
    split = split_by_level(levels)
    scrambled = y.clone()
    scrambled[split.test] = 0
    first, second = fit_probes(
        x, torch.stack([y, scrambled]), level_ids=levels, split=split, num_classes=CLASSES
    )[0]  # fmt: skip
    assert first.l2 == second.l2
    assert first.valid_score == second.valid_score
    assert torch.allclose(first.weights, second.weights)
    assert first.test_score > 0.5 > second.test_score


def test_strength_is_chosen_on_valid():
    """With 40 features of noise and few rows the strong penalty wins."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (600,), generator=generator)
    x = torch.randn(600, 60, generator=generator)
    x[:, 0] += 1.5 * y
    levels = levels_of(600, per_level=10)
    probe = fit_probe(
        x, y, level_ids=levels, split=split_by_level(levels), num_classes=2, l2_strengths=(1e-6, 0.3)
    )  # fmt: skip
    assert probe.l2 == pytest.approx(0.3)


@pytest.mark.parametrize("kernel", [1, 3])
def test_reading_a_board_is_reading_its_rows(kernel):
    generator = torch.Generator().manual_seed(1)
    activations = torch.randn(40, 4, 5, 6, generator=generator)
    rows = list_rows(torch.ones(40, 5, 6, dtype=torch.bool), torch.arange(40) // 2)
    features = gather_windows(activations, rows, kernel)
    labels = torch.randint(0, 3, (len(rows),), generator=generator)
    probe = fit_probe(
        features, labels, level_ids=rows.level_ids, split=split_by_level(rows.level_ids), num_classes=3, kernel=kernel
    )
    board = probe.read_board(activations).permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.allclose(board, probe.logits(features), atol=1e-4)
    with pytest.raises(ShapeError, match="4 channels"):
        probe.read_board(activations[:, :3])


def test_a_window_beyond_the_board_is_blank():
    planes = torch.arange(1.0, 10).view(1, 1, 3, 3)
    rows = list_rows(torch.ones(1, 3, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.int64))
    windows = gather_windows(planes, rows, 3)
    assert windows[0].tolist() == [0, 0, 0, 0, 1, 2, 0, 4, 5]
    assert windows[4].tolist() == list(range(1, 10))
    with pytest.raises(ShapeError, match="odd"):
        gather_windows(planes, rows, 2)
    with pytest.raises(ShapeError, match="spatial"):
        gather_windows(torch.zeros(1, 8), rows, 1)


def test_bad_input_is_refused():
    x, y = draw(500)
    levels = levels_of(500)
    split = split_by_level(levels)
    with pytest.raises(PlanprobeError, match="NaN"):
        fit_probe(torch.full_like(x, torch.nan), y, level_ids=levels, split=split, num_classes=CLASSES)
    with pytest.raises(ShapeError, match="need"):
        fit_probe(x[:-1], y, level_ids=levels, split=split, num_classes=CLASSES)
    with pytest.raises(ShapeError, match="classes"):
        fit_probe(x, y + 1, level_ids=levels, split=split, num_classes=CLASSES)
    nothing = Split(split.train, torch.zeros_like(split.valid), split.test)
    with pytest.raises(ShapeError, match="every part"):
        fit_probe(x, y, level_ids=levels, split=nothing, num_classes=CLASSES)
