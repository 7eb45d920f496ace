"""Channels whose offset, sign and role were planted, and channels of noise."""

import numpy as np
import pytest
import torch

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.instruments.alignment import align_channels, class_maps, correlate, realign
from planprobe.instruments.concepts.catalog import Labels

STATES, SIDE = 120, 8
NAMES = ["plan=up", "plan=down", "goal", "wall"]
PLANTED = [  # role, offset, sign, noise
    (0, (0, 0), 1, 0.5), (1, (1, -2), -1, 0.5), (2, (-2, 2), 1, 0.3), (0, (-1, 0), -1, 1.0), (3, (0, 1), 1, 0.5),
]  # fmt: skip
LEVEL_IDS = torch.arange(STATES) // 3 + 7


def random_maps(seed=0):
    rng = torch.Generator().manual_seed(seed)
    maps = (torch.rand(STATES, len(NAMES), SIDE, SIDE, generator=rng) < 0.2).float()
    return maps


def plant(maps, seed=1):
    """Channels that hold a map moved by an offset, without wrapping round, a large mean, and noise."""
    rng = torch.Generator().manual_seed(seed)
    channels = []
    for role, (down, right), sign, noise in PLANTED:
        moved = torch.zeros_like(maps[:, 0])
        for row in range(SIDE):
            for column in range(SIDE):
                if 0 <= row + down < SIDE and 0 <= column + right < SIDE:
                    moved[:, row + down, column + right] = maps[:, role, row, column]
        channels.append(3 * sign * moved + 40 + noise * torch.randn(moved.shape, generator=rng))
    silent = [torch.randn(STATES, SIDE, SIDE, generator=rng), torch.full((STATES, SIDE, SIDE), 2.0)]
    return torch.stack(channels + silent, dim=1)


@pytest.fixture(scope="module")
def roles():
    maps = random_maps()
    return align_channels(plant(maps), maps, NAMES, level_ids=LEVEL_IDS)


def test_planted_offsets_signs_and_roles_are_recovered(roles):
    found = [(each.role, each.offset, each.sign) for each in roles[: len(PLANTED)]]
    assert found == [(NAMES[role], offset, sign) for role, offset, sign, _ in PLANTED]
    assert all(each.agrees and each.p_holm < 1e-4 for each in roles[: len(PLANTED)])
    clear = roles[0]  # correlation of 3 z + noise of .5 with z, of variance .16
    assert clear.correlation.value == pytest.approx(1.2 / np.sqrt(1.2**2 + 0.5**2), abs=0.02)
    assert clear.correlation.low < clear.correlation.value < clear.correlation.high
    assert abs(clear.control.value) < 0.1 and clear.correlation.n == 20


def test_noise_and_dead_channels_have_no_role(roles):
    noise, dead = roles[-2:]
    assert noise.role is None and dead.role is None
    assert dead.correlation.value == 0
    maps = random_maps(3)
    activations = torch.randn(STATES, 24, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
    for floor in (None, torch.rand(STATES, SIDE, SIDE) < 0.6):
        found = align_channels(activations, maps, NAMES, level_ids=LEVEL_IDS, is_row=floor, min_correlation=0.0)
        assert sum(each.role is not None for each in found) == 0
        assert sum(each.agrees for each in found) < 4


def test_geometry_that_all_levels_share_is_no_role():
    """A map and a channel that are both high in the middle of the board go together, on every level alike."""
    rows = torch.linspace(-1, 1, SIDE)
    middle = (1 - rows[:, None].square() - rows.square()).expand(STATES, SIDE, SIDE)
    rng = torch.Generator().manual_seed(4)
    maps = (torch.rand(STATES, 1, SIDE, SIDE, generator=rng) < 0.2 + 0.3 * middle[:, None].clamp(min=0)).float()
    channel = middle[:, None] + 0.2 * torch.randn(STATES, 1, SIDE, SIDE, generator=rng)
    (role,) = align_channels(channel, maps, ["plan=up"], level_ids=LEVEL_IDS, reach=0)
    assert role.correlation.low > 0.1 and role.control.low > 0.1
    assert role.role is None


def test_realigned_channels_stand_on_their_squares(roles):
    maps = random_maps()
    moved = realign(plant(maps), roles)
    for channel, (role, (down, right), _, _) in enumerate(PLANTED):
        inner = (slice(None), slice(2, -2), slice(2, -2))
        pair = torch.stack([moved[:, channel][inner].flatten(), maps[:, role][inner].flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.7, (down, right)
    assert torch.equal(moved[:, -1], plant(maps)[:, -1])


def test_the_correlation_is_pearsons():
    rng = np.random.default_rng(0)
    a, z = rng.normal(size=50), rng.normal(size=50)
    sums = np.array([50, a.sum(), z.sum(), (a * a).sum(), (z * z).sum(), (a * z).sum()])
    assert correlate(sums) == pytest.approx(np.corrcoef(a, z)[0, 1])
    assert correlate(np.array([5, 5.0, 1, 5, 1, 1])) == 0


def test_maps_of_classes():
    values = torch.tensor([[[0, 1], [2, -1]]], dtype=torch.int8)
    names, maps = class_maps(Labels(values, values, values, ("never", "up", "down")), name="plan")
    assert names == ["plan=up", "plan=down"]
    assert maps.tolist() == [[[[0, 1], [0, 0]], [[0, 0], [1, 0]]]]


def test_wrong_requests(roles):
    maps = random_maps()
    activations = plant(maps)
    with pytest.raises(ShapeError, match="K"):
        align_channels(activations, maps, NAMES[:3], level_ids=LEVEL_IDS)
    with pytest.raises(ShapeError, match="need"):
        align_channels(activations, maps, NAMES, level_ids=LEVEL_IDS[:5])
    with pytest.raises(ShapeError, match="reach 8"):
        align_channels(activations, maps, NAMES, level_ids=LEVEL_IDS, reach=8)
    with pytest.raises(TooFewLevelsError):
        align_channels(activations, maps, NAMES, level_ids=LEVEL_IDS % 4)
    with pytest.raises(ShapeError, match="7 channel roles"):
        realign(activations[:, :3], roles)
