"""Opening and capturing, on somebody else's policy: it counts, so that every effect can be foretold."""

import copy

import pytest
import torch
from counting_policies import (
    BOARDS,
    CHANNELS,
    H0,
    H1,
    ONES,
    SIDE,
    Counter,
    InPlace,
    OnlyFirst,
    Twice,
    nothing_left,
    run,
)
from torch import nn

from planprobe.core.errors import (
    AddressError,
    CaptureError,
    CompiledPolicyError,
    PolicyError,
    ShapeError,
    UnknownSiteError,
)
from planprobe.instruments import recorder
from planprobe.instruments.addresses import step_filter
from planprobe.instruments.hooks import (
    Address,
    Edit,
    ablate,
    capture,
    intervene,
    open_policy,
    select_sites,
    steer,
)
from planprobe.subjects.nets import make_net
from planprobe.subjects.recipe import NetRecipe


@pytest.fixture
def opened():
    return open_policy(Counter(), name="counter")


# opening ------------------------------------------------------------------------------------------------------------
def test_opened_policy_is_a_copy_with_the_same_keys_and_bare_site_names(opened):
    policy = Counter()
    assert list(opened.state_dict()) == list(policy.state_dict()) == ["scale", "offset"]
    assert list(opened.hook_dict) == ["hook_out", H0, H1]
    assert type(opened.plain) is nn.Identity
    assert type(policy.hook_out) is nn.Identity
    assert opened.num_ticks == 2
    with torch.no_grad():
        opened.scale.fill_(5)
    opened.load_state_dict({"scale": torch.tensor(2.0), "offset": torch.tensor(1.0)})
    assert run(opened)[0, 0, 0] == 2 * 3 * 4  # both ticks, on four squares
    assert run(policy)[0, 0, 0] == 2 * 4


def test_moving_and_mode_reach_the_policy_itself(opened):
    opened.double().eval()
    assert opened._policy.scale.dtype is opened._policy.offset.dtype is torch.float64
    assert not opened._policy.training
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = opened.nonesuch


def test_hook_points_of_another_library_user_are_kept():
    from transformer_lens.hook_points import HookPoint

    policy = Counter()
    policy.hook_out = HookPoint()
    opened = open_policy(policy)
    with capture(opened, "hook_out") as cache:
        run(opened)
    assert cache["hook_out"].shape == (BOARDS, 3, CHANNELS)


def test_an_opened_policy_can_be_opened_and_copied(opened):
    for other in (open_policy(opened), copy.deepcopy(opened)):
        with torch.no_grad():
            other.scale.fill_(0)
        with intervene(other, ablate(Address("*"))):
            assert run(opened)[0, 0, 0] == 8
        assert run(other)[0, 0, 0] == 0
        assert other.title == "agent 'counter'"


def test_the_clock_counts_steps_since_the_last_start(opened):
    run(opened, steps=4)
    assert opened.clock == 4
    opened.initial_state(1)
    assert opened.clock == 0


def test_site_shapes_come_from_a_dry_run_that_leaves_no_trace(opened):
    with pytest.raises(ShapeError, match=r"agent 'counter' does not tell the shape .* Take a step"):
        opened.sites()
    run(opened, steps=2)
    with capture(opened, "*") as cache, intervene(opened, Edit(Address("*"), lambda value, moment: value / 0)):
        shapes = opened.sites()
        assert opened.clock == 2
    assert shapes == {"hook_out": (2,), H0: (2, 2, 2), H1: (2, 2, 2)}
    with pytest.raises(CaptureError, match="no step was captured"):
        _ = cache["hook_out"]


def test_shapes_of_a_net_that_tells_its_board():
    net = make_net(NetRecipe(num_ticks=1, channels=4, hidden=8), planes=3, board=(7, 9), num_actions=5)
    shapes = open_policy(net).sites()
    assert shapes["ticks.0.0.hook_c"] == (4, 7, 9)
    assert shapes["ticks.0.0.hook_pool"] == (4,)
    assert (shapes["hook_policy"], shapes["hook_value"]) == ((5,), ())


