"""`planprobe train`: a recipe becomes an agent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from planprobe.cli.arguments import (
    ArgumentError,
    AsJson,
    Flag,
    Threads,
    check_folder,
    open_agent,
    optional,
    parse,
    use_threads,
)
from planprobe.cli.output import say, show
from planprobe.core.errors import CheckpointError, RecipeError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from planprobe.subjects.recipe import Recipe
    from planprobe.subjects.training.train import Progress

SECONDS_BETWEEN_LINES = 60  # where stderr is no terminal and a bar would only fill a log


@dataclass(frozen=True)
class Train:
    """Train an agent from a recipe, in a folder that can be resumed, evaluated and published.

    A run killed at any moment goes on from its last checkpoint (one every few minutes) with --resume, on a CPU to the
    bit. The same command begins a run and goes on with it, on the device that is there that day.

    Examples:
      planprobe train my_maze.toml
      planprobe train agents/drc12-rl-maze11-s0/recipe.toml --out runs/again --threads 2 --compile
      planprobe train my_maze.toml --resume --max-minutes 30
      planprobe train my_longer_maze.toml --start drc12-rl-maze11-s0
      planprobe train drc33-rl-boxoban10-s0 --device cuda --compile --bf16 --out runs/flagship --resume --max-minutes 50
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE.toml")]
    """Recipe file or its folder, or the name of an agent in the zoo to train it anew."""
    out: Annotated[Path | None, optional("FOLDER", "runs/NAME")] = None
    """Where the run goes."""
    resume: Flag = False
    """Go on from the folder's checkpoint, where there is one."""
    start: Annotated[str | None, optional("AGENT", "what the recipe says")] = None
    """Begin with this agent's weights (kept in the run's recipe); the recipe's net must have the same shapes."""
    device: str = "cpu"
    """cpu, or cuda."""
    compile: Flag = False
    """Compile the recurrent cell: faster, but needs a C++ compiler and a minute at the start."""
    bf16: Flag = False
    """Learn with forward passes in bfloat16; it pays on a GPU."""
    max_minutes: Annotated[float | None, optional("FLOAT", "the whole recipe")] = None
    """Stop (with a checkpoint) after so long."""
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, train, print where the agent is."""
    options = parse(Train, arguments, verb="train")
    recipe = _find_recipe(options.recipe)
    folder = options.out or Path("runs") / recipe.name
    recipe = replace(recipe, start=options.start or _start_of_run(folder, recipe))
    check_folder(folder)
    _check_run(folder, resume=options.resume)
    use_threads(options.threads)
    _check_device(options)
    summary = _train(recipe, folder, options)
    show(summary, [summary], as_json=options.json, title=recipe.name)
    if summary["finished"]:
        say(f"Next: planprobe eval {folder}, or planprobe agents publish {folder}")
    else:
        say(f"Not finished. Next: planprobe train {options.recipe} --out {folder} --resume")
    return 0


def _train(recipe: Recipe, folder: Path, options: Train) -> dict:
    from planprobe.subjects.training.train import Trainer

    with _progress_bar(recipe) as on_progress:
        trainer = Trainer(
            recipe, folder, resume=options.resume, device=options.device, compiled=options.compile, bf16=options.bf16,
            on_progress=on_progress, initial_weights=_start_weights(recipe, folder),
        )  # fmt: skip
        try:
            limit = float("inf") if options.max_minutes is None else 60 * options.max_minutes
            finished = trainer.run(max_seconds=limit)
        except KeyboardInterrupt:
            say(f"Stopped after {trainer.frames:,} frames; --resume goes on from the last checkpoint in {folder}.")
            raise
    summary = {"agent": recipe.name, "folder": str(folder), "finished": finished, "frames": trainer.frames}
    summary["frames_per_second"] = round(trainer.frames_per_second)
    if recipe.plays_trials:
        summary["train_return"] = sum(trainer.recent_returns)
    else:
        summary["train_solve_rate"] = trainer.recent_solve_rate
    return summary | trainer.validate()


def _find_recipe(spec: str) -> Recipe:
    from planprobe.subjects.agent import RECIPE_FILE
    from planprobe.subjects.recipe import load_recipe
    from planprobe.subjects.zoo import agents_folder, list_recipes

    path = Path(spec)
    if not path.exists():
        if spec not in list_recipes():
            hint = "Or give a recipe file."
            raise unknown_name("recipe", spec, list_recipes(), where="the zoo", next_move=hint, error=RecipeError)
        path = agents_folder() / spec
    return load_recipe(path / RECIPE_FILE if path.is_dir() else path)


def _start_of_run(folder: Path, recipe: Recipe) -> str:
    """The agent that the run in a folder began with, so that --resume need not name it; else the recipe's own."""
    from planprobe.subjects.agent import RECIPE_FILE, RESUME_FILE
    from planprobe.subjects.recipe import load_recipe

    return load_recipe(folder / RECIPE_FILE).start if (folder / RESUME_FILE).exists() else recipe.start


