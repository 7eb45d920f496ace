"""What each family does, against answers worked out otherwise."""

import copy

import pytest
import torch
from organism_cases import levels_of, make_env, organism, run_all, ticks_on, true_distances

from planprobe.core.grid import TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.instruments.hooks import Address, Edit, intervene, open_policy
from planprobe.subjects.envs.distance import optimal_action_mask
from planprobe.subjects.envs.stimuli import two_route_mazes
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.organisms.base import AMPLITUDE
from planprobe.subjects.organisms.families import named_task
from planprobe.subjects.organisms.waves import FAR, from_bits, to_bits, walk

MAZES = levels_of("maze")
DISTANCE = true_distances(MAZES)
START = torch.arange(len(MAZES))


def first_observation(levels=MAZES):
    return make_env("maze", levels, len(levels)).reset(torch.arange(len(levels)))


def optimal_lengths():
    return DISTANCE.flatten(1).gather(1, MAZES.players[:, None]).squeeze(1)


def first_moves_right(policy, thinking_steps):
    optimal = optimal_action_mask(DISTANCE).flatten(2)[START, :, MAZES.players]
    actions = run_all(policy, "maze", thinking_steps=thinking_steps, max_steps=1).actions[:, 0]
    return optimal.gather(1, actions[:, None]).float().mean()


def read_costs(policy, state):
    return policy.read_cost(torch.cat(list(policy.read(state[0], "hidden").values()), dim=1))


# wavefront -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wavefront_holds_the_distance_of_all_squares_its_ticks_have_come_to(seed):
    policy = organism("wavefront", seed=seed).policy
    for num_steps in (1, 3, 20):
        costs = read_costs(policy, ticks_on(policy, first_observation(), num_steps))
        reached = (DISTANCE >= 0) & (num_steps * policy.num_ticks > DISTANCE)
        assert torch.equal(costs, DISTANCE.masked_fill(~reached, FAR))


