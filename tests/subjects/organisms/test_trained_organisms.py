"""Trained organisms do what their answers rest on: measured on mazes that none of them was trained on, but one."""

from functools import cache

import pytest
import torch

from planprobe.core.errors import RecipeError, UnknownAgentError
from planprobe.core.grid import TARGET, WALL
from planprobe.core.play import play_levels
from planprobe.core.store import load_tensors
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.organisms import TRAINED, make_organism
from planprobe.subjects.organisms.families import named_task
from planprobe.subjects.organisms.trained import load_trained, trained_folder, trained_seeds
from planprobe.subjects.scorecard import Condition, score_first_moves, score_levels
from planprobe.subjects.training.teach import unroll_ticks
from planprobe.subjects.zoo import list_agents, load_agent

SHIPPED = [(family, seed) for family in TRAINED for seed in trained_seeds(family, "maze", 9)]
NEGATIVE = [case for case in SHIPPED if TRAINED[case[0]].answer == "does not plan"]
TAUGHT = [case for case in SHIPPED if case[0] == "taught"]
NUM_LEVELS, MAX_BYTES = 60, 200_000


@cache
def agent_of(family, seed):
    return load_trained(family, seed=seed).agent


def solved(agent, *, memory="kept", task=None, levels=None):
    task = task or agent.task
    rows = score_levels(agent.net, task, levels or agent.levels("test", NUM_LEVELS), Condition(memory=memory))
    return rows[0]["value"]


@pytest.mark.parametrize(("family", "seed"), SHIPPED)
def test_it_is_an_organism_and_no_agent_of_the_zoo(family, seed):
    organism = make_organism(family, named_task("maze", 9), seed)
    assert (organism.answer, organism.kind) == (TRAINED[family].answer, TRAINED[family].kind)
    folder = trained_folder(family, seed)
    assert folder.name not in list_agents()
    assert sum(part.nbytes for part in load_tensors(folder / "weights.safetensors")[0].values()) <= MAX_BYTES
    named = load_agent(f"planprobe.subjects.organisms:{family.replace('-', '_')}_maze9_s{seed}")
    assert isinstance(named, Agent)
    assert named.recipe == organism.agent.recipe


@pytest.mark.parametrize(("family", "seed"), NEGATIVE)
def test_who_does_not_plan_does_well_and_without_memory(family, seed):
    agent = agent_of(family, seed)
    assert solved(agent) >= 0.85
    assert solved(agent, memory="reset each step") >= 0.75


@pytest.mark.parametrize(("family", "seed"), [case for case in NEGATIVE if case[0] != "signpost"])
def test_what_serves_it_at_home_does_not_serve_it_elsewhere(family, seed):
    agent, elsewhere = agent_of(family, seed), named_task("maze", 9)
    levels = generate_mazes(NUM_LEVELS, size=9, seed=6, split="test")
    assert solved(agent, task=elsewhere, levels=levels) < solved(agent) - 0.2


@pytest.mark.parametrize(("family", "seed"), [case for case in SHIPPED if case[0].startswith("taught")])
def test_taught_nets_need_time_to_know_their_first_move(family, seed):
    agent, far = agent_of(family, seed), agent_of(family, seed).levels("far", 150)

    def right(steps, memory="kept"):
        return score_first_moves(agent.net, agent.task, far, Condition("greedy", memory, steps))[0]["value"]

    assert right(12) > right(0) + 0.15
    assert right(12, "reset each step") == right(0)


@pytest.mark.parametrize(("family", "seed"), TAUGHT)
def test_the_wave_stands_in_memory_tick_by_tick(family, seed):
    """One linear read-out for all ticks, fitted on other mazes: the wave has come to squares nearer than the ticks."""
    net, num_steps = agent_of(family, seed).net, 5
    hidden, reached, floor = zip(*[watch(net, number, num_steps) for number in (21, 22)], strict=True)
    rows = torch.cat([hidden[0].flatten(0, 1), torch.ones(hidden[0][..., 0].numel(), 1)], 1)[floor[0].flatten()]
    weights = torch.linalg.lstsq(rows, 2 * reached[0].flatten()[floor[0].flatten()].float()[:, None] - 1).solution
    says = (hidden[1] @ weights[:-1] + weights[-1]).squeeze(-1) > 0
    for tick in range(2, 3 * num_steps):
        here = floor[1][tick]
        right = says[tick][here] == reached[1][tick][here]
        assert float(right.float().mean()) > 0.85, tick
    usual = torch.maximum(reached[1].float().mean(1), 1 - reached[1].float().mean(1))
    assert float((says == reached[1])[floor[1]].float().mean()) > float(usual.mean()) + 0.05


def watch(net, seed, num_steps):
    """h (K T, N, C) by tick and square, whether the wave has come there, and where floor is, (K T, N) bool."""
    levels = generate_mazes(40, size=9, seed=seed, split="test")
    walls = (levels.boards & WALL) != 0
    goals = ((levels.boards & TARGET) != 0).flatten(1).to(torch.uint8).argmax(1)
    player = torch.zeros_like(walls).flatten(1).scatter_(1, levels.players[:, None], True).view_as(walls)
    seen = torch.stack([walls, (levels.boards & TARGET) != 0, player], dim=1).to(torch.uint8)
    with torch.no_grad():
        starts = torch.zeros(num_steps, len(levels), dtype=torch.bool)
        frozen = seen[None].expand(num_steps, -1, -1, -1, -1)
        hidden = unroll_ticks(net, frozen, net.initial_state(len(levels), (9, 9)), starts)[0]
    num_ticks = num_steps * net.num_ticks
    distance = distance_maps(walls, goals)[:, 1:-1, 1:-1].flatten()
    reached = torch.stack([(distance >= 0) & (distance <= tick) for tick in range(num_ticks)])
    return hidden.permute(0, 2, 3, 1).reshape(num_ticks, -1, net.channels), reached, (distance >= 0).expand_as(reached)


def test_play_of_a_taught_net_ends_at_the_goal():
    for family, seed in TAUGHT:
        agent = agent_of(family, seed)
        rollout = play_levels(agent.net, agent.make_env, agent.levels("test", NUM_LEVELS))
        assert float(rollout.solved.float().mean()) >= 0.8


def test_what_there_is_not_is_named():
    with pytest.raises(RecipeError, match="size 11"):
        make_organism("taught", named_task("maze", 11))
    with pytest.raises(RecipeError, match="seed 99"):
        load_trained("signpost", seed=99)
    with pytest.raises(UnknownAgentError, match="taught"):
        trained_folder("taugt", 0)
    assert trained_seeds("taught", "sokoban", 7) == []
