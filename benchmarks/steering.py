"""A steering sweep, levels x directions in batches, against one episode at a time; both must come to the same."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from benchmarks.stopwatch import report
from planprobe.core.allocator import keep_freed_memory
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.steering.directions import PlanDirections, random_tables
from planprobe.instruments.steering.route_edits import route_edits
from planprobe.instruments.steering.steering import SteeringPlan, steer_routes
from planprobe.subjects.envs.stimuli import two_route_mazes
from planprobe.subjects.zoo import load_agent

AGENT, SITE, ALPHA = "drc12-rl-maze11-s0", "ticks.*.0.hook_c", 2.0
LEVELS, DIRECTIONS = 200, 100
ALONE = 40  # episodes played one at a time, spread evenly over the sweep: all of them would take long


def main() -> None:
    keep_freed_memory()
    agent = load_agent(AGENT)
    opened, routes = open_policy(agent.net, name=AGENT), two_route_mazes(LEVELS, size=agent.task.size, seed=0)
    tables = random_tables(DIRECTIONS, agent.recipe.net.channels, seed=0)
    directions = PlanDirections(tables[0], SITE)
    plan = SteeringPlan()
    plan = replace(plan, max_steps=plan.leave_steps)
    edits, levels = route_edits(routes, "both", num_squares=plan.num_squares), torch.arange(len(routes.levels))

    def sweep(level_ids: torch.Tensor, some: torch.Tensor, num_boards: int) -> tuple[float, torch.Tensor]:
        began = time.perf_counter()
        steered = steer_routes(
            opened, agent.make_env, routes, level_ids, edits, ALPHA * tables[some], directions=directions,
            plan=replace(plan, num_boards=num_boards),
        )  # fmt: skip
        return (time.perf_counter() - began) / (len(level_ids) * len(some)), steered.took_long

    sweep(levels[:1], torch.arange(1), 1)  # warm up
    batched, took_long = sweep(levels, torch.arange(DIRECTIONS), plan.num_boards)
    seconds, same = [], []
    for episode in range(0, LEVELS * DIRECTIONS, LEVELS * DIRECTIONS // ALONE + 1):
        level, table = episode // DIRECTIONS, episode % DIRECTIONS
        alone, outcome = sweep(levels[level : level + 1], torch.tensor([table]), 1)
        seconds.append(alone)
        same.append(float(outcome) == float(took_long[level, table]))
    numbers = {
        "batched, episodes/s": 1 / batched,
        "one at a time, episodes/s": len(seconds) / sum(seconds),
        "ratio": sum(seconds) / len(seconds) / batched,
        "same way taken": sum(same) / len(same),
    }
    title = f"steering {LEVELS} levels x {DIRECTIONS} directions until the start is left, {AGENT}"
    report(title, numbers, "", "ratio >= 50 x, all the same")


if __name__ == "__main__":
    main()
