"""`planprobe erase`: take a concept out of the running net, and see what the agent can no longer do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from planprobe.cli.arguments import (
    AgentSpec,
    ArgumentError,
    AsJson,
    Flag,
    TaskName,
    Threads,
    check_least,
    optional,
    parse,
)
from planprobe.cli.instrument import Measured, run_instrument
from planprobe.cli.output import interval_column, print_table, progress, say, say_evidence
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.core.levels import LevelSet
    from planprobe.core.records import Evidence
    from planprobe.subjects.agent import Agent

FIT_SPLIT = "valid"  # other levels than those that are played
MOST_STEPS = 10_000  # longer than any episode
_FITTED = 0.2  # of the bar


@dataclass(frozen=True)
class Erase:
    """Erase a concept at every tick of every step, and compare with random subspaces of equal rank.

    Erasers (LEACE) are fitted on the valid levels; the agent then plays other levels untouched, with the concept
    erased, and with random subspaces erased, as they come and scaled to move activations as far. Each row tells what a
    condition costs, over all levels and by distance to the goal. Episodes: levels x draws x 2, and as many again to
    measure thinking; 60 levels and 100 draws take minutes.

    Examples:
      planprobe erase drc12-rl-maze11-s0
      planprobe erase drc12-rl-maze11-s0 --measure first_move --levels far --num-levels 300 --thinking-steps 8
      planprobe erase drc13-rl-sokoban7-s0 --concept box-push-direction --source optimal --out results/erased
      planprobe erase runs/mine --sites 'ticks.*.0.hook_h' --horizon 3 99 --num-random 20 --json
    """

    agent: AgentSpec
    concept: Annotated[str, arg(metavar="NAME")] = "agent-approach-direction"
    """What to erase: of squares (agent-approach-direction, box-push-direction, ...) or of states (action-ahead-3)."""
    source: Literal["behaviour", "optimal"] = "behaviour"
    """Labels from what the agent goes on to do, or from a solver."""
    horizon: Annotated[tuple[int, int] | None, optional("FIRST LAST", "all of them")] = None
    """Erase only events so many steps ahead; 0 is the present action."""
    parts: Annotated[tuple[int, ...], optional("INT ...", "none")] = ()
    """Erase parts of the plan one by one too, each from so many steps ahead to the next number: 0 3 8."""
    sites: Annotated[tuple[str, ...], optional("GLOB ...", "all cell and hidden states")] = ()
    """Where; planprobe agents show AGENT lists sites."""
    scope: Literal["square", "board"] = "square"
    """The channels of each square by themselves, or a whole site at once (concepts of states)."""
    joint: Flag = False
    """Let each site be guided by those before it, in place of each by itself."""
    sweeps: Annotated[int, arg(metavar="INT")] = 2
    """How often each site is fitted, with the erasers of the others in force; a pass through the episodes each."""
    measure: Literal[
        "solved", "first_move", "solved_gain", "first_move_gain", "solved_thought", "first_move_thought"
    ] = "solved"
    """What is judged. First moves end episodes after one step; of three boxes and more they take a while."""
    thinking_steps: Annotated[int, arg(metavar="INT")] = 0
    """Of the thinking gain; 0 does not measure it. What is judged after thinking is fitted after thinking too."""
    levels: Annotated[str, arg(metavar="NAME")] = "test"
    """Level set of the agent's task."""
    num_levels: Annotated[int, arg(metavar="INT")] = 60
    """How many are played."""
    num_fit_levels: Annotated[int, arg(metavar="INT")] = 200
    """How many the erasers are fitted on."""
    num_random: Annotated[int, arg(metavar="INT")] = 100
    """Draws of each control."""
    min_effect: Annotated[float, arg(metavar="FLOAT")] = 0.1
    """Smallest drop beyond the controls that counts."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Of states, random subspaces and intervals."""
    out: Annotated[Path | None, optional("FOLDER", "not saved")] = None
    """Where erase.json and its tables go."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, erase, play, print."""
    options = parse(Erase, arguments, verb="erase")
    _check(options)
    return run_instrument(
        "erase", options, _measure, of_trials="erase plays levels. Use intervene(...) with Erasure.edits."
    )


def _measure(agent: Agent, options: Erase) -> Measured:
    from planprobe.cli.saving import evidence_record

    sets = {"fitted": agent.levels(FIT_SPLIT, options.num_fit_levels)}
    sets["played"] = agent.levels(options.levels, options.num_levels)
    evidence, sites = _erase(agent, sets, options)
    tell = partial(_print, agent, evidence, sites, options)
    return Measured(sets, {"evidence": evidence_record(evidence)}, {"rows": evidence.rows, "sites": sites}, tell)


