"""Patches with answers worked by hand on a policy that counts; batches against single runs; what cannot be patched."""

from dataclasses import replace

import pytest
import torch
from additive_policies import make_histories
from counting_policies import CHANNELS, H0, H1, SIDE, Counter

from planprobe.core.errors import AddressError, NoContrastError, ShapeError, UnknownNameError, UnknownSiteError
from planprobe.core.levels import LevelSet
from planprobe.core.pairs import LevelPairs
from planprobe.instruments.hooks import Address, capture, intervene, open_policy, patch_from
from planprobe.instruments.patching.effects import NO_SCALE, NO_SQUARE
from planprobe.instruments.patching.patches import Patch, patch_grid, route_patches
from planprobe.instruments.patching.patching import make_donor, patch_block, patch_pairs, record_pairs
from planprobe.instruments.patching.routes import route_agreement

CORNER = torch.tensor([[True, False], [False, False]])


@pytest.fixture
def opened():
    return open_policy(Counter(), name="counter")


def scaled(opened, histories, *addresses, **options):
    """Scaled logit difference of each patch, pooled over pairs."""
    effects = patch_pairs(opened, histories, [Patch(address) for address in addresses], **options)
    measure = "logit-difference"
    return (effects.change(measure).nansum(1) / effects.gap(measure).sum()).tolist()


def test_a_patch_brings_back_what_its_part_of_the_sum_holds(opened):
    """h after two ticks is twice the observation: tick 0 holds half of it, a square a quarter of that."""
    got = scaled(
        opened, make_histories(), Address(H0), Address(H1), Address(H0, squares=CORNER), Address(H0, channels=[0]),
        Address(H0, squares=CORNER, channels=slice(1, 2)), Address("ticks.*"),
    )  # fmt: skip
    assert got == pytest.approx([1 / 2, 1, 1 / 8, 1 / 4, 1 / 16, 1])


def test_steps_are_patched_from_the_carry_of_the_corrupted_run(opened):
    """Two steps, four additions: an early patch is followed by corrupted observations, a late one by fewer."""
    got = scaled(
        opened, make_histories(num_steps=2), Address(H0, steps=[0]), Address(H0, steps=[1]), Address(H0),
        Address(H1, steps=slice(1, None)), Address("ticks.{0}.*", steps=[0]),
    )  # fmt: skip
    # step 1 of the clean run holds three additions by then
    assert got == pytest.approx([1 / 4, 3 / 4, 3 / 4, 1, 1 / 4])


def test_every_measure_by_hand(opened):
    """One pair of strength 1: clean logits (8, 0), corrupted (0, 8), and (4, 4) with tick 0 patched."""
    histories = make_histories(num_pairs=1)
    effects = patch_pairs(opened, histories, [Patch(Address(H0))])
    p = 1 / (1 + torch.tensor(-8.0, dtype=torch.float64).exp())
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    assert effects.patched["logit-difference"].item() == 0
    assert effects.clean["logit-difference"].item() == effects.clean["log-odds"].item() == 8
    assert effects.corrupted["logit-difference"].item() == -8
    assert effects.patched["log-odds"].item() == pytest.approx(0)
    assert effects.patched["kl"].item() == pytest.approx(-float(torch.log(torch.tensor(2.0)) - entropy))
    assert effects.corrupted["kl"].item() == pytest.approx(-8 * float(2 * p - 1))
    assert effects.clean["kl"].item() == 0
    assert effects.right["clean"].all() and effects.right["corrupted"].all()


def test_log_odds_count_legal_moves_only(opened):
    class Third(Counter):
        def step(self, observation, state):
            logits, value, state = super().step(observation, state)
            return torch.cat([logits, torch.full_like(logits[:, :1], 99.0)], 1), value, state

    histories = make_histories(num_pairs=1)
    legal = torch.tensor([[True, True, False]])
    effects = patch_pairs(open_policy(Third()), replace(histories, legal=legal), [Patch(Address(H0))])
    assert effects.clean["log-odds"].item() == 8
    assert effects.patched["log-odds"].item() == pytest.approx(0)


