"""Description length: what is written plainly costs less than what must be dug out, and noise gains nothing."""

import pytest
import torch

from planprobe.core.errors import TooFewLevelsError
from planprobe.instruments.probes.online_code import online_codes

CLASSES, ROWS = 4, 3200


def labelled(seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    return y, generator


def test_noise_costs_as_much_as_the_uniform_code():
    y, generator = labelled()
    x = torch.randn(ROWS, 6, generator=generator)
    (code,) = online_codes(x, y, level_ids=torch.arange(ROWS) // 16, num_classes=CLASSES)
    assert code.uniform_bits == ROWS * 2
    assert code.num_rows == ROWS
    assert 0.9 < code.compression <= 1.01
    assert code.block_bits[0] == pytest.approx(2.0)


def test_what_is_certain_costs_the_first_block_and_little_more():
    y, _ = labelled()
    x = 4 * torch.nn.functional.one_hot(y, CLASSES).float()
    (code,) = online_codes(x, y, level_ids=torch.arange(ROWS) // 16, num_classes=CLASSES)
    first = 0.02 * ROWS * 2
    assert first <= code.bits < 4 * first
    assert code.compression > 10


def test_what_must_be_dug_out_costs_more_at_the_same_end():
    """The same labels, written on four channels or spread over sixty beside noise."""
    y, generator = labelled()
    plain = torch.nn.functional.one_hot(y, CLASSES).float() + 0.4 * torch.randn(ROWS, CLASSES, generator=generator)
    spread = torch.cat([plain, torch.randn(ROWS, 60, generator=generator)], dim=1)
    levels = torch.arange(ROWS) // 16
    (easy,) = online_codes(plain, y, level_ids=levels, num_classes=CLASSES)
    (hard,) = online_codes(spread, y, level_ids=levels, num_classes=CLASSES)
    assert hard.bits > 1.2 * easy.bits
    assert hard.block_bits[-1] < 1.3 * easy.block_bits[-1] + 0.1


def test_maps_are_coded_apart_and_unknown_rows_cost_nothing():
    y, _ = labelled()
    x = torch.nn.functional.one_hot(y, CLASSES).float()
    half = y.clone()
    half[::2] = -1
    levels = torch.arange(ROWS) // 16
    both = online_codes(x, torch.stack([y, half]), level_ids=levels, num_classes=CLASSES)
    (alone,) = online_codes(x, half, level_ids=levels, num_classes=CLASSES)
    sizes = [16 * num_levels for num_levels in (4, 4, 8, 16, 32, 64, 72)]
    assert sum(sizes) == ROWS
    assert both[1].num_rows == ROWS // 2
    assert both[1].bits == pytest.approx(alone.bits, rel=1e-3)
    assert both[0].bits == pytest.approx(sum(a * b for a, b in zip(both[0].block_bits, sizes, strict=True)), rel=1e-6)


def test_every_block_needs_levels():
    y, _ = labelled()
    with pytest.raises(TooFewLevelsError, match="blocks"):
        online_codes(torch.zeros(ROWS, 2), y, level_ids=torch.arange(ROWS) // 200, num_classes=CLASSES)
