"""Intervening, and TransformerLens' own tools, on a policy that counts."""

import pytest
import torch
from counting_policies import BOARDS, CHANNELS, H0, H1, ONES, SIDE, Counter, nothing_left, run

from planprobe.core.errors import (
    AddressError,
    DirectionError,
    ShapeError,
)
from planprobe.instruments.hooks import (
    Address,
    Cache,
    Edit,
    ablate,
    capture,
    intervene,
    open_policy,
    patch_from,
    steer,
)


@pytest.fixture
def opened():
    return open_policy(Counter(), name="counter")


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
