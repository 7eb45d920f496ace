"""Find the verb, run it, turn errors into one message and an exit code.

Nothing heavy is imported before the verb is known: `planprobe --help` is for people who wait for it.
Exit codes: 0 done; 1 a check was run and failed; 2 the request could not be served; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from planprobe.core.errors import PlanprobeError, unknown_name

VERBS = {
    "study": "the whole battery on an agent: verdict, evidence, figures, one report",
    "train": "a recipe -> an agent; progress bar, resumable",
    "eval": "solve rates on held-out levels, or on a level file of your own",
    "probe": "read a concept out of every layer and tick, beside its controls",
    "capture": "activations of every step on disk: chosen sites, sharded, resumable",
    "patch": "put parts of a clean run into a corrupted one, and see whether its move comes back",
    "steer": "write another plan on levels with two ways, and see whether the agent walks it",
    "erase": "take a concept out of the running net, and see what is lost beside random subspaces",
    "run": "an experiment by name: adaptation, ingredients, one-maze, ...; without a name, what there is",
    "subspace": "a few directions whose swap between two runs swaps the next move, where there are any",
    "align": "what each channel codes, how far off its square, with which sign",
    "view": "a page to look at: the board, the agent, the plan read at every tick, a slider",
    "agents": "the zoo: list | show | verify | publish",
    "levels": "level files: generate | solve | convert | show",
    "calibrate": "the battery on organisms whose answer is known: error rates of every detector",
    "figures": "rebuild the published figures from saved results; --check compares",
}
FAILED_CHECK, BAD_REQUEST, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. arguments: without the program's name, `sys.argv` by default."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(arguments)
        sys.stdout.flush()  # what is still in a buffer would meet a closed pipe, or a full disk, after the exit code
        return code
    except PlanprobeError as error:
        return _fail(f"{type(error).__name__}: {error}", BAD_REQUEST)
    except KeyboardInterrupt:
        return _fail("interrupted.", INTERRUPTED)
    except BrokenPipeError:  # `planprobe ... | head`: nobody reads on, and Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that went away
        return _fail(f"{type(error).__name__}: {error}", BAD_REQUEST)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help_text())
        return 0
    if arguments[0] in ("-V", "--version"):
        from planprobe import __version__

        print(f"planprobe {__version__}")
        return 0
    return _run_verb(arguments[0], arguments[1:])


def _run_verb(verb: str, arguments: list[str]) -> int:
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS, where="planprobe", next_move="planprobe --help explains each.")
    module = importlib.import_module(f"planprobe.cli.{verb}")
    try:
        return module.run(arguments) or 0
    except SystemExit as stop:  # how the argument parser ends on --help and on a bad argument
        return stop.code if isinstance(stop.code, int) else BAD_REQUEST


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _help_text() -> str:
    verbs = "\n".join(f"  {verb:<11}{summary}" for verb, summary in VERBS.items())
    return f"""usage: planprobe VERB ... [--json]

Does a trained recurrent agent plan inside?

{verbs}

AGENT is a name in the zoo, an agent's folder, a training run, or 'package.module:factory'.

Examples:
  planprobe agents list
  planprobe study drc12-rl-maze11-s0
  planprobe eval drc13-rl-sokoban7-s0 --levels my_levels.xsb --thinking-steps 0 4 16
  planprobe train agents/drc12-rl-maze11-s0/recipe.toml --out runs/mine

planprobe VERB --help explains a verb. Results go to stdout, progress and errors to stderr."""