def test_the_reverse_patches_the_corrupted_run_into_the_clean_one(opened):
    histories = make_histories()
    assert scaled(opened, histories.swap(), Address(H0)) == pytest.approx([1 / 2])
    there, back = (patch_pairs(opened, pairs, [Patch(Address(H1))]) for pairs in (histories, histories.swap()))
    assert torch.equal(back.clean["logit-difference"], -there.corrupted["logit-difference"])


def test_ablations_are_sources_too(opened):
    histories = make_histories(num_pairs=3)
    assert scaled(opened, histories, Address(H1), source="zero") == pytest.approx([1 / 2])
    # strengths 1, 2, 3 have mean 2, and three such pairs sum up to what the clean runs hold
    assert scaled(opened, histories, Address(H1), source="mean") == pytest.approx([1])
    drawn = patch_pairs(opened, histories, [Patch(Address(H1))], source="resample", seed=1).patched["logit-difference"]
    assert set(drawn[0].tolist()) <= {8, 16, 24}
    again = patch_pairs(opened, histories[[2, 1, 0]], [Patch(Address(H1))], source="resample", seed=2)
    assert set(again.patched["logit-difference"][0].tolist()) <= {8, 16, 24}
    with pytest.raises(UnknownNameError, match="Did you mean 'resample'"):
        patch_pairs(opened, histories, [Patch(Address(H1))], source="resampled")


def test_masks_go_by_pair_and_an_empty_one_does_not_count(opened):
    histories = make_histories(num_pairs=3)
    squares = torch.stack([CORNER, torch.ones_like(CORNER), torch.zeros_like(CORNER)])
    effects = patch_pairs(opened, histories, [Patch(Address(H1, squares=squares), {"name": "some"})], num_boards=2)
    ratios = effects.change("logit-difference")[0] / effects.gap("logit-difference")
    assert ratios[:2].tolist() == pytest.approx([1 / 4, 1])
    assert ratios[2].isnan()
    row = effects.rows()[0]
    assert row["name"] == "some"
    assert row["value"] == pytest.approx((16 / 4 + 32) / 48)  # only the two pairs, above and below
    assert row["num_levels"] == 2


@pytest.mark.parametrize("num_boards", [1, 3, 5, 250])
def test_batches_change_nothing(opened, num_boards):
    histories = make_histories(num_pairs=5, num_steps=3)
    patches = patch_grid(open_and_shown(opened), [H0, H1], steps=[0, 2], squares="each", channels="each")
    assert len(patches) == 2 * 2 * SIDE * SIDE * CHANNELS
    whole = patch_pairs(opened, histories, patches).patched["logit-difference"]
    split = patch_pairs(opened, histories, patches, num_boards=num_boards).patched["logit-difference"]
    assert torch.equal(whole, split)
    assert len(whole.unique()) > 10


def open_and_shown(opened):
    """A policy that does not tell the shape of what it sees has to take a step first."""
    opened.step(torch.zeros(1, CHANNELS, SIDE, SIDE, dtype=torch.uint8), opened.initial_state(1))
    return opened


@torch.no_grad()
def test_a_patch_is_what_intervene_makes_of_the_whole_run(opened):
    """The twin: no carry, no batch, no donor of ours."""
    histories = make_histories(num_pairs=2, num_steps=3)
    address = Address("ticks.{:1}.*", steps=[1, 2], channels=[1])
    runs = record_pairs(opened, histories, "*", torch.arange(2))
    got = patch_block(opened, runs, [Patch(address)], make_donor(runs, "patch"))[0]
    with capture(opened, "*") as cache:
        run_through(opened, histories.clean)
    with intervene(opened, patch_from(cache, address)):
        expected = run_through(opened, histories.corrupted)
    assert torch.equal(got, expected)
    assert not torch.equal(got, runs.corrupted_logits)