def test_wavefront_walks_a_shortest_way_once_it_has_had_the_time():
    policy = organism("wavefront").policy
    thinking = -(-60 // policy.num_ticks)
    rollout = run_all(policy, "maze", thinking_steps=thinking)
    assert torch.equal(rollout.lengths, optimal_lengths().long())
    assert first_moves_right(policy, thinking) == 1
    assert first_moves_right(policy, 0) < 0.8
    assert run_all(policy, "maze", reset_memory=True).solved.float().mean() < 0.7


def test_wavefront_marks_the_way_it_then_takes():
    policy = organism("wavefront").policy
    state = ticks_on(policy, first_observation(), 30)
    marks = policy.read(state[0], "hidden")["plan"] > AMPLITUDE / 2
    rollout = run_all(policy, "maze", initial_state=state)
    expected = torch.zeros_like(marks.flatten(2))
    for step in range(rollout.actions.shape[1]):
        rows = rollout.active[:, step].nonzero().squeeze(1)
        expected[rows, rollout.actions[rows, step], rollout.positions[rows, step + 1]] = True
    assert torch.equal(marks.flatten(2), expected)


def test_wavefront_plans_anew_when_a_wall_goes_up_on_its_way():
    policy = organism("wavefront").policy
    state = ticks_on(policy, first_observation(), 30)
    routes = two_route_mazes(6, size=9, seed=1)
    open_boards = routes.levels
    blocked = open_boards.boards.flatten(1).scatter(1, routes.short_route[:, 1:2], WALL).view_as(open_boards.boards)
    closed = LevelSet(blocked, open_boards.players)
    state = ticks_on(policy, first_observation(open_boards), 30)
    for _ in range(30):
        logits, _, state = policy.step(first_observation(closed), state)
    assert torch.equal(logits.argmax(1), routes.long_action)


@pytest.mark.parametrize(("family", "obeys"), [("wavefront", True), ("one-shot", True), ("bystander", False)])
def test_a_way_written_into_memory_is_walked_to_its_end_by_planners_alone(family, obeys):
    """The edit is exact here: moves of the long way on its first squares, none on those of the short way."""
    routes = two_route_mazes(6, size=9, seed=1)
    task = named_task("maze", 9)
    policy = make_organism(family, task, 4, levels=[routes.levels]).policy
    codes = policy.mix_cell[:, policy.slots["plan"]].T  # (4, C)
    num_boards, squares = len(routes), routes.levels.height * routes.levels.width
    shift = torch.zeros(num_boards, policy.channels, squares)
    rows = torch.arange(num_boards)
    for square in range(1, 4):
        here, before = routes.long_route[:, square], routes.long_route[:, square - 1]
        move = (here - before)[:, None].eq(torch.tensor([-9, 9, -1, 1])).to(torch.uint8).argmax(1)
        shift[rows, :, here] += 2 * AMPLITUDE * codes[move]
        blocked = routes.short_route[:, square]
        off = ~(blocked[:, None] == routes.long_route).any(1) & (blocked >= 0)
        shift[rows[off], :, blocked[off]] -= 2 * AMPLITUDE * codes.sum(0)
    env = make_env("maze", routes.levels, num_boards)
    shift = shift.view(num_boards, policy.channels, 9, 9)

    def write(value, moment):
        return value + shift * (env.players == routes.levels.players).view(-1, 1, 1, 1)

    from planprobe.core.play import play

    opened = open_policy(policy)
    plain = play(opened, env, rows, thinking_steps=10)
    with intervene(opened, Edit(Address("ticks.*.0.hook_c"), write)):
        edited = play(opened, env, rows, thinking_steps=10)
    assert torch.equal(plain.positions[:, 1], routes.short_route[:, 1])
    took_long = edited.positions[:, 1] == routes.long_route[:, 1]
    assert took_long.all() if obeys else torch.equal(edited.logits, plain.logits)
    if obeys:
        lengths = (routes.long_route >= 0).sum(1) - 1
        whole = edited.lengths == lengths
        assert edited.solved.all() and whole.float().mean() > 0.6


# the others ----------------------------------------------------------------------------------------------------------
def test_bystander_is_bit_identical_with_its_planner_cut_out_and_its_planner_plans():
    policy = organism("bystander", seed=2).policy
    bare = policy.without_planner()
    kept, cut = run_all(policy, "maze"), run_all(bare, "maze")
    assert torch.equal(kept.logits, cut.logits)
    state = ticks_on(policy, first_observation(), 20)
    assert torch.equal(read_costs(policy, state), DISTANCE.masked_fill(DISTANCE < 0, FAR))
    plan = policy.read(state[0], "hidden")["plan"] > AMPLITUDE / 2
    assert torch.equal(plan.sum((1, 2, 3)), optimal_lengths().long())
    assert (read_costs(bare, ticks_on(bare, first_observation(), 20)) == FAR).all()


def test_table_is_perfect_on_its_mazes_and_a_reflex_elsewhere():
    table, reflex = organism("table").policy, organism("reflex").policy
    known = run_all(table, "maze")
    assert torch.equal(known.lengths, optimal_lengths().long()) and known.solved.all()
    moved = MAZES.boards.clone().flatten(1)
    goals = (moved & TARGET).argmax(1)
    floor = ((moved & WALL) == 0).scatter(1, goals[:, None], False).scatter(1, MAZES.players[:, None], False)
    others = floor.to(torch.uint8).argmax(1)
    moved[START, goals], moved[START, others] = 0, TARGET
    elsewhere = LevelSet(moved.view_as(MAZES.boards), MAZES.players)
    assert torch.equal(run_all(table, "maze", elsewhere).solved, run_all(reflex, "maze", elsewhere).solved)
    assert run_all(table, "maze", elsewhere).solved.float().mean() < 0.9


def test_reflex_sees_no_further_than_its_neighbours():
    policy = organism("reflex").policy
    observation = first_observation()
    far = torch.ones_like(observation[:, 0], dtype=torch.bool).flatten(1)
    for offset in (0, -9, 9, -1, 1):
        far[START, MAZES.players + offset] = False
    changed = observation.clone()
    changed[:, 0] ^= (far.view_as(changed[:, 0]) & (observation[:, 1] == 0)).to(torch.uint8)
    policy = copy.deepcopy(policy)
    policy.patterns.zero_()  # noise depends on all that is seen
    blank = policy.initial_state(len(MAZES))
    torch.testing.assert_close(policy.step(changed, blank)[0], policy.step(observation, blank)[0], atol=1e-3, rtol=0)
    assert torch.equal(run_all(policy, "maze").actions, run_all(policy, "maze", thinking_steps=4).actions)


def test_one_shot_waits_until_its_plan_is_done_and_never_looks_again():
    policy = organism("one-shot").policy
    played = run_all(policy, "maze", thinking_steps=20)
    assert torch.equal(played.lengths, optimal_lengths().long())
    beside = MAZES.boards.flatten(1).gather(1, MAZES.players[:, None] + torch.tensor([-9, 9, -1, 1]))
    waits = (optimal_lengths() > policy.num_ticks + 1) & ((beside & WALL) != 0).any(1)
    assert waits.any() and not run_all(policy, "maze", max_steps=1).moved[waits].any()
    state = ticks_on(policy, first_observation(), 20)
    marks = policy.read(state[0], "hidden")["plan"] > AMPLITUDE / 2
    assert torch.equal(marks.sum((1, 2, 3)), optimal_lengths().long())
    blind = first_observation()
    blind[:, :2] = 0  # walls and goal taken away: the marks alone say where to go
    for _ in range(3):
        logits, _, state = policy.step(blind, state)
        assert torch.equal(logits.argmax(1), played.actions[:, 0])


def test_short_sighted_holds_nothing_beyond_its_horizon():
    policy = organism("short-sighted").policy
    costs = read_costs(policy, ticks_on(policy, first_observation(), 30))
    within = (DISTANCE >= 0) & (policy.horizon >= DISTANCE)
    assert torch.equal(costs, DISTANCE.masked_fill(~within, FAR))
    assert 0 < policy.horizon < int(DISTANCE.max())


def test_rollout_walks_its_candidates_one_square_a_tick_and_keeps_the_shortest():
    policy = organism("rollout").policy
    observation = first_observation()
    state, heads, counts = policy.initial_state(len(MAZES)), [], []
    single = copy.deepcopy(policy)
    single.set_num_ticks(1)
    for _ in range(180):
        state = single.step(observation, state)[2]
        features = single.read(state[0], "hidden")
        heads.append(features["head"].flatten(1).argmax(1))
        counts.append(from_bits(features["count"].mean((2, 3)) > AMPLITUDE / 2))
    heads, counts = torch.stack(heads, 1), torch.stack(counts, 1)
    assert (counts[:, -1] == policy.num_candidates).all()
    same = counts[:, 1:] == counts[:, :-1]
    apart = (heads[:, 1:] // 9 - heads[:, :-1] // 9).abs() + (heads[:, 1:] % 9 - heads[:, :-1] % 9).abs()
    assert (apart[same] <= 1).all()
    first_done = (counts > 0).to(torch.uint8).argmax(1)
    assert (first_done >= optimal_lengths()).all()  # no way is known before it was walked
    played = run_all(policy, "maze", initial_state=state)
    assert played.solved.all()
    kept = (features["plan"] > AMPLITUDE / 2).sum((1, 2, 3))
    assert torch.equal(played.lengths, kept)


def test_sampler_votes_for_other_ways_with_another_clock_and_gains_by_votes():
    policy = organism("sampler").policy
    observation = first_observation()
    hidden, cell, clock = policy.initial_state(len(MAZES))
    samples = []
    for time in (0, 1, 0):
        state = policy.step(observation, (hidden, cell, clock + time))[2]
        samples.append(policy.read(state[0], "hidden")["sample"] > AMPLITUDE / 2)
    assert torch.equal(samples[0], samples[2]) and not torch.equal(samples[0], samples[1])
    assert first_moves_right(policy, 20) > first_moves_right(policy, 0)
    assert run_all(policy, "maze").solved.all()


def test_walk_follows_a_field_of_moves():
    moves = torch.tensor([[[3, 1, 4], [4, 3, 0], [4, 4, 4]]])  # right, down; right, up to a square that stays
    expected = torch.tensor([[[1, 1, 1], [0, 1, 1], [0, 0, 0]]], dtype=torch.bool)
    assert torch.equal(walk(moves, torch.tensor([0])), expected)
    numbers = torch.arange(256, dtype=torch.int16).view(1, 16, 16)
    assert torch.equal(from_bits(to_bits(numbers)), numbers)
