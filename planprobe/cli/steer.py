"""`planprobe steer`: write another plan into the running net, and see whether the agent walks it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from planprobe.cli.arguments import AgentSpec, ArgumentError, AsJson, TaskName, Threads, check_least, optional, parse
from planprobe.cli.instrument import Measured, run_instrument
from planprobe.cli.output import interval_column, print_table, progress, say_evidence
from planprobe.core.records import Row
from planprobe.verdict.budgets import Budget

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent
    from planprobe.verdict.steer_table import SteerTable


@dataclass(frozen=True)
class Steer:
    """Steer along fitted directions on levels with a short and a long way, beside every control (D7).

    Directions of the agent's own plan are fitted on the valid levels; on other levels the long way is then written on
    its squares, at every tick until the agent has left its start. Each row is one arm (block the short way, direct
    along the long one, both), one source of directions (fitted, random, wrong class, other concept, shuffled square)
    and one strength. Strengths are chosen on half of the levels, for each source by itself; the other half is told.

    Examples:
      planprobe steer drc12-rl-maze11-s0
      planprobe steer drc12-rl-maze11-s0 --arm direct --num-squares 1 --num-levels 200 --out results/steered
      planprobe steer drc13-rl-sokoban7-s0 --method mean-difference --alphas 1 2 4 --thinking-steps 2 --json
    """

    agent: AgentSpec
    site: Annotated[str | None, optional("GLOB", "cells of the last layer, or its hidden states")] = None
    """Where to write: one layer's sites; planprobe agents show AGENT lists sites."""
    method: Literal["probe", "mean-difference"] = "probe"
    """Directions of a linear read-out, or mean differences of the classes."""
    convention: Literal["entry", "exit"] = "entry"
    """A square's class is the move that enters it, or that leaves it."""
    arm: Literal["block", "direct", "both"] = "both"
    """The arm that is judged; all three are told."""
    alphas: Annotated[tuple[float, ...], arg(metavar="FLOAT ...")] = (0.5, 1, 2, 4, 8)
    """Strengths to choose from, times directions of norm 1."""
    num_squares: Annotated[int, arg(metavar="INT")] = 3
    """Squares of each way that are written on."""
    steps: Annotated[int | None, optional("INT", "until the agent has left its start")] = None
    """Clock steps with the edit."""
    settle_steps: Annotated[int, arg(metavar="INT")] = Budget.judged_steps
    """Steps on the first observation before anything is written, so that a plan can stand; as many in a study."""
    thinking_steps: Annotated[int, arg(metavar="INT")] = 0
    """Further steps on it before the first action, with the edit."""
    num_levels: Annotated[int, arg(metavar="INT")] = 80
    """Levels with two ways, half of them to choose strengths on."""
    num_fit_levels: Annotated[int, arg(metavar="INT")] = 150
    """Levels that directions are fitted on."""
    per_level: Annotated[int, arg(metavar="INT")] = 4
    """States of each of those."""
    num_random: Annotated[int, arg(metavar="INT")] = 100
    """Tables of random directions that are told."""
    num_random_choice: Annotated[int, arg(metavar="INT")] = 10
    """The same, other ones, in choosing their strength."""
    num_wrong: Annotated[int, arg(metavar="INT")] = 8
    """Permutations of the right directions."""
    num_shuffles: Annotated[int, arg(metavar="INT")] = 4
    """Draws of wrong squares."""
    min_effect: Annotated[float | None, optional("FLOAT", "that of a study")] = None
    """Smallest rise of the share of levels left by the long way that counts."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Of states, control draws and intervals."""
    out: Annotated[Path | None, optional("FOLDER", "not saved")] = None
    """Where steer.json, its table and its figures go."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, steer, print."""
    options = parse(Steer, arguments, verb="steer")
    _check(options)
    return run_instrument(
        "steer", options, _steer,
        of_trials="steer writes plans on levels with two ways.\n"
        "  In Python, intervene(opened, planprobe.steer(Address(...), direction, alpha)) steers any run.",
    )  # fmt: skip


def _check(options: Steer) -> None:
    counts = ("num_squares", "num_fit_levels", "per_level", "num_random", "num_random_choice", "num_wrong")
    check_least(options, **dict.fromkeys(counts, 1), num_shuffles=1, thinking_steps=0, settle_steps=0)
    if not options.alphas or any(alpha <= 0 for alpha in options.alphas):
        raise ArgumentError(f"--alphas {' '.join(f'{alpha:g}' for alpha in options.alphas)}: needs strengths above 0.")
    if options.min_effect is not None and not 0 < options.min_effect <= 1:
        raise ArgumentError(f"--min-effect {options.min_effect:g}: needs a fraction above 0, up to 1.")


def _steer(agent: Agent, options: Steer) -> Measured:
    from planprobe.cli.saving import evidence_record
    from planprobe.instruments.detectors.plan_steering import Battery
    from planprobe.instruments.steering.steering import SteeringPlan
    from planprobe.verdict.criteria import PLAN_STEERING
    from planprobe.verdict.figures.steering import draw_steering
    from planprobe.verdict.steer_table import steer_table

    same = (
        "site", "method", "convention", "arm", "alphas", "settle_steps", "num_levels", "num_fit_levels", "per_level",
        "seed",
    )  # fmt: skip
    battery = Battery(options.num_random, options.num_random_choice, options.num_wrong, options.num_shuffles)
    plan = SteeringPlan(
        num_squares=options.num_squares, steps=options.steps, thinking_steps=options.thinking_steps
    )  # fmt: skip
    with progress(f"steering {agent.name}") as on_progress:
        table = steer_table(
            agent, plan=plan, battery=battery, min_effect=options.min_effect or PLAN_STEERING.value,
            on_progress=lambda share, text: on_progress(share, 1, text),
            **{name: getattr(options, name) for name in same},
        )  # fmt: skip
    directions = {"site": table.directions.site, "macro_f1_of_read_out": table.read_out}
    directions["vectors"] = table.directions.vectors.tolist()
    facts = {"directions": directions, "evidence": evidence_record(table.evidence)}
    tell = partial(_print, agent, table)
    return Measured(table.level_sets(), facts, {"rows": table.evidence.rows}, tell, draw_steering)


def _print(agent: Agent, table: SteerTable) -> None:
    told = [row for row in table.evidence.rows if row["half"] == "report"]
    print_table(map(_short, told), title=f"{agent.name}: another plan written at {table.directions.site}")
    say_evidence(table.evidence, effect="Redirected")


def _short(row: Row) -> Row:
    """What fits on a line; --json has all of it."""
    return {
        "arm": row["arm"], "directions": row["source"], "draws": row["num_tables"], "strength": row["alpha"],
        "left by the long way": interval_column(row, "success"), "long way walked": row["route_agreement"],
        "solved": row["solved"], "KL elsewhere": row["kl_elsewhere_nats"], "decoded before": row["long_decoded"],
    }  # fmt: skip
