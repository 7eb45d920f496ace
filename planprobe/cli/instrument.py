"""The way of every instrument on a saved agent: open it, measure, save, draw, print. A verb gives what differs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from planprobe.cli.arguments import check_folder, check_held_out, open_agent, open_board_agent, use_threads
from planprobe.cli.output import say, show
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.cli.saving import Draw
    from planprobe.core.levels import LevelSet
    from planprobe.subjects.agent import Agent


class InstrumentOptions(Protocol):
    """What the options of every instrument have."""

    @property
    def agent(self) -> str: ...
    @property
    def out(self) -> Path | None: ...
    @property
    def task(self) -> str | None: ...
    @property
    def json(self) -> bool: ...
    @property
    def threads(self) -> int | None: ...


Options = TypeVar("Options", bound=InstrumentOptions)


@dataclass(frozen=True)
class Measured:
    """What an instrument found.

    levels: sets by the part they played. facts: what is recorded beside agent, options and versions. tables: rows by
    name. tell: prints it for people. draw: rows of the table 'rows' -> figures by name.
    """

    levels: dict[str, LevelSet]
    facts: dict[str, Any]
    tables: dict[str, list[Row]]
    tell: Callable[[], None]
    draw: Draw | None = None


def run_instrument(
    verb: str, options: Options, measure: Callable[[Agent, Options], Measured], *, of_trials: str | None
) -> int:
    """Measure one agent, save where that is asked for, print.

    of_trials: what an agent that plays trials is told; None = it is measured too. Returns: the exit code.
    Raises: ArgumentError (it plays trials, or levels that it was trained on); OutputError (the folder cannot be written
        to, found out before the work).
    """
    from planprobe.cli.saving import describe_run, save_figures, save_run

    began = time.monotonic()
    check_held_out(options)
    use_threads(options.threads)
    spec, task = options.agent, options.task
    agent = open_agent(spec, task=task) if of_trials is None else open_board_agent(spec, of_trials, task=task)
    if options.out is not None:
        check_folder(options.out)
    found = measure(agent, options)
    record = describe_run(agent, options, found.levels, seconds=time.monotonic() - began) | found.facts
    if options.out is not None:
        path = save_run(options.out, verb, record, found.tables)
        if found.draw is not None:
            save_figures(options.out, verb, "rows", found.draw)
        say(f"Saved: {path}")
    if options.json:
        show({**record, **found.tables}, [], as_json=True)
    else:
        found.tell()
    return 0
