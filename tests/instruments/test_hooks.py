"""Opening, capturing and intervening, on somebody else's policy: it counts, so that every effect can be foretold."""

import copy

import pytest
import torch
from torch import nn

from planprobe.core.errors import (
    AddressError,
    CaptureError,
    CompiledPolicyError,
    DirectionError,
    PolicyError,
    ShapeError,
    UnknownSiteError,
)
from planprobe.instruments.addresses import step_filter
from planprobe.instruments.hooks import (
    Address,
    Cache,
    Edit,
    ablate,
    capture,
    intervene,
    open_policy,
    patch_from,
    select_sites,
    steer,
)
from planprobe.subjects.nets import make_net
from planprobe.subjects.recipe import NetRecipe

BOARDS, CHANNELS, SIDE = 3, 2, 2


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.hook_h = nn.Identity()


class Counter(nn.Module):
    """Adds the observation to its memory once a tick. Tapped by hand, and follows the protocol and nothing else."""

    def __init__(self, ticks=2):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))
        self.plain = nn.Identity()  # no tap: not called hook_*
        self.hook_out = nn.Identity()
        self.set_num_ticks(ticks)

    def set_num_ticks(self, ticks):
        self.num_ticks = ticks
        self.ticks = nn.ModuleList(nn.ModuleList([Layer()]) for _ in range(ticks))

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, CHANNELS, SIDE, SIDE),)

    def step(self, observation, state):
        (h,) = state
        for tick in self.ticks:
            h = tick[0].hook_h(h + self.scale * observation.float() + self.offset)
        logits = self.hook_out(self.plain(h.flatten(2).sum(2)))
        return logits, logits[:, 0], (h,)


class InPlace(Counter):
    """Overwrites what it has just shown to its tap."""

    def step(self, observation, state):
        h = self.ticks[0][0].hook_h(state[0] + observation.float())
        h += 100
        return h.flatten(2).sum(2), h.sum((1, 2, 3)), (h,)


class Twice(Counter):
    """Shows every tick to the same tap."""

    def step(self, observation, state):
        h = state[0]
        for _ in range(2):
            h = self.ticks[0][0].hook_h(h + observation.float())
        return h.flatten(2).sum(2), h.sum((1, 2, 3)), (h,)


class OnlyFirst(Counter):
    """Shows its tap only the first step of a run."""

    def step(self, observation, state):
        h = state[0] + observation.float()
        if not state[0].any():
            h = self.ticks[0][0].hook_h(h)
        return self.hook_out(h.flatten(2).sum(2)), h.sum((1, 2, 3)), (h,)


ONES = torch.ones(BOARDS, CHANNELS, SIDE, SIDE, dtype=torch.uint8)
H0, H1 = "ticks.0.0.hook_h", "ticks.1.0.hook_h"


@pytest.fixture
def opened():
    return open_policy(Counter(), name="counter")


@torch.no_grad()
def run(policy, steps=3, boards=BOARDS):
    """Logits (T, B, C)."""
    state, logits = policy.initial_state(boards), []
    for _ in range(steps):
        logit, _, state = policy.step(ONES[:1].expand(boards, -1, -1, -1), state)
        logits.append(logit)
    return torch.stack(logits)


def nothing_left(opened):
    return not opened.live and not any(point._forward_hooks for point in opened.hook_dict.values())


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


def test_long_runs_and_other_boards(opened):
    with capture(opened, H0) as cache:
        run(opened, steps=300)
    assert cache[H0][0, :, 0, 0, 0].tolist() == list(range(1, 601, 2))
    turned = Cache({"a": torch.arange(3.0)[:, None]}, (0,)).boards(torch.tensor([2, 0])).to("cpu")
    assert turned["a"].flatten().tolist() == [2, 0]


def test_rows_of_channels_last_sites_are_a_view():
    net = make_net(NetRecipe(num_ticks=1, channels=4, hidden=8), planes=3, board=(7, 7), num_actions=4)
    opened, observation = open_policy(net), torch.zeros(2, 3, 7, 7, dtype=torch.uint8)
    with torch.no_grad(), capture(opened, H0) as cache:
        state = opened.initial_state(2)
        for _ in range(2):
            _, _, state = opened.step(observation, state)
    by_time = cache[H0].permute(1, 0, 3, 4, 2)
    assert by_time.reshape(-1, 4).data_ptr() == by_time.data_ptr()
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


# intervene ----------------------------------------------------------------------------------------------------------
def set_to(number, site=H0, **address):
    return Edit(Address(site, **address), lambda value, moment: torch.full_like(value, number))


