"""Where a study's numbers come from: everything that decides them, as verdict.json keeps it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from planprobe.core.levels import LevelSet
from planprobe.core.records import Effect
from planprobe.subjects.agent import WEIGHTS_FILE, Agent
from planprobe.verdict.budgets import Budget
from planprobe.verdict.results import file_hash, versions


def describe(
    agent: Agent, twin: Agent | None, solve_rate: Effect, budget: Budget, sets: dict[str, LevelSet], *, seconds: float
) -> dict[str, Any]:
    """Everything that decides the numbers: the agent and its hashes, levels and their hashes, budget, versions."""
    solved = f"{solve_rate.value:.3f} [{solve_rate.low:.3f}, {solve_rate.high:.3f}] of {solve_rate.n} held-out levels"
    facts: dict[str, Any] = {"name": agent.name, "solved": solved, "trained for": f"{agent.frames:,} steps"}
    if agent.folder is not None:
        facts |= {"net": dataclasses.asdict(agent.recipe.net), "recipe hash": agent.recipe.hash()}
        facts["weights hash"] = file_hash(agent.folder / WEIGHTS_FILE) or "of an unfinished run"
    facts["task"] = dataclasses.asdict(agent.task)
    return {
        "agent": facts,
        "twin": twin.name if twin is not None else "none given",
        "levels": {
            part: {"name": levels.name, "number": len(levels), "hash": levels.hash()} for part, levels in sets.items()
        },
        "budget": dataclasses.asdict(budget),
        "versions": versions(),
        "run": {
            "finished": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "seconds": round(seconds),
            "solve_rate": solve_rate.value,
        },
    }