def _check(options: Erase) -> None:
    check_least(options, num_levels=1, num_fit_levels=1, num_random=1, sweeps=1, thinking_steps=0)
    if options.measure.endswith(("_gain", "_thought")) and options.thinking_steps == 0:
        raise ArgumentError(f"--measure {options.measure} needs --thinking-steps, say 8.")
    if any(first >= after for first, after in pairwise((-1, *options.parts))):
        raise ArgumentError(f"--parts {' '.join(map(str, options.parts))}: needs rising numbers, 0 or more.")
    if not 0 < options.min_effect <= 1:
        raise ArgumentError(f"--min-effect {options.min_effect:g}: needs a fraction above 0, up to 1.")
    if options.levels == FIT_SPLIT:
        raise ArgumentError(
            f"--levels {FIT_SPLIT}: the erasers are fitted on these levels, and would be judged on them.\n"
            "  Next: --levels test, or a harder set."
        )


def _erase(agent: Agent, sets: dict[str, LevelSet], options: Erase) -> tuple[Evidence, list[Row]]:
    """The evidence, and how much of the concept is left at each site on the levels that are played."""
    from planprobe.instruments.detectors import necessity
    from planprobe.instruments.erasure.erased_play import Trial
    from planprobe.instruments.erasure.erasure import check_erasure, fit_erasure
    from planprobe.instruments.erasure.targets import concept_target
    from planprobe.instruments.hooks import open_policy
    from planprobe.subjects.envs.first_moves import optimal_first_moves
    from planprobe.subjects.envs.plans import observation_planner
    from planprobe.verdict.material import count_optimal_moves, knows_first_moves

    levels, kind = sets["played"], agent.task.kind
    scored = knows_first_moves(agent.task) or options.measure.startswith("first_move")
    moves = optimal_first_moves(levels, kind) if scored else None
    trial = Trial(
        agent.make_env, levels, moves, options.thinking_steps,
        max_steps=1 if options.measure.startswith("first_move") else None,
    )  # fmt: skip
    trial.check_measure(options.measure)
    planner = None
    if options.source == "optimal":
        planner = observation_planner(agent.task.kind, observation=agent.task.observation)
    target = concept_target(options.concept, planner=planner, horizon=options.horizon)
    ahead = {
        _name_part(first, after): concept_target(options.concept, planner=planner, horizon=(first, after - 1))
        for first, after in pairwise([*options.parts, MOST_STEPS])
    }
    opened = open_policy(agent.net, name=agent.name)
    settled = {"thinking_steps": _steps_of_fit(options), "seed": options.seed}
    with progress(f"erasing {options.concept}") as bar:
        fitted = [
            fit_erasure(
                opened, agent.make_env, sets["fitted"], each, sites=options.sites or None, scope=options.scope,
                joint=options.joint, sweeps=options.sweeps, **settled,
                on_progress=lambda share, done=done: bar(_FITTED * (done + share) / (1 + len(ahead)), 1, "fitting"),
            )
            for done, each in enumerate([target, *ahead.values()])
        ]  # fmt: skip
        erasure, parts = fitted[0], dict(zip(ahead, fitted[1:], strict=True))
        sites = check_erasure(opened, agent.make_env, levels, target, erasure, **settled)
        evidence = necessity.run(
            opened, trial, erasure, min_effect=options.min_effect, measure=options.measure, parts=parts,
            distances=count_optimal_moves(levels, agent.task.kind), num_random=options.num_random, seed=options.seed,
            on_progress=lambda share: bar(_FITTED + (1 - _FITTED) * share, 1, "playing"),
        )  # fmt: skip
    return evidence, sites


def _steps_of_fit(options: Erase) -> int:
    return options.thinking_steps if options.measure.endswith(("_gain", "_thought")) else 0


def _name_part(first: int, after: int) -> str:
    return f"{first} and more steps ahead" if after == MOST_STEPS else f"{first} to {after - 1} steps ahead"


def _print(agent: Agent, evidence: Evidence, sites: list[Row], options: Erase) -> None:
    print_table(sites, title=f"{agent.name}: share of {options.concept} that a linear guess explains, on played levels")
    print_table(map(_short, evidence.rows), title=f"{agent.name}: {options.concept} erased")
    say(f"Erasers were fitted after {_steps_of_fit(options)} thinking steps.")
    say_evidence(evidence, effect="Lost")


def _short(row: Row) -> Row:
    """What fits on a line; --json has all of it."""
    where = row["levels"] if "distance_low" not in row else f"{row['distance_low']}-{row['distance_high']} moves"
    short: Row = {"levels": where, "number": row["num_levels"], "measure": row["measure"]}
    short |= {"condition": row["condition"], "rate": row["rate"], "lost": interval_column(row, "lost", sign="+")}
    short["beyond random"] = interval_column(row, "more_than_random", sign="+") if "more_than_random" in row else None
    return short