def test_edits_reach_the_addressed_part_only(opened):
    squares = torch.tensor([[True, False], [False, False]])
    by_board = torch.stack([squares, ~squares, torch.zeros_like(squares)])
    for mask, expected in ((squares, [[11, 1, 1, 1]] * 3), (by_board, [[11, 1, 1, 1], [1, 11, 11, 11], [1] * 4])):
        with capture(opened, H0) as cache, intervene(opened, [set_to(11, squares=mask, channels=[1], steps=[0])]):
            run(opened, steps=2)
        assert cache.at(H0, 0)[:, 1].flatten(1).tolist() == expected
        assert (cache.at(H0, 0)[:, 0] == 1).all()
        assert (cache.at(H0, 1)[:, 0] == 3).all()


def test_edits_apply_in_order_and_captures_see_the_edited_value(opened):
    """Outer before inner, first in the list before second, captures last; however they are nested."""
    double = Edit(Address(H0), lambda value, moment: 2 * value)
    add = Edit(Address(H0), lambda value, moment: value + 10)
    outer, inner = intervene(opened, double), intervene(opened, [add])
    with capture(opened, H0) as outside, outer, inner, capture(opened, H0) as inside:
        run(opened, steps=1)
    assert (outside[H0] == 12).all()
    assert (inside[H0] == 12).all()
    with intervene(opened, [add, double]), capture(opened, H0) as cache:
        run(opened, steps=1)
    assert (cache[H0] == 22).all()


def test_edits_are_told_the_moment(opened):
    moments = []
    with intervene(opened, Edit(Address("*", steps=[1]), lambda value, moment: (moments.append(moment), value)[1])):
        run(opened)
    told = [(moment.step, moment.site, moment.tick, moment.layer) for moment in moments]
    assert told == [(1, H0, 0, 0), (1, H1, 1, 0), (1, "hook_out", None, None)]


def test_edits_must_keep_the_shape(opened):
    narrow = Edit(Address(H0), lambda value, moment: value[:, :1])
    with pytest.raises(ShapeError, match=r"gave \(3, 1, 2, 2\) for \(3, 2, 2, 2\)"), intervene(opened, narrow):
        run(opened)


def test_gradients_flow_through_edits(opened):
    push = torch.zeros(CHANNELS, requires_grad=True)
    with intervene(opened, Edit(Address(H1, channels=[0]), lambda value, moment: value + push[:, None, None])):
        logits, _, _ = opened.step(ONES, opened.initial_state(BOARDS))
    logits.sum().backward()
    assert push.grad.tolist() == [BOARDS * SIDE * SIDE, 0]


def test_patches_come_from_the_same_step_of_the_other_run(opened):
    with capture(opened, H0) as cache, intervene(opened, set_to(50, H0, steps=[1])):
        run(opened)
    with intervene(opened, patch_from(cache, Address(H0, steps=[1]))):
        assert run(opened)[:, 0, 0].tolist() == [8, 4 * 51, 4 * 53]
    message = r"holds steps 0 to 2 .* not step 3.\n.*steps=cache.steps"
    with pytest.raises(AddressError, match=message), intervene(opened, patch_from(cache, Address(H0))):
        run(opened, steps=4)
    with intervene(opened, patch_from(cache, Address(H0, steps=cache.steps))):
        run(opened, steps=4)
    with pytest.raises(ShapeError), intervene(opened, patch_from(cache.boards(torch.tensor([0])), Address(H0))):
        run(opened)


def test_ablation(opened):
    reference = Cache({"hook_out": torch.arange(24.0).view(2, 3, 4)[..., :CHANNELS]}, (0, 1, 2))
    at = Address("hook_out")
    with intervene(opened, ablate(at)):
        assert (run(opened) == 0).all()
    with intervene(opened, ablate(at, "mean", reference=reference)):
        assert run(opened)[1, 2].tolist() == [10, 11]
    with intervene(opened, ablate(at, "resample", reference=reference, seed=3)):
        drawn = run(opened, steps=40)
    with intervene(opened, ablate(at, "resample", reference=reference, seed=3, board_ids=torch.tensor([1, 2]))):
        fewer = run(opened, steps=40, boards=2)
    assert torch.equal(fewer, drawn[:, 1:])  # draws do not depend on the batch
    assert set(drawn[..., 0].flatten().tolist()) == {0, 4, 8, 12, 16, 20}
    assert (drawn[..., 1] == drawn[..., 0] + 1).all()
    with pytest.raises(AddressError, match="there is no ablation 'knockout'"):
        ablate(at, "knockout")
    with pytest.raises(AddressError, match="needs reference="):
        ablate(at, "mean")


