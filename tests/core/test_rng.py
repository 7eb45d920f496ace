"""Counter-based draws: independent of batch, uniform, and independent between streams."""

import torch

from planprobe.core.rng import draw_below, draw_bits, draw_uniform


def test_a_draw_depends_on_its_own_counters_alone():
    many = draw_bits(3, torch.arange(100), 7)
    assert all(int(draw_bits(3, torch.tensor([i]), 7)) == int(many[i]) for i in (0, 17, 99))
    assert not torch.equal(many, draw_bits(4, torch.arange(100), 7))
    assert not torch.equal(many, draw_bits(3, torch.arange(100), 8))


def test_draws_are_uniform_and_bounded():
    draws = draw_below(10, 0, torch.arange(50_000))
    counts = torch.bincount(draws, minlength=10).double()
    chi_squared = float(((counts - 5000) ** 2 / 5000).sum())
    assert draws.min() >= 0
    assert chi_squared < 27.9  # 99.9 % of chi-squared with 9 degrees of freedom
    uniform = draw_uniform(0, torch.arange(50_000), 1)
    assert abs(float(uniform.mean()) - 0.5) < 0.006
    assert 0 <= uniform.min() <= uniform.max() < 1


def test_streams_are_uncorrelated():
    first, second = draw_uniform(0, torch.arange(20_000), 0), draw_uniform(0, torch.arange(20_000), 1)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03


def test_numbers_and_tensors_draw_alike():
    """Plain numbers take a way of their own, which has to come to the same bits, signs and overflows included."""
    seeds, counters = (0, 7, -3, 2**62 + 11), (0, 1, 5, -9, 2**40)
    for seed in seeds:
        for first in counters:
            together = draw_bits(seed, torch.tensor([first]), torch.tensor(counters))
            assert together.tolist() == [int(draw_bits(seed, first, second)) for second in counters]
            assert together.tolist() == draw_bits(seed, first, torch.tensor(counters)).tolist()
            assert together.tolist() == draw_bits(seed, torch.tensor(first), torch.tensor(counters)).tolist()
    assert draw_bits(0, 1).tolist() == 560777212719420804