def test_more_ticks_bring_their_own_sites(opened):
    opened.set_num_ticks(3)
    assert select_sites(opened, "ticks.*.0.hook_h") == [H0, H1, "ticks.2.0.hook_h"]
    assert run(opened)[0, 0, 0] == 12
    with capture(opened, "*"), pytest.raises(CaptureError, match="end the block first"):
        opened.set_num_ticks(2)


@pytest.mark.parametrize(
    ("policy", "message"),
    [(nn.Linear(1, 1), "no initial_state and no step"), (object(), "no initial_state"), (3, "int")],
)
def test_what_is_no_policy_is_refused(policy, message):
    with pytest.raises(PolicyError, match=message):
        open_policy(policy)


class Scripted(nn.Module):
    def forward(self, x):
        return x


def compiled_policies():
    whole = torch.compile(Counter())
    part = Counter()
    part.ticks[0][0] = torch.compile(part.ticks[0][0])
    in_place = Counter()
    in_place.ticks[0].compile()
    method = Counter()
    method.step = torch.compile(method.step)
    decorated = type("Decorated", (Counter,), {"step": torch.compile(Counter.step)})()
    scripted = Counter()
    scripted.plain = torch.jit.script(Scripted())
    return {
        "whole": whole, "part": part, "in place": in_place, "method": method, "decorated": decorated,
        "scripted": scripted,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["whole", "part", "in place", "method", "decorated", "scripted"])
def test_compiled_policies_are_refused(kind):
    with pytest.raises(CompiledPolicyError, match=r"is compiled, and hooks .* are silently ignored"):
        open_policy(compiled_policies()[kind])


def test_policies_compiled_after_opening_are_refused(opened):
    compiled = torch.compile(opened)
    for block in (lambda: capture(compiled, "*"), lambda: intervene(compiled, ablate(Address("*")))):
        with pytest.raises(CompiledPolicyError), block():
            pass
    with pytest.raises(PolicyError, match=r"Counter was not opened. Give instruments open_policy\(policy\)"):
        capture(Counter(), "*").__enter__()


# sites and addresses ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("patterns", "sites"),
    [
        (H1, [H1]),
        ("*", ["hook_out", H0, H1]),
        ("ticks.*.hook_h", [H0, H1]),
        ("ticks.{k}.{l}.hook_h", [H0, H1]),
        ("{any}", ["hook_out"]),
        ("ticks.{1,2}.0.hook_h", [H1]),
        ("ticks.{1}.0.hook_h", [H1]),
        ("ticks.?.0.*", [H0, H1]),
        ([H1, "*_h", H0], [H0, H1]),
    ],
)
def test_patterns(opened, patterns, sites):
    assert select_sites(opened, patterns) == sites


@pytest.mark.parametrize("patterns", ["ticks.0.0.hook_x", ["*", "ticks.0.0.hook_x"]])
def test_unknown_sites_name_the_nearest_and_all_with_shapes(opened, patterns):
    run(opened)
    with pytest.raises(UnknownSiteError) as caught:
        select_sites(opened, patterns)
    assert str(caught.value) == (
        "agent 'counter' has no site 'ticks.0.0.hook_x'.\n"
        "  Did you mean 'ticks.0.0.hook_h'? It has: hook_out, ticks.0.0.hook_h, ticks.1.0.hook_h.\n"
        "  Shapes on one board: hook_out (2,), hook_h (2, 2, 2)."
    )


def test_unknown_sites_before_the_first_step_and_without_taps(opened):
    for block in (lambda: capture(opened, "core"), lambda: intervene(opened, ablate(Address("core")))):
        with pytest.raises(UnknownSiteError, match="after a first step"), block():
            pass
    bare = Counter(ticks=0)
    bare.hook_out = nn.ReLU()
    with pytest.raises(UnknownSiteError, match=r"nothing in it is tapped.\n.*nn.Identity\(\) modules named hook_"):
        select_sites(open_policy(bare), "*")