def _start_weights(recipe: Recipe, folder: Path) -> dict[str, Tensor] | None:
    """Of the agent to begin with; None for a run that has begun. Raises: ArgumentError (not one of a recipe's nets)."""
    from torch import nn

    from planprobe.subjects.agent import RESUME_FILE

    if not recipe.start or (folder / RESUME_FILE).exists():
        return None
    agent = open_agent(recipe.start)
    if agent.folder is None or not isinstance(agent.net, nn.Module):
        raise ArgumentError(
            f"start {recipe.start}: its weights are not those of a recipe's net.\n  Next: an agent's folder."
        )
    return agent.net.state_dict()


def _check_run(folder: Path, *, resume: bool) -> None:
    """Find out before levels are generated, which takes a minute for a large bank. Raises: CheckpointError."""
    from planprobe.subjects.agent import RESUME_FILE, WEIGHTS_FILE

    if (folder / WEIGHTS_FILE).exists():
        raise CheckpointError(
            f"'{folder}' holds an agent, and a run would put another recipe beside its weights.\n"
            f"  Next: --out another folder, then planprobe agents publish it."
        )
    if (folder / RESUME_FILE).exists() and not resume:
        raise CheckpointError(f"'{folder}' already holds a run. Continue it with --resume, or name another.")


def _check_device(options: Train) -> None:
    import torch

    if options.device not in ("cpu", "cuda"):
        raise ArgumentError(f"--device {options.device}: it is cpu or cuda.")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("--device cuda: torch sees no GPU here.\n  Next: --device cpu.")
    compilers = (os.environ.get("CXX", ""), "g++", "clang++")
    if options.compile and options.device == "cpu" and not any(shutil.which(name) for name in compilers if name):
        raise ArgumentError("--compile: there is no C++ compiler here.\n  Next: install g++, or leave --compile out.")


@contextmanager
def _progress_bar(recipe: Recipe) -> Iterator[Callable[[Progress], None]]:
    """Solve rate, frames a second and time left: a bar on a terminal, a line a minute elsewhere."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
    last_line = time.monotonic()

    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(recipe.name, total=recipe.training.frames, state="making levels")

        def on_progress(now: Progress) -> None:
            nonlocal last_line
            state = _describe(now)
            bar.update(task, completed=now.frames, state=state)
            if not console.is_terminal and time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                say(f"{recipe.name}: {now.frames:,} frames, {state}")

        yield on_progress


def _describe(now: Progress) -> str:
    minutes, seconds = divmod(int(now.seconds_left), 60)
    how = f"solved {now.solve_rate:.0%}" if now.trial_return is None else f"return {now.trial_return:.2f}"
    return f"{how} · {now.frames_per_second:,.0f} frames/s · {minutes}:{seconds:02d} left"
