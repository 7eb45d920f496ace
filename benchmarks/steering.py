"""A steering sweep, levels x directions in batches, against one episode at a time; both must come to the same.

    python -m benchmarks.steering [NUM_LEVELS NUM_DIRECTIONS]

Only some episodes of the sweep are played one at a time, spread evenly over it: all of them would take hours.
"""

from __future__ import annotations

import sys
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
ALONE = 40  # episodes played one at a time


def main() -> None:
    keep_freed_memory()
    num_levels, num_directions = (int(number) for number in sys.argv[1:]) if sys.argv[1:] else (LEVELS, DIRECTIONS)
    agent = load_agent(AGENT)
    opened, routes = open_policy(agent.net, name=AGENT), two_route_mazes(num_levels, size=agent.task.size, seed=0)
    tables = random_tables(num_directions, agent.recipe.net.channels, seed=0)
    directions = PlanDirections(tables[0], SITE)
    plan = SteeringPlan(leaving_only=True)
    edits, levels = route_edits(routes, "both", num_squares=plan.num_squares), torch.arange(len(routes.levels))

    def sweep(level_ids: torch.Tensor, some: torch.Tensor, num_boards: int) -> tuple[float, torch.Tensor]:
        began = time.process_time()
        steered = steer_routes(
            opened, agent.make_env, routes, level_ids, edits, ALPHA * tables[some], directions=directions,
            plan=replace(plan, num_boards=num_boards),
        )  # fmt: skip
        return (time.process_time() - began) / (len(level_ids) * len(some)), steered.took_long

    sweep(levels[:1], torch.arange(1), 1)  # warm up
    batched, took_long = sweep(levels, torch.arange(num_directions), plan.num_boards)
    seconds, same = [], []
    num_episodes = num_levels * num_directions
    for episode in range(0, num_episodes, num_episodes // ALONE + 1):
        level, table = episode // num_directions, episode % num_directions
        alone, outcome = sweep(levels[level : level + 1], torch.tensor([table]), 1)
        seconds.append(alone)
        same.append(float(outcome) == float(took_long[level, table]))
    numbers = {
        f"batched, {plan.num_boards} at a time, all {num_episodes}, episodes/s": 1 / batched,
        f"one at a time, {len(seconds)} of them, episodes/s": len(seconds) / sum(seconds),
        "ratio": sum(seconds) / len(seconds) / batched,
        "same way taken": sum(same) / len(same),
    }
    title = f"steering {num_levels} levels x {num_directions} directions until the start is left, {AGENT}"
    report(title, numbers, "", "ratio >= 50 x, all the same")


if __name__ == "__main__":
    main()
