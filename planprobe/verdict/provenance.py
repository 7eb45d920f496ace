"""Where numbers come from: everything that decides them, as verdict.json and the other records keep it."""

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
    """Of a study on levels: the agent and its hashes, levels and their hashes, budget, versions."""
    solved = f"{solve_rate.value:.3f} [{solve_rate.low:.3f}, {solve_rate.high:.3f}] of {solve_rate.n} held-out levels"
    task = {"task": dataclasses.asdict(agent.task)}
    return {
        "agent": studied_agent(agent, {"solved": solved}) | task,
        "twin": twin.name if twin is not None else "none given",
        "levels": level_facts(sets),
        **study_facts(budget, solve_rate, seconds=seconds),
    }


def studied_agent(agent: Agent, skill: dict[str, str]) -> dict[str, Any]:
    """The agent as a report shows it. skill: how good it is, under the name of the measure."""
    facts: dict[str, Any] = {"name": agent.name, **skill, "trained for": f"{agent.frames:,} steps"}
    if agent.folder is not None:
        facts |= {"net": dataclasses.asdict(agent.recipe.net), "recipe hash": agent.recipe.hash()}
        facts["weights hash"] = weights_hash(agent)
    return facts


def study_facts(budget: Budget, solve_rate: Effect, *, seconds: float) -> dict[str, Any]:
    """What every study records: budget, versions, when it ended and how long it took."""
    run = run_facts(seconds) | {"solve_rate": solve_rate.value}
    return {"budget": dataclasses.asdict(budget), "versions": versions(), "run": run}


def agent_facts(agent: Agent) -> dict[str, Any]:
    """Name, frames and hashes of an agent; no hashes where it has no folder."""
    facts: dict[str, Any] = {"name": agent.name, "frames": agent.frames}
    if agent.folder is not None:
        facts |= {"recipe_hash": agent.recipe.hash(), "weights_hash": weights_hash(agent)}
    return facts


def weights_hash(agent: Agent) -> str:
    """sha256 of an agent's weights, which a run that still trains has not written."""
    known = file_hash(agent.folder / WEIGHTS_FILE) if agent.folder is not None else None
    return known or "of an unfinished run"


def level_facts(sets: dict[str, LevelSet]) -> dict[str, Any]:
    """Level sets by the part they play: name, number, hash."""
    return {part: {"name": levels.name, "number": len(levels), "hash": levels.hash()} for part, levels in sets.items()}


def run_facts(seconds: float) -> dict[str, Any]:
    """When a run ended, and how long it took."""
    return {"finished": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "seconds": round(seconds)}
