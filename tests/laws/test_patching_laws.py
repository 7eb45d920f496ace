"""Laws of patching, on every net of the zoo, whatever the weights."""

from functools import partial

import pytest
import torch

from planprobe.core.pairs import HistoryPairs
from planprobe.instruments.hooks import Address, open_policy
from planprobe.instruments.patching.attribution import attribute_patches
from planprobe.instruments.patching.patches import Patch
from planprobe.instruments.patching.patching import make_donor, patch_block, patch_pairs, record_pairs
from planprobe.subjects.nets import make_net
from planprobe.subjects.recipe import NetRecipe

PAIRS, STEPS, BOARD, PLANES, ACTIONS = 4, 3, (7, 7), 4, 4
INSIDE = "{hook_encode,ticks}*"  # all but the outputs: these follow by themselves

small = partial(NetRecipe, channels=8, hidden=16)
NETS = {
    "drc12": small(num_ticks=2, pool_and_inject=False),
    "drc23": small(num_layers=2, num_ticks=3, boundary=True),
    "drc12-size-free": small(num_ticks=2, head="pool"),
    "drc13-inside-the-wall": small(num_ticks=3, head="pool", crop_border=True),
    "resnet": small(kind="resnet", num_blocks=3),
    "resnet-inside-the-wall": small(kind="resnet", num_blocks=3, crop_border=True),
    "lstm": small(kind="lstm"),
}


@pytest.fixture(scope="module", params=NETS)
def opened(request):
    torch.manual_seed(1)
    net = make_net(NETS[request.param], planes=PLANES, board=BOARD, num_actions=ACTIONS)
    with torch.no_grad():  # as built, the ResNet's blocks are the identity and every policy is uniform
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return open_policy(net)


@pytest.fixture(scope="module")
def histories():
    draw = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(0, 2, (2, PAIRS, STEPS, PLANES, *BOARD), dtype=torch.uint8, generator=draw)
    first = torch.arange(PAIRS) % ACTIONS
    legal = torch.ones(PAIRS, ACTIONS, dtype=torch.bool)
    return HistoryPairs(clean, corrupted, first, (first + 1) % ACTIONS, legal, torch.arange(PAIRS), "noise")


def patched_logits(opened, runs, *addresses, **options):
    return patch_block(opened, runs, [Patch(address) for address in addresses], make_donor(runs, "patch"), **options)


def some_addresses(opened):
    """A few parts of a run, small and large."""
    shapes = opened.sites()
    spatial = [site for site, shape in shapes.items() if len(shape) == 3]
    squares = torch.rand(shapes[spatial[-1]][1:], generator=torch.Generator().manual_seed(0)) < 0.5
    return [
        Address(INSIDE),
        Address(spatial[0], steps=[1]),
        Address(spatial[-1], squares=squares, steps=slice(1, None)),
        Address(spatial[-1], channels=[0, 3]),
        Address("hook_encode", channels=slice(2, 5), steps=[0, 2]),
    ]


def test_patching_a_run_with_its_own_activations_changes_no_bit(opened, histories):
    same = HistoryPairs(**{**vars(histories), "clean": histories.corrupted})
    runs = record_pairs(opened, same, "*", torch.arange(PAIRS))
    addresses = [*some_addresses(opened), Address("*")]
    got = patched_logits(opened, runs, *addresses, num_boards=PAIRS)  # another size of batch may round differently
    assert all(torch.equal(logits, runs.corrupted_logits) for logits in got)


def test_patching_everything_gives_the_other_run(opened, histories):
    runs = record_pairs(opened, histories, "*", torch.arange(PAIRS))
    assert not torch.equal(runs.clean_logits, runs.corrupted_logits)
    (got,) = patched_logits(opened, runs, Address(INSIDE), num_boards=PAIRS)
    assert torch.equal(got, runs.clean_logits)
    effects = patch_pairs(opened, histories, [Patch(Address(INSIDE))], num_boards=PAIRS)
    for measure in effects.measures:
        assert torch.equal(effects.patched[measure][0], effects.clean[measure])


def test_one_patch_alone_is_the_same_patch_in_a_batch(opened, histories):
    runs = record_pairs(opened, histories, "*", torch.arange(PAIRS))
    addresses = some_addresses(opened)
    together = patched_logits(opened, runs, *addresses)
    assert not torch.allclose(together[0], together[1])
    for address, logits in zip(addresses, together, strict=True):
        (alone,) = patched_logits(opened, runs, address, num_boards=1)
        torch.testing.assert_close(alone, logits, atol=1e-5, rtol=1e-5)
        assert torch.equal(alone.argmax(-1), logits.argmax(-1))


def test_what_is_patched_before_the_last_step_goes_through_memory_alone(opened, histories):
    runs = record_pairs(opened, histories, "*", torch.arange(PAIRS))
    (early,) = patched_logits(opened, runs, Address(INSIDE, steps=[0, 1]), num_boards=PAIRS)
    has_memory = len(opened.initial_state(1, BOARD)) > 0
    assert torch.equal(early, runs.corrupted_logits) != has_memory


def test_attribution_is_exact_for_small_patches(opened, histories):
    """First order: where the two runs hardly differ, estimate and exact effect of one firing agree."""
    in_double = open_policy(opened).double()
    seen = {name: getattr(histories, name).double() for name in ("clean", "corrupted")}
    seen["clean"] = seen["corrupted"] + 1e-4 * (seen["clean"] - seen["corrupted"])
    close = HistoryPairs(**{**vars(histories), **seen})
    sites = [address.site for address in some_addresses(opened)[1:3]]
    squares = some_addresses(opened)[2].squares
    patches = [Patch(Address(site, steps=[step])) for site in sites for step in (1, 2)]
    patches += [Patch(Address(sites[1], steps=[2], squares=squares, channels=[0, 3]))]
    estimates = attribute_patches(in_double, close, patches)
    exact = patch_pairs(in_double, close, patches).change("logit-difference")
    torch.testing.assert_close(estimates, exact, atol=1e-4 * float(exact.abs().max()), rtol=0.02)
    assert float(exact.abs().max()) > 0