def test_steering_adds_alpha_times_the_direction(opened):
    mask = torch.tensor([[True, False], [False, False]])
    one = torch.tensor([0.6, 0.8])
    a_board = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    a_square = torch.zeros(BOARDS, CHANNELS, SIDE, SIDE)
    a_square[:, :, 0, 0] = a_board
    for directions, alpha, expected in (
        (one, 5.0, [[3, 4]] * 3),
        (a_board, 5.0, [[5, 0], [0, 5], [3, 4]]),
        (a_board, torch.tensor([1.0, 2.0, 10.0]), [[1, 0], [0, 2], [6, 8]]),
        (a_square, 5.0, [[5, 0], [0, 5], [3, 4]]),
    ):
        with capture(opened, H0) as cache, intervene(opened, steer(Address(H0, squares=mask), directions, alpha)):
            run(opened, steps=1)
        moved = cache.at(H0, 0) - 1
        torch.testing.assert_close(moved[:, :, 0, 0], torch.tensor(expected, dtype=torch.float32))
        assert not moved.flatten(2)[:, :, 1:].any()
    with intervene(opened, steer(Address("hook_out"), one, 5.0)):
        torch.testing.assert_close(run(opened, steps=1)[0, 0], torch.tensor([11.0, 12.0]))


@pytest.mark.parametrize(
    ("directions", "alpha", "error", "message"),
    [
        (torch.tensor([1.0, 1.0]), 1.0, DirectionError, "norms from 1.414 to 1.414 and need norm 1"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), 1.0, DirectionError, "from 0 to 1"),
        (torch.tensor([1.0, float("nan")]), 1.0, DirectionError, "nan"),
        (torch.eye(2)[None], 1.0, ShapeError, "must be"),
        (torch.tensor([1.0, 0.0]), torch.ones(1, 1), ShapeError, "number or"),
        (torch.tensor([1.0, 0.0, 0.0]), 1.0, ShapeError, r"\(3,\) do not fit site"),
        (torch.eye(2), 1.0, ShapeError, r"\(2, 2\) do not fit site"),
        (torch.tensor([1.0, 0.0]), torch.ones(2), ShapeError, "2 strengths alpha for 3 boards"),
        (torch.ones(3, 2, 3, 3) * 0.5**0.5, 1.0, ShapeError, "on a board"),
    ],
)
def test_directions_that_do_not_fit(opened, directions, alpha, error, message):
    with pytest.raises(error, match=message), intervene(opened, steer(Address(H0), directions, alpha)):
        run(opened)


def test_steering_takes_no_channels():
    with pytest.raises(ShapeError, match="set entries of the direction to 0"):
        steer(Address(H0, channels=[0]), torch.tensor([1.0, 0.0]), 1.0)


# TransformerLens' own tools -----------------------------------------------------------------------------------------
def test_run_with_cache_gives_the_same_values_with_squares_as_positions(opened):
    with capture(opened, "*") as ours, torch.no_grad():
        (logits, _, _), theirs = opened.run_with_cache(ONES, opened.initial_state(BOARDS))
    assert theirs[H0].shape == (BOARDS, SIDE * SIDE, CHANNELS)
    assert torch.equal(theirs[H0], ours.at(H0, 0).flatten(2).transpose(1, 2))
    assert torch.equal(theirs["hook_out"], logits)
    assert nothing_left(opened)


@torch.no_grad()
def test_run_with_hooks_edits_squares_as_positions(opened):
    def third_square(value, hook):
        value = value.clone()
        value[:, 2] = torch.tensor([10.0, 20.0])
        return value

    with capture(opened, H1) as cache:
        logits, _, _ = opened.run_with_hooks(ONES, opened.initial_state(BOARDS), fwd_hooks=[(H0, third_square)])
    assert cache.at(H1, 0)[0].flatten(1).tolist() == [[2, 2, 11, 2], [2, 2, 21, 2]]
    assert logits[0].tolist() == [17, 27]
    assert run(opened)[0, 0, 0] == 8


@torch.no_grad()
def test_resetting_their_hooks_leaves_our_blocks_alone(opened):
    with intervene(opened, set_to(0, "hook_out")), capture(opened, "*") as cache:
        opened.reset_hooks()
        assert (run(opened) == 0).all()
        _, theirs = opened.run_with_cache(ONES, opened._policy.initial_state(BOARDS))
        assert (theirs["hook_out"] == 0).all()
    assert len(cache.steps) == 4


def test_their_backward_hooks_see_gradients(opened):
    gradients = {}
    with opened.hooks(bwd_hooks=[(H0, lambda gradient, hook: gradients.update({hook.name: gradient.shape}))]):
        opened(ONES, opened.initial_state(BOARDS))[0].sum().backward()
    assert gradients == {H0: (BOARDS, SIDE * SIDE, CHANNELS)}
