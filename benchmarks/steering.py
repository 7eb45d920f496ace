"""A steering sweep, levels x directions in batches, against one episode at a time; both must come to the same.

    python -m benchmarks.steering [NUM_LEVELS NUM_DIRECTIONS]

As D7 does it, agents settle before anything is written: in a sweep once a level, whatever is written later, one at a
time in each episode. The same is measured without settling, where a batch saves no more than calls. Only some episodes
of the sweep are played one at a time, spread evenly over it: all of them would take hours.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import torch

from benchmarks.stopwatch import report
from planprobe.core.allocator import keep_freed_memory
from planprobe.instruments.hooks import OpenedPolicy, open_policy
from planprobe.instruments.steering.directions import PlanDirections, random_tables
from planprobe.instruments.steering.route_edits import RoutesOfLevels, TwoRoutes, route_edits
from planprobe.instruments.steering.steering import SteeringPlan, settle, steer_routes
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.stimuli import two_route_mazes
from planprobe.subjects.zoo import load_agent

AGENT, SITE, ALPHA, SETTLE_STEPS = "drc12-rl-maze11-s0", "ticks.*.0.hook_c", 2.0, 8
LEVELS, DIRECTIONS = 200, 100
ALONE = 40  # episodes played one at a time
PLAN = SteeringPlan(leaving_only=True)


def main() -> None:
    keep_freed_memory()
    num_levels, num_directions = (int(number) for number in sys.argv[1:]) if sys.argv[1:] else (LEVELS, DIRECTIONS)
    agent = load_agent(AGENT)
    opened, routes = open_policy(agent.net, name=AGENT), two_route_mazes(num_levels, size=agent.task.size, seed=0)
    tables = random_tables(num_directions, agent.recipe.net.channels, seed=0)
    sweep(agent, opened, one_level(routes, 0), tables[:1], 1, SETTLE_STEPS)  # warm up
    for settle_steps in (SETTLE_STEPS, 0):
        began = time.process_time()
        took_long = sweep(agent, opened, routes, tables, PLAN.num_boards, settle_steps)
        batched = (time.process_time() - began) / took_long.numel()
        seconds, same = [], []
        for episode in range(0, took_long.numel(), took_long.numel() // ALONE + 1):
            level, table = episode // num_directions, episode % num_directions
            began = time.process_time()
            outcome = sweep(agent, opened, one_level(routes, level), tables[table : table + 1], 1, settle_steps)
            seconds.append(time.process_time() - began)
            same.append(float(outcome) == float(took_long[level, table]))
        alone = sum(seconds) / len(seconds)
        numbers = {
            f"batched, {PLAN.num_boards} at a time, all {took_long.numel()}, episodes/s": 1 / batched,
            f"one at a time, {len(seconds)} of them, episodes/s": 1 / alone,
            "ratio": alone / batched,
            "same way taken": sum(same) / len(same),
        }
        title = f"steering {num_levels} levels x {num_directions} directions, {settle_steps} steps of settling, {AGENT}"
        report(title, numbers, "", "ratio >= 50 x as D7 does it, all the same")


def sweep(
    agent: Agent, opened: OpenedPolicy, routes: TwoRoutes, tables: torch.Tensor, num_boards: int, settle_steps: int
) -> torch.Tensor:
    """Whether each level is left by the long way under each table, (N, D), until the start is left."""
    edits, directions = route_edits(routes, "both", num_squares=PLAN.num_squares), PlanDirections(tables[0], SITE)
    memory = settle(opened, agent.make_env, routes.levels, steps=settle_steps)
    return steer_routes(
        opened, agent.make_env, routes, torch.arange(len(routes.levels)), edits, ALPHA * tables, directions=directions,
        plan=replace(PLAN, num_boards=num_boards), memory=memory,
    ).took_long  # fmt: skip


def one_level(routes: TwoRoutes, level: int) -> RoutesOfLevels:
    only = slice(level, level + 1)
    return RoutesOfLevels(routes.levels[only], routes.short_route[only], routes.long_route[only])


if __name__ == "__main__":
    main()
