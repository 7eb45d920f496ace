"""Every experiment by name: its question, where it lives, what it is run on. Found when it is first asked for."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.experiments.record import BUDGETS, Findings, ProgressCallback

if TYPE_CHECKING:
    from planprobe.experiments.figures import Draw
    from planprobe.subjects.agent import Agent


@dataclass(frozen=True)
class Entry:
    """An experiment.

    where: 'module:function' in this room. agents: of the zoo, that it is run on unless told otherwise. trains: whether
    it trains its own small nets, and takes no agents.
    """

    question: str
    where: str
    agents: tuple[str, ...] = ()
    trains: bool = False


_BANDITS = tuple(f"gru-rl2-bandit2-s{seed}" for seed in range(3))
_SEEKERS = tuple(f"gru128-rl2-goal5-s{seed}" for seed in range(3))
_ASKERS = tuple(f"gru-rl2-informative-s{seed}" for seed in range(3))
_WALKERS = ("gru128-rl2-maze7-s0", "gru128-rl2-maze7-s1", "transformer-rl2-maze7-s0", "mlp-rl2-maze7-s0")

EXPERIMENTS: dict[str, Entry] = {
    "adaptation": Entry(
        "does the agent become better within a trial, by what it remembers of this very task?",
        "adaptation:run_adaptation", (*_BANDITS, *_SEEKERS),
    ),
    "ingredients": Entry(
        "which of the four ingredients of RL² can be left out before it stops learning to learn?",
        "ingredients:run_ingredients", trains=True,
    ),
    "one-maze": Entry(
        "is one maze a distribution of tasks: random start, random initial memory, stochastic policy, each alone?",
        "one_maze:run_one_maze", trains=True,
    ),
    "environment-memory": Entry(
        "does an agent without memory use the world as memory, where it can leave a trace?",
        "environment_memory:run_environment_memory", trains=True,
    ),
    "goal-patching": Entry(
        "is the way worked out from a goal that can be told the agent inside, and where does it keep that goal?",
        "goal_patching:run_goal_patching", ("drc12-rl-maze11-s0",),
    ),
    "revaluation": Entry(
        "does an agent that learns within a trial take a better course that it has never taken?",
        "revaluation:run_revaluation", (*_WALKERS, "gru-rl2-twostep-s0"),
    ),
    "belief": Entry(
        "is the exact posterior over the latent variable in memory, and can one be run in place of the other?",
        "belief:run_belief", ("gru-rl2-bandit2-s0", "gru-rl2-twostep-s0", *_SEEKERS),
    ),
    "mixture": Entry(
        "does the agent act on samples of what it believes, or does it maximise, and does it ask when that pays?",
        "mixture:run_mixture", (*_ASKERS, *_BANDITS, "gru-rl2-bandit5-s0", *_SEEKERS),
    ),
    "commitment": Entry(
        "does an agent that looks for a hidden goal go for one goal until it is ruled out, or change its mind?",
        "commitment:run_commitment", _SEEKERS,
    ),
    "causal": Entry(
        "what is choosing one's own interventions worth over random ones, and what do hidden causes take away?",
        "causal:run_causal",
    ),
}  # fmt: skip


def get_entry(name: str) -> Entry:
    """An experiment by name. Raises: UnknownNameError."""
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS, next_move="planprobe run lists what each asks.")
    return EXPERIMENTS[name]


def run_experiment(
    name: str,
    agents: Sequence[Agent] | None = None,
    *,
    budget: str = "quick",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Findings:
    """Run one experiment, on its own agents unless some are given.

    Args: budget: 'smoke', 'quick' or 'full'. seed: of every draw. progress(share done, what is going on).
    Returns: findings whose provenance names agents with their hashes, budget, seed, versions and seconds.
    Raises: UnknownNameError (experiment or budget); RecipeError (agents for one that trains its own, or of a task that
    it cannot be run on).
    """
    entry = get_entry(name)
    if budget not in BUDGETS:
        raise unknown_name("budget", budget, BUDGETS, where=f"experiment '{name}'")
    if entry.trains and agents:
        raise RecipeError(f"'{name}' trains its own nets and takes no agents; leave them out.")
    chosen = [_load_agent(spec) for spec in entry.agents] if agents is None else list(agents)
    module, function = entry.where.split(":")
    began = time.monotonic()
    found: Findings = getattr(_load_module(module), function)(chosen, budget=budget, seed=seed, progress=progress)
    facts = _describe(chosen, budget=budget, seed=seed, seconds=time.monotonic() - began)
    return dataclasses.replace(found, provenance={**facts, **found.provenance})


def load_figures(name: str) -> dict[str, Draw]:
    """How an experiment's saved tables are drawn: the FIGURES of its module, by name."""
    return getattr(_load_module(get_entry(name).where.split(":")[0]), "FIGURES", {})


def _load_module(name: str) -> Any:
    return import_module(f"planprobe.experiments.{name}")


def _load_agent(spec: str) -> Agent:
    from planprobe.subjects.zoo import load_agent

    return load_agent(spec)


def _describe(agents: Sequence[Agent], *, budget: str, seed: int, seconds: float) -> dict[str, Any]:
    from planprobe.verdict.provenance import agent_facts, run_facts
    from planprobe.verdict.results import versions

    return {
        "agents": [agent_facts(agent) for agent in agents], "budget": budget, "seed": seed, "versions": versions(),
        "run": run_facts(seconds),
    }  # fmt: skip