def run_through(opened, observations):
    state = opened.initial_state(len(observations))
    for observation in observations.unbind(1):
        logits, _, state = opened.step(observation, state)
    return logits


# rows ----------------------------------------------------------------------------------------------------------------
def test_rows_are_tidy_and_say_why_a_value_is_missing(opened):
    histories = make_histories(num_pairs=6)
    patches = patch_grid(open_and_shown(opened), "ticks.*", squares="each")
    effects = patch_pairs(opened, histories, patches)
    rows = effects.rows(num_resamples=50)
    assert len(rows) == 3 * len(patches)
    first = rows[0]
    assert (first["site"], first["tick"], first["layer"], first["step"], first["row"], first["column"]) == (
        H0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    assert first["measure"] == "logit-difference"
    assert first["value"] == pytest.approx(1 / 8)
    assert first["low"] <= first["value"] <= first["high"]
    assert first["raw"] == pytest.approx(16 * 2 / 8)  # mean strength 2, gap 16 each
    assert first["reason"] == ""
    mixed = replace(effects, clean={**effects.clean, "kl": effects.corrupted["kl"]})
    reasons = {row["measure"]: row["reason"] for row in mixed.rows(num_resamples=50)}
    assert reasons == {"logit-difference": "", "kl": NO_SCALE, "log-odds": ""}
    nothing = replace(effects, patched={"kl": torch.full_like(effects.patched["kl"], torch.nan)})
    assert {row["reason"] for row in nothing.rows(num_resamples=50)} == {NO_SQUARE}
    baselines = {row["measure"]: row for row in effects.baselines()}
    assert baselines["logit-difference"]["gap"] == pytest.approx(32)
    assert baselines["logit-difference"]["right_in_clean"] == 1


def test_pairs_of_one_level_are_one_unit(opened):
    histories = make_histories(num_pairs=6)
    effects = patch_pairs(opened, replace(histories, level_ids=torch.tensor([7, 7, 7, 9, 9, 9])), [Patch(Address(H0))])
    assert {row["num_levels"] for row in effects.rows(num_resamples=20)} == {2}


def test_a_policy_that_answers_backwards_has_a_scale_of_its_own(opened):
    """Where the clean run prefers the corrupted move, both differences turn sign and the ratio does not."""
    histories = make_histories(num_pairs=6)
    turned = replace(histories, clean_actions=histories.corrupted_actions, corrupted_actions=histories.clean_actions)
    effects = patch_pairs(opened, turned, [Patch(Address(H0))])
    assert effects.rows(num_resamples=50)[0]["value"] == pytest.approx(1 / 2)
    with pytest.raises(NoContrastError, match="none of 6 pairs"):
        effects.of_right_pairs()


def test_only_right_pairs_are_kept(opened):
    histories = make_histories(num_pairs=3)
    wrong_once = replace(histories, clean_actions=torch.tensor([0, 1, 0]), corrupted_actions=torch.tensor([1, 0, 1]))
    kept = patch_pairs(opened, wrong_once, [Patch(Address(H0))]).of_right_pairs()
    assert kept.level_ids.tolist() == [0, 2]
    assert kept.patched["kl"].shape == (1, 2)


# what cannot be done -------------------------------------------------------------------------------------------------
def test_runs_that_do_not_differ_have_nothing_to_patch(opened):
    histories = make_histories()
    same = replace(histories, corrupted=histories.clean)
    with pytest.raises(NoContrastError, match=r"alike \(change 'psi'\)"):
        patch_pairs(opened, same, [Patch(Address(H0))])


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (dict(site="ticks.0.0.hook_c"), UnknownSiteError, "Did you mean 'ticks.0.0.hook_h'"),
        (dict(site="ticks.{3:}.0.hook_h"), UnknownSiteError, "hook_out"),
        (dict(site=H0, steps=[2]), AddressError, "steps 0 to 1"),
        (dict(site=H0, channels=[2]), AddressError, "which has 2"),
        (dict(site=H0, squares=torch.ones(3, 3, dtype=torch.bool)), ShapeError, r"give \(2, 2\)"),
        (dict(site=H0, squares=torch.ones(3, 2, 2, dtype=torch.bool)), ShapeError, "for 4 pairs"),
        (dict(site="hook_out", squares=CORNER), ShapeError, "has no squares"),
    ],
)
def test_patches_that_do_not_fit(opened, address, error, message):
    with pytest.raises(error, match=message):
        patch_pairs(opened, make_histories(num_steps=2), [Patch(Address(**address))])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(steps=[]), AddressError, "at least one step"),
        (dict(squares="every"), AddressError, "'all', 'each'"),
        (dict(channels=[]), AddressError, "groups"),
        (dict(channels=[[5]]), AddressError, "which has 2"),
        (dict(sites="hook_out", squares="each"), AddressError, "no squares to map"),
        (dict(sites="ticks.7.*"), UnknownSiteError, "ticks.1.0.hook_h"),
    ],
)
def test_maps_that_do_not_fit(opened, options, error, message):
    options = {"sites": H0, **options}
    with pytest.raises(error, match=message):
        patch_grid(open_and_shown(opened), options.pop("sites"), **options)


