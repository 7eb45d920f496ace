"""`planprobe view`: a replay to look at, with the plan decoded at every tick."""

from __future__ import annotations

import time
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
    find_levels,
    open_board_agent,
    optional,
    parse,
    use_threads,
)
from planprobe.cli.output import print_table, progress, say, show

if TYPE_CHECKING:
    from planprobe.core.levels import LevelSet
    from planprobe.subjects.agent import Agent
    from planprobe.verdict.replay import Replays

RESULTS = Path("results")


@dataclass(frozen=True)
class View:
    """A self-contained page: the board, the agent, and what is read on every square at every tick, with a slider.

    One linear read-out a site is fitted on the valid levels; then the agent plays other levels and each square is asked
    at every tick. The page has no controls and is no evidence: planprobe probe and planprobe steer give that.

    Examples:
      planprobe view drc12-rl-maze11-s0
      planprobe view drc12-rl-maze11-s0 --levels far --thinking-steps 6 --num-levels 12
      planprobe view drc13-rl-sokoban7-s0 --concept box-push-direction --levels my_levels.xsb --out results/seen
    """

    agent: AgentSpec
    levels: Annotated[str, arg(metavar="FILE|NAME")] = "test"
    """Level set of the agent's task to show, or a level file."""
    num_levels: Annotated[int, arg(metavar="INT")] = 6
    """How many; of a file, the first ones."""
    concept: Annotated[str, arg(metavar="NAME")] = "agent-approach-direction"
    """What to read on each square: a concept of squares."""
    sites: Annotated[tuple[str, ...], optional("GLOB ...", "the last layer's, ticks.*.{-1}.hook_h")] = (
        "ticks.*.{-1}.hook_h",
    )
    """Where; planprobe agents show AGENT lists sites."""
    thinking_steps: Annotated[int, arg(metavar="INT")] = 2
    """Steps on the frozen first observation before the first action, shown too."""
    max_steps: Annotated[int, arg(metavar="INT")] = 80
    """Of an episode, at most."""
    num_fit_levels: Annotated[int, arg(metavar="INT")] = 150
    """Levels that read-outs are fitted on."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Of the states that read-outs are fitted on."""
    out: Annotated[Path | None, optional("FOLDER", "results/NAME")] = None
    """Where view.html, view.json and its tables go."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, play, write the page."""
    options, began = parse(View, arguments, verb="view"), time.monotonic()
    check_least(options, num_levels=1, num_fit_levels=1, max_steps=1, thinking_steps=0)
    use_threads(options.threads)
    agent = open_board_agent(options.agent, "view shows boards that are seen whole, level by level.", task=options.task)
    out = options.out or RESULTS / agent.name.replace(":", ".")
    check_folder(out)
    levels = _one_size(agent, options)
    replays = _replay(agent, levels, options)
    record = _save(out, agent, replays, options, time.monotonic() - began)
    if options.json:
        show(record, [], as_json=True)
        return 0
    print_table(replays.rows(), title=f"{agent.name}: {replays.concept} on {levels.name}")
    say(f"Page: {record['page']}")
    return 0


def _one_size(agent: Agent, options: View) -> LevelSet:
    """The levels to show; a page has boards of one size."""
    sets = find_levels(agent, options.levels, options.num_levels)
    if len(sets) > 1:
        say(f"Note: '{options.levels}' has boards of {len(sets)} sizes; the page shows the first.")
    return sets[0]


def _replay(agent: Agent, levels: LevelSet, options: View) -> Replays:
    from planprobe.verdict.replay import make_replays

    same = ("concept", "thinking_steps", "max_steps", "num_fit_levels", "seed")
    with progress(f"replaying {agent.name}") as on_progress:
        return make_replays(
            agent, levels, sites=list(options.sites), on_progress=lambda share, text: on_progress(share, 1, text),
            **{name: getattr(options, name) for name in same},
        )  # fmt: skip


def _save(out: Path, agent: Agent, replays: Replays, options: View, seconds: float) -> dict:
    """Page and record; returns the record with its tables."""
    from planprobe.cli.saving import describe_run, save_run
    from planprobe.verdict.replay import FIT_SPLIT, REPLAY_FILE, write_replays
    from planprobe.verdict.results import finite

    page = write_replays(out / REPLAY_FILE, replays)
    sets = {"shown": replays.levels, "fitted": agent.levels(FIT_SPLIT, options.num_fit_levels)}
    record = describe_run(agent, options, sets, seconds=seconds) | {"page": str(page), "concept": replays.concept}
    tables = {"levels": replays.rows(), "read_outs": replays.read_outs}
    save_run(out, "view", record, tables)
    return finite({**record, **tables})
