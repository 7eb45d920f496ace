"""Belief (D12): is the exact posterior in memory, and can one be run in place of the other?

The agent plays trials of its own; beside every step stands the exact posterior of its task. Memory is mapped to it and
back, a net can be started from what the posterior says its memory should be, and the exact filter from what memory says
the posterior is. Untrained nets of the same architecture are shown the same and mapped alike. Half of the actions are
drawn at random; what can be read on courses all of the agent's own stands beside it, where the course alone says much.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planprobe.core.protocols import Policy
from planprobe.core.records import Evidence, Row
from planprobe.experiments import figures
from planprobe.experiments.intervals import over_seeds
from planprobe.experiments.record import Findings, ProgressCallback, lead_rows, pick_budget, silent
from planprobe.instruments.detectors import belief as detector
from planprobe.instruments.detectors import belief_simulation as simulation
from planprobe.verdict.belief_trials import play_belief_trials, untrained_twin
from planprobe.verdict.criteria import BELIEF, BELIEF_SIMULATION

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

QUESTION = "is the exact posterior over the latent variable in memory, and can one be run in place of the other?"


@dataclass(frozen=True)
class _Sizes:
    """num_trials: played by each agent; steps: of a trial looked at; untrained: nets; updates: of each hidden layer."""

    num_trials: int
    steps: int
    untrained: int
    updates: int


SIZES = {"smoke": _Sizes(60, 3, 1, 50), "quick": _Sizes(400, 8, 1, 400), "full": _Sizes(3000, 20, 5, 2000)}


def run_belief(
    agents: Sequence[Agent], *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """D12 of each agent, both halves; see `catalog.run_experiment` for the arguments.

    Raises: UnknownNameError (budget); RecipeError (a task whose belief is not kept in numbers); ShapeError (an agent
    without memory, or one whose memory is a cache of inputs).
    """
    tell, sizes = progress or silent, pick_budget(SIZES, budget)
    tables: dict[str, list[Row]] = {name: [] for name in ("maps", "own", "time", "psi", "simulation")}
    evidence: list[Evidence] = []
    notes: list[str] = []
    for number, agent in enumerate(agents):
        tell(number / len(agents), f"playing trials with {agent.name}")
        trials = play_belief_trials(agent, sizes.num_trials, seed=seed)
        nets = [untrained_twin(agent, seed=draw) for draw in range(sizes.untrained)]
        options = {"untrained": nets, "num_updates": sizes.updates, "seed": seed}
        held = detector.run(agent.net, trials, min_effect=BELIEF.value, most_steps=sizes.steps, **options)
        own = _own_course(agent, sizes, nets, seed=seed)
        tables["own"] += [{"agent": agent.name, **_untabled(row)} for row in own.rows if row["table"] == "maps"]
        tell((number + 0.5) / len(agents), f"running {agent.name} on the exact belief")
        run = simulation.run(
            agent.net, trials, min_effect=BELIEF_SIMULATION.value, most_steps=max(2, sizes.steps // 2), **options
        )
        for row in held.rows:
            tables[str(row["table"])].append({"agent": agent.name, **_untabled(row)})
        tables["simulation"] += [{"agent": agent.name, **row} for row in run.rows]
        for found in (held, run):
            evidence.append(dataclasses.replace(found, rows=[{"agent": agent.name, **row} for row in found.rows]))
        notes += [
            _note(agent.name, "Bits a number", held),
            _note(agent.name, "Share removed", run),
            _own_note(agent.name, own),
        ]
    tables |= {"leads": lead_rows(evidence), "seeds": _seed_rows(evidence)}
    tell(1.0, "done")
    return Findings(
        name="belief", question=QUESTION, tables={name: rows for name, rows in tables.items() if rows},
        evidence=evidence, notes=notes + _GENERAL, provenance=dataclasses.asdict(sizes),
    )  # fmt: skip


def _untabled(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "table"}


def _own_course(agent: Agent, sizes: _Sizes, nets: Sequence[Policy], *, seed: int) -> Evidence:
    """D12's first half on courses all of the agent's own."""
    trials = play_belief_trials(agent, sizes.num_trials, forced_share=0.0, seed=seed)
    return detector.run(
        agent.net, trials, untrained=nets, min_effect=BELIEF.value, most_steps=sizes.steps,
        num_updates=sizes.updates, seed=seed,
    )  # fmt: skip


def _own_note(agent: str, own: Evidence) -> str:
    beyond, best = own.beyond_controls, max(own.controls, key=lambda name: own.controls[name].value)
    return (
        f"{agent}, on courses of its own, where the course alone tells much of what is believed, so that this is not "
        f"judged: bits a number {own.effect.value:.2f}, {own.controls[best].value:.2f} for {best}; beyond the best "
        f"control {beyond.value:+.2f} [{beyond.low:+.2f}, {beyond.high:+.2f}]."
    )


def _seed_rows(evidence: list[Evidence]) -> list[Row]:
    """What nets have in common: mean over all of them, of each measurement and of its lead over the best control."""
    rows: list[Row] = []
    for name in dict.fromkeys(found.name for found in evidence):
        those = [found for found in evidence if found.name == name]
        for part, values in (
            ("measured", [found.effect.value for found in those]),
            ("beyond the best control", [found.beyond_controls.value for found in those]),
        ):
            rows.append({"measure": name, "part": part, "unit": those[0].effect.unit, **over_seeds(values)})
    return rows


def _note(agent: str, measure: str, found: Evidence) -> str:
    beyond, best = found.beyond_controls, max(found.controls, key=lambda name: found.controls[name].value)
    return (
        f"{agent}, {found.name}: {found.outcome}. {measure} {found.effect.value:.2f}, {found.controls[best].value:.2f} "
        f"for {best}; beyond the best control {beyond.value:+.2f} [{beyond.low:+.2f}, {beyond.high:+.2f}]. "
        + " ".join(found.notes)
    )


_GENERAL = [
    "A belief that can be read from memory is what an agent has that filters, and one that samples from its posterior; "
    "it is not evidence that the belief is used. A net that can be run on the exact posterior uses nothing else.",
    "Linear maps of numbers that are no linear function of one another (means and log weights) bound what a linear "
    "read-out could find; both maps are in the tables, the better one on trials set aside is judged.",
]

FIGURES = {
    "time": figures.for_each(
        "agent", "time",
        figures.lines(
            "time", x="step", series="source", x_title="step of the trial", y_title=detector.R2_UNIT,
            grey=("observation", "irrelevant latent", "another trial", *(f"untrained {n}" for n in range(5))),
        ),
    ),
    "psi": figures.for_each(
        "agent", "psi",
        figures.lines(
            "psi", x="step", series="source", x_title="step of the trial", y_title="nats by which psi is missed",
            grey=("exact posterior",),
        ),
    ),
    "simulation": figures.for_each(
        "agent", "simulation",
        figures.points(
            "simulation", label="source", series="map", x_title=simulation.UNIT,
            where={"direction": simulation.TO_MEMORY, "steps_ahead": simulation.AHEAD[0]}, level=0,
        ),
    ),
}  # fmt: skip
