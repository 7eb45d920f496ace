"""Arguments as frozen dataclasses, and the few that several verbs share."""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro
from tyro.conf import arg, subcommand

from planprobe.core.allocator import keep_freed_memory
from planprobe.core.errors import OutputError, PlanprobeError, unknown_name

if TYPE_CHECKING:
    from planprobe.core.levels import LevelSet
    from planprobe.subjects.agent import Agent

Options = TypeVar("Options")


def optional(metavar: str, default: str) -> Any:
    """An option whose default is worked out later; `default` says to what."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


Flag = Annotated[bool, arg(help_behavior_hint="")]
AgentSpec = Annotated[
    str,
    tyro.conf.Positional,
    arg(metavar="AGENT", help="Name in the zoo, agent's folder, training run, or package.module:factory."),
]
AsJson = Annotated[bool, arg(name="json", help="Print JSON and nothing else on stdout.", help_behavior_hint="")]
_ITS_OWN = "(default: the agent's own)"
_TASK_HELP = "What a factory's policy plays, where the factory does not say: maze9, maze11, sokoban7, ..."
TaskName = Annotated[str | None, arg(metavar="NAME", help=_TASK_HELP, help_behavior_hint=_ITS_OWN)]
_ONE_A_CORE = "(default: one a core, four at most)"
Threads = Annotated[int | None, arg(metavar="INT", help="CPU threads.", help_behavior_hint=_ONE_A_CORE)]
MAX_DEFAULT_THREADS = 4  # small nets gain nothing from more


class ArgumentError(PlanprobeError, ValueError):
    """An argument cannot be served here."""


def parse(options: type[Options], arguments: list[str], *, verb: str) -> Options:
    """Fill a dataclass from the command line. Its docstring is the help text, its field docstrings the options'."""
    config = (tyro.conf.FlagCreatePairsOff,)
    description = inspect.getdoc(options)
    return tyro.cli(options, args=arguments, prog=f"planprobe {verb}", description=description, config=config)


def parse_one_of(choices: dict[str, type], arguments: list[str], *, verb: str) -> Any:
    """As `parse`, for a verb with verbs of its own."""
    config = (tyro.conf.FlagCreatePairsOff,)
    if arguments and arguments[0] in choices:
        return parse(choices[arguments[0]], arguments[1:], verb=f"{verb} {arguments[0]}")
    first_lines = {name: (inspect.getdoc(choice) or "").split("\n")[0] for name, choice in choices.items()}
    union: Any = None
    for name, choice in choices.items():
        member = Annotated[choice, subcommand(name, description=first_lines[name])]
        union = member if union is None else union | member
    return tyro.cli(union, args=arguments, prog=f"planprobe {verb}", config=config)


def check_least(options: Any, **least: int) -> None:
    """Refuse numbers that are too small: check_least(options, num_levels=1). Raises: ArgumentError."""
    for name, fewest in least.items():
        given = getattr(options, name)
        if given is not None and given < fewest:  # None: the default is worked out later
            raise ArgumentError(f"--{name.replace('_', '-')} {given}: needs {fewest} or more.")


def check_held_out(options: Any) -> None:
    """Refuse --levels train, for a verb that has the option. Raises: ArgumentError."""
    if getattr(options, "levels", None) == "train":
        raise ArgumentError(
            "--levels train: the agent knows these levels, and what is found on them may be memory.\n"
            "  Next: --levels test, or a harder set."
        )


def check_folder(folder: Path) -> None:
    """Find out before minutes of work whether it can be written to, and leave nothing there. Raises: OutputError."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:  # permissions alone do not tell: a file in the way, a full disk, a folder of the system
        tempfile.TemporaryFile(dir=existing).close()
    except OSError:
        raise OutputError(
            f"cannot write to '{folder}': '{existing}' is not a folder one may write to.\n  Next: another folder."
        ) from None


def use_threads(threads: int | None) -> None:
    """Pin torch's threads for this process. Raises: ArgumentError (fewer than one)."""
    import torch

    if threads is not None and threads < 1:
        raise ArgumentError(f"--threads {threads}: needs at least one.")
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    limit = int(allowed) if allowed.isdigit() and int(allowed) else MAX_DEFAULT_THREADS
    keep_freed_memory()
    torch.set_num_threads(threads or min(_num_cores(), limit))


def _num_cores() -> int:
    """Cores that this process may use; all of them where the system (macOS) does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_agent(spec: str, *, task: str | None = None) -> Agent:
    """Load an agent; a factory may live in the present folder. task: 'maze9', 'sokoban7', for a factory's policy."""
    from planprobe.subjects.zoo import load_agent

    if ":" in spec and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    if task is None:
        return load_agent(spec)
    from planprobe.subjects.organisms.families import named_task

    return load_agent(spec, task=named_task(*split_task(task)))


def split_task(name: str) -> tuple[str, int]:
    """Kind and size of a task: 'maze9' -> ('maze', 9); 0 where it says no size."""
    kind = name.rstrip("0123456789")
    return kind, int(name[len(kind) :] or 0)


def open_board_agent(spec: str, of_trials: str, *, task: str | None = None) -> Agent:
    """Load an agent that plays levels. of_trials: what one that plays trials is told. Raises: ArgumentError."""
    agent = open_agent(spec, task=task)
    if agent.recipe.plays_trials:
        raise ArgumentError(f"{agent.name} plays trials; {of_trials}")
    return agent


def find_levels(agent: Agent, name: str, num_levels: int | None = None) -> list[LevelSet]:
    """The level set of that name, or every board size of a level file; the first `num_levels` of each.

    Raises: UnknownNameError (neither).
    """
    from planprobe.subjects.envs.catalog import level_set_names
    from planprobe.subjects.envs.level_text import read_levels
    from planprobe.subjects.scorecard import NUM_LEVELS

    known = level_set_names(agent.task)
    if name in known:
        return [agent.levels(name, num_levels or NUM_LEVELS)]
    if not Path(name).exists():
        hint = "Or give an existing level file: planprobe levels --help."
        raise unknown_name("level set or file", name, known, where=f"the task of {agent.name}", next_move=hint)
    return [levels[:num_levels] for levels in read_levels(name)]
