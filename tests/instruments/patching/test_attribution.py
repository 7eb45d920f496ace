"""Attribution patching is exact where a net is linear, tick by tick and step by step; ranks and their agreement."""

from dataclasses import replace

import pytest
import torch
from additive_policies import TickWeights, make_histories
from counting_policies import CHANNELS, H0, H1, SIDE, Twice

from planprobe.core.errors import AddressError, CaptureError
from planprobe.instruments.hooks import Address, open_policy
from planprobe.instruments.patching.attribution import attribute_patches, rank_agreement, screen_patches
from planprobe.instruments.patching.patches import Patch, patch_grid
from planprobe.instruments.patching.patching import patch_pairs
from planprobe.subjects.nets.transformer import Transformer


@pytest.fixture
def opened():
    opened = open_policy(TickWeights(), name="weights")
    opened.step(torch.zeros(1, CHANNELS, SIDE, SIDE, dtype=torch.uint8), opened.initial_state(1))
    return opened


def test_each_activation_meets_its_own_gradient(opened):
    """By hand, strength 1: four squares times two channels times the weight of the tick times 2 ** steps to go."""
    patches = [Patch(Address(site, steps=[step])) for step in (0, 1, 2) for site in (H0, H1)]
    estimates = attribute_patches(opened, make_histories(num_pairs=1, num_steps=3), patches)
    assert estimates[:, 0].tolist() == [8 * weight * 2**left for left in (2, 1, 0) for weight in (1, 10)]


def test_a_linear_net_is_foretold_exactly(opened):
    histories = make_histories(num_pairs=5, num_steps=2)
    patches = patch_grid(opened, "ticks.*", steps=[0, 1], squares="each", channels="each")
    patches += [Patch(Address("ticks.*")), Patch(Address(H1, squares=torch.eye(SIDE, dtype=torch.bool)))]
    estimates = attribute_patches(opened, histories, patches)
    exact = patch_pairs(opened, histories, patches).change("logit-difference")
    torch.testing.assert_close(estimates, exact)
    assert len(exact.unique()) > 8


def test_masks_of_pairs_and_empty_ones(opened):
    squares = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    squares[0, 0, 0], squares[1] = True, True
    estimates = attribute_patches(opened, make_histories(num_pairs=3), [Patch(Address(H0, squares=squares))])
    assert estimates[0, :2].tolist() == [2, 8 * 2]
    assert estimates[0, 2].isnan()


def test_frozen_weights_are_no_obstacle(opened):
    for parameter in opened.parameters():
        parameter.requires_grad_(False)
    assert attribute_patches(opened, make_histories(num_pairs=1), [Patch(Address(H0))]).item() == 8


def test_every_site_of_a_transformer_has_an_estimate():
    """Values are one number a board, and scores of steps that have not come are minus infinity in both runs."""
    torch.manual_seed(0)
    net = Transformer(planes=CHANNELS, board=(SIDE, SIDE), num_actions=2, context=4, channels=8, num_heads=2, hidden=8)
    opened, histories = open_policy(net), make_histories(num_pairs=3, num_steps=3)
    patches = patch_grid(opened, "*", steps=[0, 2])
    estimates = attribute_patches(opened, histories, patches)
    assert bool(estimates.isfinite().all())
    exact = patch_pairs(opened, histories, patches).change("logit-difference")
    logits = [number for number, patch in enumerate(patches) if patch.address.site == "hook_policy"]
    torch.testing.assert_close(estimates[logits], exact[logits])  # linear, and nothing at an earlier step
    assert estimates[logits[0]].abs().max() == 0 < estimates[logits[1]].abs().min()


def test_a_site_that_fires_twice_is_refused():
    with pytest.raises(CaptureError, match="more than once a step"):
        attribute_patches(open_policy(Twice()), make_histories(), [Patch(Address(H0))])


def test_rank_agreement_is_spearman_over_patches(opened):
    histories = make_histories(num_pairs=4, num_steps=3)
    patches = patch_grid(opened, "ticks.*", steps=[0, 1, 2])
    effects = patch_pairs(opened, histories, patches)
    change = effects.change("logit-difference")
    for estimates, expected in ((change.sqrt(), 1.0), (-change, -1.0), (change[[1, 0, 2, 3, 4, 5]], None)):
        agreement = rank_agreement(replace(effects, estimates=estimates))
        if expected is None:
            from scipy.stats import spearmanr

            expected = spearmanr(change.mean(1), estimates.mean(1)).statistic
            assert abs(expected) < 1
        assert agreement.value == pytest.approx(expected)
        assert agreement.low == pytest.approx(expected)  # every level ranks alike here
    assert agreement.n == 4
    few = replace(effects, estimates=change)
    assert rank_agreement(few, torch.tensor([True, True] + [False] * 4)).value != 1  # nan
    with pytest.raises(AddressError, match="no estimates"):
        rank_agreement(effects)


def test_a_screen_patches_some_exactly_and_ranks_those_drawn_at_random(opened):
    histories = make_histories(num_pairs=3, num_steps=2)
    patches = patch_grid(opened, "ticks.*", steps=[0, 1], squares="each", channels="each")
    screen = screen_patches(opened, histories, patches, num_exact=10)
    assert len(screen.estimates) == len(patches) == 32
    assert len(screen.exact.patches) == len(screen.chosen) == 10
    assert int(screen.drawn.sum()) == 5
    assert screen.chosen.tolist() == sorted(set(screen.chosen.tolist()))
    size = screen.estimates.mean(1).abs()
    picked = screen.chosen[~screen.drawn]
    left = [number for number in range(32) if number not in screen.chosen.tolist()]
    assert size[picked].min() >= size[left].max()
    torch.testing.assert_close(screen.exact.estimates, screen.exact.change("logit-difference"))
    assert screen.exact.rows(num_resamples=20)[0]["estimate"] == pytest.approx(
        screen.exact.rows(num_resamples=20)[0]["value"]
    )
    assert torch.equal(screen.chosen, screen_patches(opened, histories, patches, num_exact=10).chosen)
    assert screen_patches(opened, histories, patches[::6]).agreement.value == pytest.approx(1)
    with pytest.raises(AddressError, match="not 'zero'"):
        screen_patches(opened, histories, patches, source="zero")
    with pytest.raises(AddressError, match="at least 2"):
        screen_patches(opened, histories, patches, num_exact=1)
