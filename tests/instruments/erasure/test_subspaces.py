"""Learned subspaces on a net that holds one variable in one planted direction, and on nets that hold none."""

import math

import pytest
import torch
from counting_policies import H0, H1, ONES, Counter, run
from torch import nn

from planprobe.core.errors import AddressError, ShapeError
from planprobe.instruments.erasure.subspaces import InterchangePairs, fit_subspace, interchange
from planprobe.instruments.hooks import Address, capture, intervene, open_policy, patch_from
from planprobe.instruments.probes.splits import split_by_level

WIDTH, PAIRS = 6, 240


class Site(nn.Module):
    def __init__(self):
        super().__init__()
        self.hook_h = nn.Identity()


class Coder(nn.Module):
    """Holds bit d of the observation's first square in direction d of a rotated code, and acts on the first bit.

    The code is what the step before saw, so memory matters. reads: the direction that the action depends on.
    """

    def __init__(self, reads=0, scale=4.0):
        super().__init__()
        noise = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3))
        self.register_buffer("mix", torch.linalg.qr(noise)[0])
        self.reads, self.scale = reads, scale
        self.ticks = nn.ModuleList([nn.ModuleList([Site()])])

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, WIDTH, *(board or (2, 2))),)

    def step(self, observation, state):
        code = torch.einsum("cd,bdhw->bchw", self.mix, 2.0 * observation.float() - 1)
        held = self.ticks[0][0].hook_h(state[0])
        bit = torch.einsum("c,bc->b", self.mix[:, self.reads], held[:, :, 0, 0])
        logits = self.scale * torch.stack([bit, -bit], dim=1)
        return logits, bit, (code,)


def make_pairs(num=PAIRS, seed=0):
    """All bits of base and source are drawn apart; the target is what the source's first bit asks for."""
    rng = torch.Generator().manual_seed(seed)
    base, source = (torch.randint(0, 2, (num, 2, WIDTH, 2, 2), generator=rng, dtype=torch.uint8) for _ in range(2))
    targets = 1 - source[:, 0, 0, 0, 0].to(torch.int64)
    square = torch.zeros(num, dtype=torch.int64)
    return InterchangePairs(base, source, targets, torch.arange(num) // 4, square, square)


@pytest.fixture(scope="module")
def fitted():
    opened = open_policy(Coder())
    options = {"ranks": (1, 2), "num_random": 20, "epochs": 15, "learning_rate": 0.05}
    return opened, fit_subspace(
        opened, make_pairs(), "ticks.0.0.hook_h", untrained=[open_policy(Coder(scale=0.0))], **options
    )


def test_the_planted_direction_is_found(fitted):
    opened, found = fitted
    assert found.rank == 1  # two directions do no better
    angle = math.degrees(math.acos(min(1.0, float((found.basis[:, 0] @ opened.mix[:, 0]).abs()))))
    assert angle < 15
    assert found.losses[-1] < found.losses[0]
    assert found.effect.value == 1 and found.effect.n == 12
    assert set(found.controls) == {"random subspaces", "equal length", "shuffled pairs", "untrained net 0"}
    assert all(effect.value < 0.85 for effect in found.controls.values())
    assert found.beyond.low > 0 and found.beyond.p < 0.05
    told = {row["condition"]: row for row in found.rows}
    assert told["whole site"]["hits"] == 1 and 0.2 < told["no interchange"]["hits"] < 0.8
    assert told["learned subspace"]["learned_minus_this"] == 0


def test_a_subspace_that_beats_the_whole_site_is_told(fitted):
    """A net that holds the bit and acts on another one: halfway between both lies a direction that carries it over."""
    options = {"ranks": (1,), "num_random": 3, "epochs": 8, "learning_rate": 0.05}
    found = fit_subspace(open_policy(Coder(reads=4)), make_pairs(), "ticks.0.0.hook_h", **options)
    assert found.beyond_site.value > 0.1 and found.beyond_site.low > 0
    assert found.effect.value < 0.9
    assert fitted[1].beyond_site.value == 0


def test_the_search_leaves_the_net_as_it_was(fitted):
    opened, _ = fitted
    assert not opened.live and not any(point._forward_hooks for point in opened.hook_dict.values())
    fresh, observation = Coder(), make_pairs(8).base[:, 0]
    state = fresh.step(observation, fresh.initial_state(8))[2]
    assert torch.equal(fresh.step(observation, state)[0], opened.step(observation, state)[0])


def test_shuffled_sources_stay_in_their_part_and_leave_their_pair():
    pairs = make_pairs(40)
    split = split_by_level(pairs.level_ids, seed=1)
    mixed = pairs.shuffled(split, seed=0)
    assert torch.equal(mixed.targets, pairs.targets) and torch.equal(mixed.base, pairs.base)
    for mask in split:
        own, new = ({bytes(each.numpy().tobytes()) for each in part.source[mask]} for part in (pairs, mixed))
        assert own == new
    assert not any(torch.equal(a, b) for a, b in zip(pairs.source, mixed.source, strict=True))


def test_interchange_in_a_run():
    """Of full rank it is a patch; from the run itself it changes nothing; else only the subspace moves."""
    opened = open_policy(Counter())
    with capture(opened, "ticks.*") as own:
        clean = run(opened)
    with intervene(opened, interchange(own, Address("ticks.*"), torch.eye(2)[:, :1])):
        assert torch.equal(run(opened), clean)
    with torch.no_grad():
        opened.scale.fill_(3.0)
    with capture(opened, "ticks.*") as donor:
        run(opened)
    with torch.no_grad():
        opened.scale.fill_(1.0)
    address = Address(H0, steps=[1])
    outcomes = []
    for edit in (patch_from(donor, address), interchange(donor, address, torch.eye(2))):
        with intervene(opened, edit):
            outcomes.append(run(opened))
    assert torch.equal(*outcomes) and not torch.equal(outcomes[0], clean)
    direction = torch.tensor([[0.6], [0.8]])
    with capture(opened, H0) as cache, intervene(opened, interchange(donor, address, direction)):
        run(opened)
    change = cache.at(H0, 1) - own.at(H0, 1)
    wanted = donor.at(H0, 1) - own.at(H0, 1)
    assert torch.allclose(change, torch.einsum("cd,bdhw->bchw", direction @ direction.T, wanted), atol=1e-5)
    assert H1 in opened.hook_dict and ONES.ndim == 4


def test_wrong_requests():
    opened, pairs = open_policy(Coder()), make_pairs(60)
    with pytest.raises(ShapeError, match="choose from 1 to 6"):
        fit_subspace(opened, pairs, "ticks.0.0.hook_h", ranks=(7,))
    with pytest.raises(AddressError, match="2 sites"):
        fit_subspace(open_policy(Counter()), pairs, "ticks.*")
    with pytest.raises(ShapeError, match="alike"):
        InterchangePairs(pairs.base, pairs.source, pairs.targets[:3], pairs.level_ids)
    with pytest.raises(ShapeError, match="of neither"):
        InterchangePairs(pairs.base, pairs.source, pairs.targets, pairs.level_ids, base_squares=pairs.base_squares)
    with pytest.raises(ShapeError, match="orthonormal"):
        interchange(None, Address(H0), torch.ones(2, 1))
