"""D5 and D6: a plan that forms, tick by tick and square by square, on reads made by hand and on organisms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.instruments.detectors import decoding_order, plan_refinement
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.probes.tick_reads import (
    MAX_TICKS,
    SHUFFLED,
    Read,
    TickReads,
    _rank_events,
    kept_ticks,
    read_ticks,
    record_thinking,
)
from planprobe.subjects.envs.catalog import named_levels
from planprobe.subjects.envs.stimuli import two_route_mazes
from planprobe.subjects.organisms import make_organism, untrained_like
from planprobe.subjects.organisms.families import named_task
from planprobe.subjects.training.evaluate import env_maker

NUM_LEVELS, WAY, OTHERS, NUM_TICKS = 20, 9, 6, 12
UNTRAINED = ("random_weights_0", "random_weights_1", "random_weights_2")


def reads_by_hand(first_right: torch.Tensor, ticks: torch.Tensor | None = None) -> TickReads:
    """Ways of WAY squares and OTHERS that are never entered; a square of a way is read rightly from a tick on.

    first_right (NUM_LEVELS, WAY): that tick's number among those kept.
    """
    ticks = torch.arange(NUM_TICKS) if ticks is None else ticks
    order = torch.cat([torch.arange(WAY), torch.full((OTHERS,), -1)]).repeat(NUM_LEVELS)
    true = torch.where(order < 0, 0, 1 + order % 4)
    begins = torch.cat([first_right, torch.zeros(NUM_LEVELS, OTHERS, dtype=first_right.dtype)], dim=1).flatten()
    known = torch.arange(len(ticks))[:, None] >= begins
    said = torch.where(known, true, 0).to(torch.int8)
    nothing = Read(true, torch.zeros_like(said[[0, -1]]), torch.zeros_like(said[[0, -1]]))
    return TickReads(
        ticks, int(ticks[-1]) + 1, torch.arange(NUM_LEVELS).repeat_interleave(WAY + OTHERS), NUM_LEVELS,
        torch.arange(NUM_LEVELS) // 2, order, order == WAY - 1, Read(true, said, said),
        {SHUFFLED: nothing, **dict.fromkeys(UNTRAINED, nothing)}, 5,
    )  # fmt: skip


def every_level(first_right: torch.Tensor) -> torch.Tensor:
    return first_right.expand(NUM_LEVELS, WAY)


FORWARD = every_level(1 + torch.arange(WAY))
BACKWARD = every_level(WAY - torch.arange(WAY))
AT_ONCE = (1 + torch.arange(NUM_LEVELS) % 9)[:, None].expand(-1, WAY)


@pytest.mark.parametrize(
    ("first_right", "slope", "outcome", "order"),
    [
        (FORWARD, 1.0, "supported", decoding_order.FORWARD),
        (BACKWARD, -1.0, "supported", decoding_order.BACKWARD),
        (AT_ONCE, 0.0, "refuted", decoding_order.AT_ONCE),
        (every_level(torch.zeros(WAY, dtype=torch.int64)), 0.0, "inconclusive", decoding_order.NONE),  # always known
        (every_level(torch.full((WAY,), 99)), 0.0, "inconclusive", decoding_order.NONE),  # never read
    ],
)
def test_order_by_hand(first_right, slope, outcome, order):
    found = decoding_order.run(reads_by_hand(first_right), min_effect=0.25)
    assert found.effect.value == pytest.approx(slope)
    assert found.outcome == outcome
    assert [row["order"] for row in found.rows if row["table"] == "order found"] == [order]
    assert abs(found.beyond_controls.value) == pytest.approx(abs(slope), abs=0.05)  # random order has no slope


def test_squares_in_random_order_have_no_order():
    generator = torch.Generator().manual_seed(0)
    mixed = torch.stack([1 + torch.randperm(WAY, generator=generator) for _ in range(NUM_LEVELS)])
    found = decoding_order.run(reads_by_hand(mixed), min_effect=0.25)
    assert found.outcome != "supported"
    assert found.beyond_controls.p > 0.05


def test_ticks_that_were_not_kept_count_as_long_as_they_lasted():
    """Kept 0, 1, 2, 6, 10: a square first right at the fourth of them was wrong for six ticks."""
    ticks = torch.tensor([0, 1, 2, 6, 10])
    lag, use = decoding_order.square_lags(reads_by_hand(every_level(torch.full((WAY,), 3)), ticks))
    assert set(lag[use].tolist()) == {6.0}
    assert int(use.sum()) == NUM_LEVELS * (WAY - 1)  # where the way ends is marked on the board


def test_a_net_without_memory_settles_nothing():
    reads = reads_by_hand(FORWARD)
    assert decoding_order.run(reads, min_effect=0.25, recurrent=False).outcome == "inconclusive"
    assert plan_refinement.run(reads, min_effect=0.05, recurrent=False).outcome == "inconclusive"


def test_ways_that_take_turns_are_counted():
    """Every other tick another way is read, on the squares that are never entered."""
    reads = reads_by_hand(every_level(torch.zeros(WAY, dtype=torch.int64)))
    said = reads.agent.own.clone()
    said[1::2] = torch.where(reads.order < 0, 1, 0).to(torch.int8)
    taking_turns = TickReads(**(vars(reads) | {"agent": Read(reads.agent.true, said, said)}))
    assert set(decoding_order.count_switches(taking_turns)) == {NUM_TICKS - 1}
    rows = decoding_order.run(taking_turns, min_effect=0.25).rows
    assert [row["switches"] for row in rows if row["table"] == "order found"] == [NUM_TICKS - 1]
    rows = decoding_order.run(reads_by_hand(FORWARD), ways=taking_turns, min_effect=0.25).rows
    assert [(row["order"], row["switches"]) for row in rows if row["table"] == "order found"] == [
        (decoding_order.FORWARD, NUM_TICKS - 1)
    ]
    for way in (FORWARD, BACKWARD, AT_ONCE):  # a way that grows, or appears, takes no other's place
        assert not decoding_order.count_switches(reads_by_hand(way)).any()


def test_switches_of_one_layout_are_resampled_together():
    """Levels of a layout whose ways are near-copies say one thing, not several: the interval is over layouts."""
    ways = reads_by_hand(every_level(torch.zeros(WAY, dtype=torch.int64)))
    said = ways.agent.own.clone()
    turning = (ways.level_index // 2) % 2 == 0  # both levels of every other layout
    said[1::2, turning] = torch.where(ways.order[turning] < 0, 1, 0).to(torch.int8)
    ways = TickReads(**(vars(ways) | {"agent": Read(ways.agent.true, said, said)}))
    alone = TickReads(**(vars(ways) | {"groups": torch.arange(NUM_LEVELS)}))
    rows = []
    for each in (ways, alone):
        found = decoding_order.run(reads_by_hand(FORWARD), ways=each, min_effect=0.25)
        rows += [row for row in found.rows if row["table"] == "order found"]
    widths = [row["switches_high"] - row["switches_low"] for row in rows]
    assert rows[0]["switches"] == rows[1]["switches"]
    assert widths[0] > 1.2 * widths[1]


def test_near_copies_stay_on_one_side():
    levels = two_route_mazes(40, size=9, seed=3).levels
    layouts = torch.arange(40) // 4
    opened = open_policy(make_organism("wavefront", named_task("maze", 9), 0).policy)
    thinking = record_thinking(
        opened, env_maker(named_task("maze", 9)), levels, "agent-approach-direction", "ticks.*.0.hook_h",
        thinking_steps=2, others={},
    )  # fmt: skip
    reads = read_ticks(thinking, groups=layouts)
    assert sorted(reads.groups.unique(return_counts=True)[1].tolist()) == [4] * 5  # whole layouts, half of them
    with pytest.raises(TooFewLevelsError, match="10 or more"):
        read_ticks(thinking, groups=layouts // 2)


def test_rise_is_the_smaller_of_both():
    right, wrong = np.eye(2) * 4, np.fliplr(np.eye(2)) * 4
    half = (right + wrong) / 2
    assert plan_refinement.rise(np.stack([right, wrong, wrong])) == pytest.approx(1.0)
    assert plan_refinement.rise(np.stack([right, wrong, right])) == pytest.approx(0.0)  # a code that only moved
    assert plan_refinement.rise(np.stack([right, half, wrong])) == pytest.approx(0.5)


def test_refinement_by_hand():
    forming = plan_refinement.run(reads_by_hand(AT_ONCE), min_effect=0.05)
    assert forming.outcome == "supported"
    assert forming.rows[0]["own"] < 0.3 < forming.rows[NUM_TICKS - 1]["own"] == 1.0
    alone = TickReads(
        **(vars(reads_by_hand(AT_ONCE)) | {"controls": {SHUFFLED: reads_by_hand(AT_ONCE).controls[SHUFFLED]}})
    )
    assert plan_refinement.run(alone, min_effect=0.05).outcome == "inconclusive"  # no untrained net beside it
    there = plan_refinement.run(reads_by_hand(every_level(torch.zeros(WAY, dtype=torch.int64))), min_effect=0.05)
    assert there.effect.value == 0.0
    assert there.outcome != "supported"


@pytest.mark.parametrize("num_ticks", [1, 2, MAX_TICKS, MAX_TICKS + 1, 37, 96, 400])
def test_kept_ticks(num_ticks):
    kept = kept_ticks(num_ticks)
    assert kept[0] == 0
    assert kept[-1] == num_ticks - 1
    assert len(kept) == min(num_ticks, MAX_TICKS)
    assert bool((kept[1:] > kept[:-1]).all())


def test_order_on_the_way_counts_events():
    """Steps 4, 0, 7 to the event: second, first, third; never stays out."""
    horizon = torch.tensor([[[4, -1], [0, 7]]], dtype=torch.int16)
    assert _rank_events(horizon).tolist() == [[[1, -1], [0, 2]]]


@pytest.fixture(scope="module")
def levels():
    return named_levels(named_task("maze", 9), "far", 28)


@pytest.mark.parametrize(
    ("family", "refines", "order"),
    [("wavefront", True, decoding_order.AT_ONCE), ("rollout", True, decoding_order.FORWARD), ("table", False, "none")],
)
def test_organisms_are_told_apart(levels, family, refines, order):
    organism = make_organism(family, named_task("maze", 9), 0, levels=[levels])
    opened = open_policy(organism.policy)
    thinking = record_thinking(
        opened, env_maker(organism.task), levels, "agent-approach-direction", "ticks.*.0.hook_h", thinking_steps=5,
        others={name: open_policy(untrained_like(organism.policy, seed=seed)) for seed, name in enumerate(UNTRAINED)},
    )  # fmt: skip
    reads = read_ticks(thinking)
    assert (plan_refinement.run(reads, min_effect=0.05).outcome == "supported") == refines
    found = decoding_order.run(reads, min_effect=0.25)
    assert [row["order"] for row in found.rows if row["table"] == "order found"] == [order]


def test_a_concept_of_states_is_refused(levels):
    opened = open_policy(make_organism("reflex", named_task("maze", 9), 0).policy)
    with pytest.raises(ShapeError, match="concept of states"):
        record_thinking(opened, lambda *_: None, levels, "steps-left", "ticks.*.0.hook_h", thinking_steps=1, others={})
