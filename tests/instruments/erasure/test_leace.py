"""LEACE restated as its theorems, on planted directions and on noise."""

import math

import numpy as np
import pytest
import torch

from planprobe.core.errors import PlanprobeError, ShapeError
from planprobe.instruments.erasure.leace import Moments, fit_eraser, fit_joint_erasers, random_erasers
from planprobe.instruments.probes.softmax_regression import solve_softmax

ROWS, WIDTH, CLASSES = 3000, 12, 4


def planted(seed=0, strength=2.0, rows=ROWS, width=WIDTH, isotropic=False):
    """Activations with a different variance in every direction, and one planted direction a class."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (rows,), generator=rng)
    directions = torch.linalg.qr(torch.randn(width, CLASSES, generator=rng, dtype=torch.float64)).Q.T
    noise = torch.randn(rows, width, generator=rng, dtype=torch.float64)
    if not isotropic:
        noise = noise @ torch.randn(width, width, generator=rng, dtype=torch.float64)
    return noise + strength * directions[labels] + 5.0, labels, directions


def one_hot(labels):
    return torch.nn.functional.one_hot(labels, CLASSES).double()


def moments_of(x, z):
    moments = Moments(x.shape[1], z.shape[1])
    moments.update(x, z)
    return moments


def covariance(x, z):
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


def fresh_probe(x, labels):
    """In-sample log loss of a new, hardly penalised probe, and its accuracy."""
    x = (x - x.mean(0)).float() / x.std()
    l2, variants = torch.tensor([1e-6], dtype=torch.float64), torch.tensor([0])
    probe = solve_softmax(x, labels[None], l2, variants, num_classes=CLASSES, tolerance=1e-7)
    answers = (x.double() @ probe.weights[0].T + probe.biases[0]).argmax(1)
    return float(probe.losses[0]), float((answers == labels).double().mean())


def test_a_fresh_probe_is_at_the_majority_floor():
    x, labels, _ = planted()
    moments = moments_of(x, one_hot(labels))
    erased = fit_eraser(moments).erase(x)
    shares = torch.bincount(labels).double() / len(labels)
    floor = float(-(shares * shares.log()).sum())
    assert fresh_probe(x, labels)[1] > float(shares.max()) + 0.1
    loss, accuracy = fresh_probe(erased, labels)
    assert loss == pytest.approx(floor, abs=1e-6)
    assert accuracy == pytest.approx(float(shares.max()), abs=1e-9)
    assert covariance(erased, one_hot(labels)).abs().max() < 1e-12
    assert moments.explained() > 0.1 and moments_of(erased, one_hot(labels)).explained() < 1e-12


def test_of_all_maps_that_guard_it_moves_least():
    """Against the closed form without a square root, and against other maps P with P Cov(x, z) = 0."""
    x, labels, _ = planted(1)
    z = one_hot(labels)
    sigma, cross = covariance(x, x), covariance(x, z)
    guess = cross.T @ torch.linalg.inv(sigma)
    expected = x - (x - x.mean(0)) @ guess.T @ torch.linalg.pinv(guess @ cross, rtol=1e-9) @ cross.T
    eraser = fit_eraser(moments_of(x, z))
    erased = eraser.erase(x)
    assert torch.allclose(erased, expected, atol=1e-9)
    assert eraser.rank == CLASSES - 1  # one-hot classes sum to one
    assert torch.allclose(eraser.moved, (erased - x).square().sum(1).mean(), rtol=1e-9)
    free = torch.eye(WIDTH, dtype=torch.float64) - torch.linalg.svd(cross)[0][:, : CLASSES - 1] @ (
        torch.linalg.svd(cross)[0][:, : CLASSES - 1].T
    )
    for seed in range(5):
        other = 0.05 * torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        rival = erased + (x - x.mean(0)) @ (other @ free).T
        assert covariance(rival, z).abs().max() < 1e-10
        assert (rival - x).square().sum(1).mean() > eraser.moved
    orthogonal = x - (x - x.mean(0)) @ (torch.eye(WIDTH, dtype=torch.float64) - free)
    assert (orthogonal - x).square().sum(1).mean() > eraser.moved  # projecting the class means out moves more


def test_erasing_twice_is_erasing_once_and_keeps_the_mean():
    x, labels, _ = planted(2)
    eraser = fit_eraser(moments_of(x, one_hot(labels)))
    erased = eraser.erase(x)
    assert torch.allclose(eraser.erase(erased), erased, atol=1e-9)
    assert torch.allclose(erased.mean(0), x.mean(0), atol=1e-9)
    again = fit_eraser(moments_of(erased, one_hot(labels)))
    assert again.rank == 0 and torch.equal(again.erase(erased), erased)
    assert random_erasers(moments_of(erased, one_hot(labels)), 0, 3, seed=0).left.shape == (3, WIDTH, 0)
    as_float = eraser.erase(x.float())
    assert as_float.dtype == torch.float32 and torch.allclose(as_float.double(), erased, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_direction_is_recovered(seed):
    """In isotropic noise the erased direction is the planted one, within the angle that so many rows allow."""
    x, labels, directions = planted(seed, isotropic=True)
    flag = (labels == 0).double()[:, None]
    x = x - 2.0 * directions[labels] + 2.0 * flag * directions[0]  # one planted direction, and no other
    eraser = fit_eraser(moments_of(x, flag))
    assert eraser.rank == 1
    found = eraser.left[:, 0] / eraser.left[:, 0].norm()
    angle = math.degrees(math.acos(min(1.0, float((found @ directions[0]).abs()))))
    assert angle < 6
    left = eraser.erase(x)
    assert (left - x - ((left - x) @ found)[:, None] * found).abs().max() < 1e-9  # and nothing else is touched


def test_nothing_is_found_in_noise():
    x, labels, _ = planted(3, strength=0.0)
    moments = moments_of(x, one_hot(labels))
    assert moments.explained() == pytest.approx(WIDTH / ROWS, rel=0.6)
    real, labels, _ = planted(3)
    assert moments_of(real, one_hot(labels)).explained() > 10 * moments.explained()


def test_moments_do_not_depend_on_how_rows_arrive():
    x, labels, _ = planted(4)
    x, z = x + 1e5, one_hot(labels)
    whole, parts = moments_of(x, z), Moments(WIDTH, CLASSES)
    for rows in torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).split(7):
        parts.update(x[rows], z[rows])
    assert parts.num_rows == ROWS
    assert torch.allclose(parts.covariance, covariance(x, x), rtol=1e-6, atol=1e-6)
    assert torch.allclose(parts.covariance, whole.covariance, rtol=1e-9, atol=1e-8)
    assert torch.allclose(parts.cross_covariance, covariance(x, z), atol=1e-8)
    assert parts.concept_variance == pytest.approx(float(z.var(0, correction=0).sum()))


def test_dead_and_copied_channels_do_no_harm():
    x, labels, _ = planted(5)
    wide = torch.cat([x, x[:, :2], torch.full((ROWS, 1), 3.0, dtype=torch.float64)], dim=1)
    erased = fit_eraser(moments_of(wide, one_hot(labels))).erase(wide)
    assert covariance(erased, one_hot(labels)).abs().max() < 1e-10
    assert (erased[:, -1] == 3).all() and torch.allclose(erased[:, 0], erased[:, WIDTH], atol=1e-8)


def test_joint_erasure_guards_each_block_and_all_together():
    x, labels, _ = planted(6)
    z, widths = one_hot(labels), [5, 3, 4]
    moments = moments_of(x, z)
    erasers = fit_joint_erasers(moments, widths)
    ends = [5, 8, 12]
    blocks = [
        eraser.erase(x[:, end - width : end], given=x[:, :end])
        for eraser, width, end in zip(erasers, widths, ends, strict=True)
    ]
    together = torch.cat(blocks, dim=1)
    assert covariance(together, z).abs().max() < 1e-10
    alone = [fit_eraser(moments_of(x[:, end - width : end], z)) for width, end in zip(widths, ends, strict=True)]
    assert torch.allclose(erasers[0].moved, alone[0].moved)  # nothing comes before the first
    assert all(bool(a.moved < b.moved) for a, b in zip(erasers[1:], alone[1:], strict=True))
    turned = fit_joint_erasers(moments_of(x.flip(1), z), widths[::-1])
    assert not torch.allclose(turned[2].moved, erasers[0].moved)  # the order of the blocks matters


def test_random_subspaces_have_the_same_form_and_leave_the_concept():
    x, labels, _ = planted(7)
    z = one_hot(labels)
    moments = moments_of(x, z)
    eraser = fit_eraser(moments)
    random = random_erasers(moments, eraser.rank, 100, seed=0)
    assert random.num_draws == 100 and random.rank == eraser.rank and len(random.moved) == 100
    assert torch.equal(random_erasers(moments, eraser.rank, 10, seed=0).left, random.left[:10])
    assert not torch.allclose(random_erasers(moments, eraser.rank, 10, seed=1).left, random.left[:10])
    whitened = random.right @ moments.covariance @ random.right.transpose(1, 2)
    assert torch.allclose(whitened, torch.eye(eraser.rank, dtype=torch.float64).expand_as(whitened), atol=1e-9)
    boards = x[:200].view(100, 2, WIDTH)  # one draw an entry of the first axis, as a loop over them would give
    batched = random.erase(boards, draws=torch.arange(100))
    for draw in (0, 57, 99):
        by_hand = boards[draw] - (boards[draw] - random.mean) @ random.right[draw].T @ random.left[draw].T
        assert torch.allclose(batched[draw], by_hand, atol=1e-12)
    left = [moments_of(x - (x - random.mean) @ random.right[i].T @ random.left[i].T, z).explained() for i in range(20)]
    assert np.mean(left) > 0.5 * moments.explained()


def test_random_subspaces_can_be_scaled_to_move_as_far():
    x, labels, _ = planted(8, strength=6.0)
    moments = moments_of(x, one_hot(labels))
    wanted = float(fit_eraser(moments).moved)
    plain = random_erasers(moments, CLASSES - 1, 10, seed=0)
    scaled = random_erasers(moments, CLASSES - 1, 10, seed=0, moved=wanted)
    assert float((plain.moved / wanted).log().abs().max()) > 0.1
    assert torch.allclose(scaled.moved, torch.full((10,), wanted, dtype=torch.float64))
    moves = x.expand(10, -1, -1) - scaled.erase(x.expand(10, -1, -1), draws=torch.arange(10))
    assert torch.allclose(moves.square().sum(-1).mean(1), scaled.moved)
    assert torch.equal(scaled.right, plain.right)


def test_wrong_requests():
    x, labels, _ = planted(rows=50)
    moments = moments_of(x, one_hot(labels))
    with pytest.raises(ShapeError, match="nothing to erase"):
        fit_eraser(moments_of(x, torch.ones(50, 1)))
    with pytest.raises(ShapeError, match="two rows"):
        fit_eraser(Moments(3, 1))
    with pytest.raises(ShapeError, match=r"\(N, 12\) and \(N, 4\)"):
        moments.update(x[:, :5], one_hot(labels))
    with pytest.raises(PlanprobeError, match="NaN"):
        moments.update(x * float("nan"), one_hot(labels))
    with pytest.raises(ShapeError, match="must see what it edits"):
        fit_eraser(moments, own=slice(0, 4), given=slice(2, 12))
    with pytest.raises(ShapeError, match="blocks"):
        fit_joint_erasers(moments, [5, 5])
    random = random_erasers(moments, 2, 3, seed=0)
    with pytest.raises(ShapeError, match="draws="):
        random.erase(x)
    with pytest.raises(ShapeError, match="edits 12 features"):
        fit_eraser(moments).erase(x[:, :4])
