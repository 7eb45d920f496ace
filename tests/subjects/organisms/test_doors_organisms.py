"""Organisms of the doors against beliefs and distances that are worked out one trial and one square at a time."""

import copy

import pytest
import torch

from planprobe.core.play_trials import play_trials
from planprobe.instruments.hooks import Address, ablate, capture, intervene, open_policy
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.doors import WIDTH, DoorsTask, door_maps
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.organisms.base import AMPLITUDE
from planprobe.subjects.organisms.families import named_task
from planprobe.subjects.organisms.waves import FAR
from planprobe.subjects.references.door_values import solve_doors

TASK = DoorsTask()
WITH_BELIEF = ("sweeper", "table", "bystander", "wavefront", "sampler")
OFFSETS = (-WIDTH, WIDTH, -1, 1)


def organism(family, seed=0, task=TASK):
    return make_organism(family, task, seed).policy


def play_doors(policy, num_trials=16, *, task=TASK, **options):
    return play_trials(policy, make_trial_env(task, Inputs(), num_trials), **options)


def first_observation(num_trials=1):
    return make_trial_env(TASK, Inputs(), num_trials).reset()


def ticks_on(policy, num_steps):
    """Memory after some steps on the frozen first observation, in which no door can be seen."""
    observation, state = first_observation(), policy.initial_state(1)
    for _ in range(num_steps):
        state = policy.step(observation, state)[2]
    return state


def read_costs(policy, state):
    return policy.read_cost(torch.cat(list(policy.read(state[0], "hidden").values()), dim=1).flatten(1) > AMPLITUDE / 2)


def maps_that_fit(rollout, trial, num_steps, view):
    """By walking the trial's squares on every map, and looking at what would have been seen."""
    walls = door_maps(TASK.num_doors).flatten(1).tolist()
    before, after = (rollout.extras[name][trial].tolist() for name in ("square_before", "square"))
    actions, done = rollout.actions[trial].tolist(), rollout.episode_done[trial].tolist()
    true = int(rollout.latents["door"][trial])

    def sees(door, square):
        return [walls[door][square + offset] for offset in OFFSETS] if view == "neighbours" else None

    alive = set(range(TASK.num_doors))
    for step in range(num_steps + 1):  # what was seen before the action of that step
        alive = {door for door in alive if sees(door, before[step]) == sees(true, before[step])}
        if step < num_steps and not done[step]:
            ahead = before[step] + OFFSETS[actions[step]]
            alive = {door for door in alive if (before[step] if walls[door][ahead] else ahead) == after[step]}
    return alive


@pytest.mark.parametrize(("family", "view"), [*((name, "neighbours") for name in WITH_BELIEF), ("sweeper", "bump")])
def test_belief_in_memory_is_exact(family, view):
    task, held = DoorsTask(view=view), []
    policy = organism(family, 1, task)
    rollout = play_doors(policy, 6, task=task, on_step=lambda t, seen, state: held.append(policy.alive(policy.read(
        state[0], "hidden")["ruled_out"])))  # fmt: skip
    compared = 0
    for trial in range(6):
        for step in range(0, int(rollout.active[trial].sum()), 3):
            got = set(held[step][trial].nonzero().flatten().tolist())
            assert got == maps_that_fit(rollout, trial, step, view), (trial, step)
            compared += len(got) < TASK.num_doors
    assert compared > 20  # something was learnt


def test_wavefront_holds_the_distance_of_all_squares_its_ticks_have_come_to():
    policy = organism("wavefront")
    open_somewhere = ~door_maps(TASK.num_doors).all(0)
    expected = distance_maps(~open_somewhere[None], torch.tensor([TASK.goal]))
    for num_steps in (1, 2, 6):
        reached = (expected >= 0) & (expected < num_steps * policy.num_ticks)
        assert torch.equal(
            read_costs(policy, ticks_on(policy, num_steps)).long(), expected.long().masked_fill(~reached, FAR)
        )


def test_wavefront_goes_a_shortest_way_once_it_knows_the_door_and_forgets_with_its_memory():
    policy = organism("wavefront")
    rollout = play_doors(policy, greedy=True)
    away = distance_maps(door_maps(TASK.num_doors), torch.full((TASK.num_doors,), TASK.goal)).flatten(1)
    shortest = away[rollout.latents["door"], TASK.starts()[0]]
    assert torch.equal(rollout.episode_lengths[:, 2], shortest.long())
    assert (rollout.episode_lengths[:, 0] > shortest).float().mean() > 0.5
    forgetful = play_doors(policy, greedy=True, reset_memory="each episode")
    assert forgetful.episode_returns[:, 2].mean() < rollout.episode_returns[:, 2].mean() - 0.1


