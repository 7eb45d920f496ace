"""The study: does this agent plan inside? Read `study` as the method section; each stage is a call.

play the agent on held-out levels                      what can it do, and how much of that lives in memory
D1  let it think on the frozen first observation       against memory that knows nothing of the level
D2  put the goal further off                           against time spent on a blank frame, or on another level
D3  offer more routes at one distance                  the same; it tells a sweep from a search
D10 toggle a wall once it has looked                   against the same memory on the old board
D4  read its plan from single squares of its memory    against everything that could be read without a plan
D5  read it tick by tick, from the first one on        against labels of another level, and nets that learnt nothing
D6  ask which of its squares can be read first         against the squares in random order
D9  erase it, where there is one                       against random subspaces of equal rank
D7  write another plan, on levels with two ways        against a hundred random directions, wrong names, wrong squares
judge by fixed rules, write results, figures, report
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from planprobe.core.play import play_levels
from planprobe.core.records import Row, Verdict
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.statistics.proportions import proportion
from planprobe.subjects.agent import Agent
from planprobe.verdict.budgets import Budget
from planprobe.verdict.figures import rebuild_figures
from planprobe.verdict.judge import judge
from planprobe.verdict.material import behaviour_rows, clone_of, gather_material, untrained_nets
from planprobe.verdict.provenance import describe
from planprobe.verdict.rates import load_rates
from planprobe.verdict.report import write_report
from planprobe.verdict.results import write_results
from planprobe.verdict.stages import (
    ProgressCallback,
    between,
    change_the_world,
    erase_plan,
    follow_ticks,
    measure_laws,
    measure_thinking,
    read_plan,
    steer_plan,
)


def study(
    agent: Agent,
    *,
    out: str | Path,
    budget: Budget,
    twin: Agent | None = None,
    progress: ProgressCallback | None = None,
) -> Verdict:
    """Run the whole battery on an agent and write verdict, evidence, figures and report to `out`.

    Args: as `take_evidence`.
    Returns: the verdict, provisional where this version and budget have no calibration.
    Raises: whatever levels, probes and files raise (PlanprobeError); nothing is written before everything is measured.
    """
    tell = progress or (lambda share, text: None)
    taken = take_evidence(agent, budget, twin=twin, progress=progress)
    tell(0.97, "figures and report")
    folder = write_results(out, taken.verdict, {"behaviour": taken.behaviour})
    rebuild_figures(folder)
    write_report(folder)
    tell(1.0, "done")
    return taken.verdict


@dataclass(frozen=True)
class Taken:
    """A verdict with its evidence, and the rows of plain play."""

    verdict: Verdict
    behaviour: list[Row]


def take_evidence(
    agent: Agent, budget: Budget, *, twin: Agent | None = None, progress: ProgressCallback | None = None
) -> Taken:
    """Measure and judge; write nothing.

    Args: twin: a memoryless agent trained on the same task, a control of D4. budget: see `budgets.BUDGETS`.
    progress(share of the study that is done, what is going on).
    """
    tell, began = progress or (lambda share, text: None), time.monotonic()
    tell(0.0, "levels and their exact answers")
    material = gather_material(agent.task, budget)
    opened = open_policy(agent.net, name=agent.name)

    tell(0.04, "playing")
    plain = play_levels(agent.net, material.make_env, material.levels, drop_finished=True)
    forgetful = play_levels(agent.net, material.make_env, material.levels, reset_memory=True, drop_finished=True)
    solve_rate = proportion(plain.solved.numpy(), unit="fraction solved")

    thinking = measure_thinking(agent.net, material, budget, on_progress=between(0.08, 0.32, tell))

    laws = measure_laws(agent.net, material, budget, on_progress=between(0.32, 0.40, tell))

    tell(0.40, "D10 revaluation")
    changed = change_the_world(agent.net, material, budget)

    untrained = untrained_nets(agent, material)
    plan, directions = read_plan(
        opened, material, budget, random_policies=untrained, twin=twin and twin.net, clone=clone_of(agent, budget),
        on_progress=between(0.42, 0.52, tell),
    )  # fmt: skip

    tell(0.52, "D5 plan refinement, D6 order of decoding")
    forming = follow_ticks(opened, directions, material, budget, random_policies=untrained)

    erased = erase_plan(opened, material, budget, plan, on_progress=between(0.55, 0.60, tell))

    steering = steer_plan(opened, directions, material, budget, on_progress=between(0.60, 0.97, tell))

    arms = {"the agent": plain, "memory reset each step": forgetful}
    provenance = describe(agent, twin, solve_rate, budget, material.level_sets(), seconds=time.monotonic() - began)
    verdict = judge(
        [thinking, *laws, changed, plan, *forming, *([erased] if erased else []), steering], agent=agent.name,
        solve_rate=solve_rate, provenance=provenance, rates=load_rates(budget.name, agent.task.kind),
    )  # fmt: skip
    return Taken(verdict, behaviour_rows(arms, material.moves))
