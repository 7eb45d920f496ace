"""`planprobe capture`: what an agent held at every step of every level, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from planprobe.cli.arguments import (
    AgentSpec,
    AsJson,
    TaskName,
    Threads,
    check_folder,
    check_least,
    open_agent,
    optional,
    parse,
    use_threads,
)
from planprobe.cli.output import progress, show

if TYPE_CHECKING:
    from planprobe.instruments.activation_store import ActivationStore


@dataclass(frozen=True)
class Capture:
    """Write the activations of chosen sites at every step of every level, in half precision, to a folder of shards.

    The same command goes on where it was stopped. Python: planprobe.open_activations(FOLDER) reads them, lazily.

    Examples:
      planprobe capture drc12-rl-maze11-s0 --out acts
      planprobe capture drc13-rl-sokoban7-s0 --out acts --sites 'ticks.*.0.hook_c' --num-levels 10000
      planprobe capture runs/mine --out acts --thinking-steps 8 --max-steps 1
    """

    agent: AgentSpec
    out: Annotated[Path, arg(metavar="FOLDER")]
    """Where to write."""
    sites: Annotated[tuple[str, ...], optional("GLOB ...", "ticks.*.*.hook_h")] = ("ticks.*.*.hook_h",)
    """What to write; planprobe agents show AGENT lists sites."""
    levels: Annotated[str, arg(metavar="NAME")] = "test"
    """Level set of the agent's task."""
    num_levels: Annotated[int, arg(metavar="INT")] = 1000
    """How many."""
    thinking_steps: Annotated[int, arg(metavar="INT")] = 0
    """Steps on the frozen first observation before the first action; they are written too."""
    max_steps: Annotated[int | None, optional("INT", "whole episodes")] = None
    """Steps of each episode."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, capture, say what was written."""
    options = parse(Capture, arguments, verb="capture")
    check_least(options, num_levels=1, thinking_steps=0, max_steps=1)
    check_folder(options.out)
    use_threads(options.threads)
    store = _capture(options)
    record = {
        "folder": str(options.out), "agent": store.card.agent, "rows": len(store), "num_levels": store.card.num_levels,
        "shards": len(store.shards), "sites": {site: list(shape) for site, shape in store.sites.items()},
        "level_hash": store.card.level_hash,
    }  # fmt: skip
    rows = [
        {"site": site, "shape": "x".join(map(str, shape)), "rows": len(store)} for site, shape in store.sites.items()
    ]
    show(record, rows, as_json=options.json, title=f"{options.out}: {store.card.num_levels} levels")
    return 0


def _capture(options: Capture) -> ActivationStore:
    from planprobe.instruments.activation_store import write_activations
    from planprobe.instruments.hooks import open_policy

    agent = open_agent(options.agent, task=options.task)
    levels = agent.levels(options.levels, options.num_levels)
    with progress(f"capturing {agent.name}") as on_progress:
        return write_activations(
            options.out, open_policy(agent.net, name=agent.name), agent.make_env, levels, list(options.sites),
            name=agent.name, thinking_steps=options.thinking_steps, max_steps=options.max_steps, on_shard=on_progress,
        )  # fmt: skip