def test_table_is_worth_what_can_be_had_and_the_bystander_moves_as_it_does():
    table, bystander = organism("table"), organism("bystander")
    played = play_doors(table, 200, greedy=True)
    assert float(played.returns.mean()) == pytest.approx(solve_doors(TASK).trial_return, abs=0.08)
    assert torch.equal(play_doors(bystander, greedy=True).actions, play_doors(table, greedy=True).actions)


def test_bystander_is_bit_identical_with_its_planner_cut_out_and_its_planner_plans():
    policy = organism("bystander", 2)
    bare = policy.without_planner()
    assert torch.equal(play_doors(policy).logits, play_doors(bare).logits)
    assert torch.equal(
        read_costs(policy, ticks_on(policy, 6)), read_costs(organism("wavefront"), ticks_on(organism("wavefront"), 6))
    )
    assert (read_costs(bare, ticks_on(bare, 6)) == FAR).all()


def test_sweeper_tries_the_doors_from_the_top():
    """By hand, from the middle of the left room: three up, then one door after the other; later straight to it."""
    rollout = play_doors(organism("sweeper"), 60, greedy=True)
    doors = rollout.latents["door"]
    assert torch.equal(rollout.episode_lengths[:, 0], torch.tensor([10, 10, 12, 16])[doors])
    assert torch.equal(rollout.episode_lengths[:, 2], torch.tensor([10, 6, 6, 10])[doors])
    assert set(doors.tolist()) == {0, 1, 2, 3}


def test_sampler_believes_in_another_door_with_another_clock_and_keeps_the_one_it_has():
    policy, observation, drawn = organism("sampler"), first_observation(), []
    for time in range(30):
        hidden, cell, clock = policy.initial_state(1)
        state = policy.step(observation, (hidden, cell, clock + time))[2]
        for _ in range(2):
            drawn.append(int(policy.read(state[0], "hidden")["drawn"].flatten().argmax()))
            state = policy.step(observation, state)[2]
    assert set(drawn) == {0, 1, 2, 3}
    assert drawn[::2] == drawn[1::2]
    costs = read_costs(policy, ticks_on(policy, 12))[0, :, WIDTH // 2]
    assert (costs < FAR).sum() == 1  # its wave goes through one door alone
    played = play_doors(policy)
    assert played.episode_returns[:, 2].mean() > played.episode_returns[:, 0].mean() + 0.05


def test_reflex_hears_nothing_of_its_memory_and_learns_nothing():
    policy = copy.deepcopy(organism("reflex"))
    policy.patterns.zero_()
    observation = first_observation(4)
    blank = policy.initial_state(4)
    noise = tuple(torch.randn(part.shape, generator=torch.Generator().manual_seed(0)) for part in blank[:2])
    torch.testing.assert_close(policy.step(observation, (*noise, blank[2]))[0], policy.step(observation, blank)[0])
    solved = play_doors(organism("reflex"), 150).success.float().mean(0)
    assert float(solved.min()) > 0.5 and float((solved[2] - solved[0]).abs()) < 0.15


@pytest.mark.parametrize("family", ["bystander", "sampler", "reflex", "untrained"])
def test_laws_on_the_doors(family):
    policy = organism(family)
    opened, plain = open_policy(policy), play_doors(policy, 4)
    with capture(opened, "*") as cache:
        assert torch.equal(play_doors(opened, 4).logits, plain.logits)
    assert cache["ticks.0.0.hook_c"].shape[2] == policy.channels
    with intervene(opened, ablate(Address("ticks.*"))):
        assert not torch.equal(play_doors(opened, 4).logits, plain.logits)


def test_names_count_doors():
    assert named_task("doors", 5) == DoorsTask(num_doors=5)
    assert make_organism("reflex", DoorsTask(num_doors=5), 3).name == "reflex-doors5-s3"
    assert make_organism("table", TASK).answer == "adapts without planning"
    assert make_organism("bystander", TASK).answer == "plan present but unused"