def test_steps_of_addresses():
    assert [step for step in range(9) if step_filter(slice(1, 8, 3))(step)] == [1, 4, 7]
    assert [step for step in range(9) if step_filter(slice(6, None))(step)] == [6, 7, 8]
    assert [step for step in range(9) if step_filter([2, 5])(step)] == [2, 5]
    for steps in ([-1], slice(-3, None)):
        with pytest.raises(AddressError, match="Count from 0"):
            Address(H0, steps=steps)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ({"site": H0, "squares": torch.ones(3, 3, dtype=torch.bool)}, ShapeError, r"give \(2, 2\), or \(3, 2, 2\)"),
        ({"site": H0, "squares": torch.ones(4, 2, 2, dtype=torch.bool)}, ShapeError, r"give \(2, 2\), or \(3, 2, 2\)"),
        ({"site": "hook_out", "squares": torch.ones(2, 2, dtype=torch.bool)}, ShapeError, "has no squares"),
        ({"site": H0, "channels": [0, 2]}, AddressError, "which has 2"),
        ({"site": H0, "channels": slice(2, 4)}, AddressError, "which has 2"),
    ],
)
def test_addresses_that_do_not_fit_the_run(opened, address, error, message):
    with pytest.raises(error, match=message), intervene(opened, ablate(Address(**address))):
        run(opened)
    assert nothing_left(opened)
    assert opened.clock == 0


def test_masks_are_bool():
    with pytest.raises(ShapeError, match="bool mask"):
        Address(H0, squares=torch.ones(2, 2))


# capture ------------------------------------------------------------------------------------------------------------
def test_capture_stacks_steps_behind_boards(opened):
    with capture(opened, "*") as cache:
        run(opened, steps=3)
    assert cache.steps == (0, 1, 2)
    assert set(cache) == {"hook_out", H0, H1}
    assert cache[H0].shape == (BOARDS, 3, CHANNELS, SIDE, SIDE)
    assert cache[H0][0, :, 0, 0, 0].tolist() == [1, 3, 5]
    assert cache["hook_out"][0, :, 0].tolist() == [8, 16, 24]
    assert torch.equal(cache.at(H1, 2), cache[H1][:, 2])
    assert nothing_left(opened)


def test_chosen_steps_channels_and_dtype(opened):
    with capture(opened, H0, steps=[1, 2], channels=[1], dtype=torch.float16) as cache:
        run(opened, steps=4)
    assert cache.steps == (1, 2)
    assert cache[H0].shape == (BOARDS, 2, 1, SIDE, SIDE)
    assert cache[H0].dtype is torch.float16
    assert cache.at(H0, 2)[0, 0, 0, 0] == 5
    with pytest.raises(AddressError, match=r"holds steps 1 to 2 of .* not step 0"):
        cache.at(H0, 0)


@pytest.mark.parametrize("chunk_bytes", [1, 500, 1 << 20])
def test_long_runs(opened, monkeypatch, chunk_bytes):
    """What is recorded does not depend on how many steps share a block of memory."""
    monkeypatch.setattr(recorder, "CHUNK_BYTES", chunk_bytes)
    with capture(opened, "*") as cache:
        run(opened, steps=50)
    assert cache.at(H0, 43)[0, 0, 0, 0] == 87  # before the chunks are joined, and after
    assert cache[H0][0, :, 1, 1, 1].tolist() == list(range(1, 101, 2))
    assert cache["hook_out"].shape == (BOARDS, 50, CHANNELS)
    assert cache.at(H0, 43)[0, 0, 0, 0] == 87
    turned = cache.boards(torch.tensor([2, 0])).to("cpu")
    assert turned[H0].shape == (2, 50, CHANNELS, SIDE, SIDE)
    assert turned.steps == tuple(range(50))