def test_no_patch_is_an_error(opened):
    with pytest.raises(AddressError, match="no patch was given"):
        patch_pairs(opened, make_histories(), [])


# paths ---------------------------------------------------------------------------------------------------------------
def make_level_pairs():
    """Two 4 x 5 boards; plans of three moves and of one, along the upper row."""
    boards = torch.ones(2, 4, 5, dtype=torch.uint8)
    boards[:, 1:3, 1:4] = 0
    goals = boards.clone()
    clean, corrupted = LevelSet(goals, torch.tensor([6, 6])), LevelSet(boards, torch.tensor([6, 6]))
    routes = torch.tensor([[6, 7, 8, 13], [6, 7, -1, -1]])
    others = torch.tensor([[6, 11, -1, -1], [6, 11, 12, -1]])
    actions = torch.tensor([3, 3])
    changed = torch.zeros(2, 4, 5, dtype=torch.bool)
    return LevelPairs(clean, corrupted, changed, actions, actions - 2, routes, others, torch.arange(2), "move-goal")


def test_path_patches_name_the_square_h_moves_ahead():
    patches = route_patches(make_level_pairs(), H0, distances=[1, 3])
    plan = [patch for patch in patches if patch.labels["squares"] == "plan"]
    assert [patch.labels["distance"] for patch in plan] == [1, 3]
    named = [[mask.flatten().nonzero().flatten().tolist() for mask in patch.address.squares] for patch in plan]
    assert named == [[[7], [7]], [[13], []]]
    elsewhere = [patch.address.squares for patch in patches if patch.labels["squares"] == "elsewhere"]
    free = [{12}, {8, 13}]
    for mask in elsewhere:
        for board, squares in enumerate(mask):
            assert set(squares.flatten().nonzero().flatten().tolist()) <= free[board]
    assert any(bool(mask.any()) for mask in elsewhere)


@pytest.mark.parametrize(("distances", "message"), [([0], "from 1 up"), ([], "from 1 up"), ([4], "has 3 moves")])
def test_distances_that_no_plan_has(distances, message):
    with pytest.raises(AddressError, match=message):
        route_patches(make_level_pairs(), H0, distances=distances)


def test_route_agreement_by_hand():
    route = torch.tensor([[6, 7, 7, 8, 13]] * 4 + [[6] * 5])  # one blocked move
    walked = torch.tensor([[6, 7, 7, 8, 13], [6, 11, 6, 7, 12], [6, 6, 6, 6, 6], [6, 7, 8, 13, 13], [6, 7, 8, 13, 13]])
    got = route_agreement(walked, route)
    assert got[:4].tolist() == pytest.approx([1, 1 / 3, 0, 1])
    assert got[4].isnan()
