"""Rows of one level never end up on two sides."""

import pytest
import torch

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.instruments.probes.splits import Split, check_split, split_by_level


def make_rows(num_levels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    per_level = torch.randint(1, 9, (num_levels,), generator=generator)
    ids = (7 * torch.arange(num_levels) + 3).repeat_interleave(per_level)
    return ids[torch.randperm(len(ids), generator=generator)]


@pytest.mark.parametrize("num_levels", [10, 11, 57, 400])
def test_parts_are_disjoint_by_level_and_hold_every_row(num_levels):
    rows = make_rows(num_levels)
    split = split_by_level(rows, seed=1)
    assert ((split.train.int() + split.valid.int() + split.test.int()) == 1).all()
    levels = [set(rows[mask].tolist()) for mask in split]
    assert not (levels[0] & levels[1])
    assert not (levels[0] & levels[2])
    assert not (levels[1] & levels[2])
    sizes = [len(part) for part in levels]
    assert sum(sizes) == num_levels
    assert all(abs(size - share * num_levels) <= 1 for size, share in zip(sizes, (0.6, 0.2, 0.2), strict=True))


def test_no_part_is_empty_however_small_its_fraction():
    split = split_by_level(make_rows(10), fractions=(0.98, 0.01, 0.01))
    assert all(part.any() for part in split)


def test_seeds_matter_and_the_order_of_rows_does_not():
    rows = make_rows(50)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(5))
    split, shuffled = split_by_level(rows, seed=3), split_by_level(rows[order], seed=3)
    assert torch.equal(split.test[order], shuffled.test)
    assert not torch.equal(split_by_level(rows, seed=4).test, split.test)


def test_too_few_levels_are_refused_however_many_rows():
    with pytest.raises(TooFewLevelsError, match="900 rows come from 9 levels"):
        split_by_level(torch.arange(9).repeat(100))


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.6, 0.2, 0.3), (1.0, 0.0, 0.0)])
def test_fractions_that_mean_nothing_are_refused(fractions):
    with pytest.raises(ShapeError, match="sum to 1"):
        split_by_level(make_rows(20), fractions=fractions)


def test_level_ids_of_another_shape_are_refused():
    with pytest.raises(ShapeError):
        split_by_level(torch.zeros(4, 5, dtype=torch.int64))


def test_a_split_by_step_is_refused():
    rows = make_rows(40)
    check_split(rows, split_by_level(rows))
    by_step = torch.arange(len(rows)) % 3
    with pytest.raises(ShapeError, match="stays on one side"):
        check_split(rows, Split(by_step == 0, by_step == 1, by_step == 2))