@pytest.mark.parametrize("steps", [2, 20])
def test_values_keep_the_memory_layout_of_the_run(steps):
    """Rows of a channels-last site are a view, and a patch needs no reordering."""
    net = make_net(NetRecipe(num_ticks=1, channels=4, hidden=8), planes=3, board=(7, 7), num_actions=4)
    opened, observation = open_policy(net), torch.zeros(2, 3, 7, 7, dtype=torch.uint8)
    with torch.no_grad(), capture(opened, H0) as cache:
        state = opened.initial_state(2)
        for _ in range(steps):
            _, _, state = opened.step(observation, state)
    assert cache.at(H0, 1).is_contiguous(memory_format=torch.channels_last)
    by_time = cache[H0].permute(1, 0, 3, 4, 2)
    assert by_time.shape == (steps, 2, 7, 7, 4)
    assert by_time.is_contiguous()
    assert cache.at(H0, 1).is_contiguous(memory_format=torch.channels_last)


def test_captures_are_copies_without_gradients():
    opened = open_policy(InPlace())
    with capture(opened, H0) as cache:
        run(opened, steps=2)
    assert cache[H0][0, :, 0, 0, 0].tolist() == [1, 102]
    learner = open_policy(Counter())
    with capture(learner, "*") as cache:
        logits, _, _ = learner.step(ONES, learner.initial_state(BOARDS))
    assert not cache[H0].requires_grad
    logits.sum().backward()
    assert learner.scale.grad is not None


def test_a_cache_is_read_after_its_block_and_by_its_sites(opened):
    with capture(opened, H0) as cache:
        run(opened)
        with pytest.raises(CaptureError, match="after its `with` block"):
            _ = cache[H0]
        assert "recording" in repr(cache)
    assert "3 steps" in repr(cache)
    with pytest.raises(UnknownSiteError, match="this cache has no site"):
        _ = cache[H1]


def test_a_capture_holds_one_run(opened):
    for boards in (BOARDS, BOARDS - 1):
        with pytest.raises(CaptureError, match="a capture holds one run"), capture(opened, H0):
            _ = run(opened), run(opened, boards=boards)
        assert nothing_left(opened)


def test_a_site_that_fires_twice_a_step_is_refused():
    opened = open_policy(Twice(ticks=1))
    for block in (capture(opened, "*_h"), intervene(opened, steer(Address("*_h"), torch.tensor([1.0, 0.0]), 1.0))):
        with pytest.raises(CaptureError, match="Give each tick its own tap"), block:
            run(opened)
        assert nothing_left(opened)
    net = make_net(NetRecipe(num_ticks=1, channels=4, hidden=8), planes=3, board=(7, 7), num_actions=4)
    opened = open_policy(net)
    observations, starts = torch.zeros(2, 1, 3, 7, 7, dtype=torch.uint8), torch.zeros(2, 1, dtype=torch.bool)
    with pytest.raises(CaptureError, match="not unroll"), capture(opened, "*_h"):
        opened.unroll(observations, opened.initial_state(1), starts)


def test_sites_that_do_not_fire_are_noticed():
    opened = open_policy(OnlyFirst(ticks=1))
    with pytest.raises(CaptureError, match="different steps"), capture(opened, "*"):
        run(opened)
    opened = open_policy(InPlace(ticks=2))
    with pytest.raises(CaptureError, match="never reached in 3 steps"), intervene(opened, ablate(Address(H1))):
        run(opened)
    assert nothing_left(opened)


@pytest.mark.parametrize("where", ["outside", "in an edit"])
def test_blocks_clean_up_when_the_code_in_them_raises(opened, where):
    def explode(value, moment):
        if where == "in an edit" and moment.step == 1:
            raise ZeroDivisionError
        return value

    with pytest.raises(ZeroDivisionError), capture(opened, "*"), intervene(opened, Edit(Address(H0), explode)):
        divmod(run(opened).numel(), 0)
    assert nothing_left(opened)
    assert run(opened)[0, 0, 0] == 8
