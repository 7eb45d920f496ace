"""The study of an agent that plays trials: does it adapt, and if so, does it work out anew what to do?

play held-out trials                                   what can it do, between chance and the best reference player
D11 compare its last episode with its first            against memory reset, and a memory of another task
D10 make a course best that it never took              against cached courses, and memory reset at episode ends
D8  give it the memory of another trial                against donors of other goals, and the donor's own moves
D12 read the posterior from its memory                 against its inputs, an untrained net, an irrelevant latent
D13 put it through histories                           does it match its choices to its belief, or maximise
D14 follow it in search of a goal                      does it hold one that it drew, or is it of no mind
judge by the same rules, write results, figures, report

What a task does not allow is not measured: among the arms of a bandit nothing can be revalued. Such a verdict says so.
The reading rests on D11 and D10; the others say how the agent does what it does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planprobe.core.errors import RecipeError, ShapeError, TooFewLevelsError
from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.core.protocols import State
from planprobe.core.records import Effect, Evidence, Row, Verdict
from planprobe.instruments.detectors import adaptation, belief, trial_revaluation
from planprobe.instruments.detectors.adaptation import MakeTrials
from planprobe.instruments.statistics.proportions import proportion
from planprobe.instruments.statistics.stats import cluster_bootstrap, ratio
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.trial_catalog import TEST_SEED, TrialTask, held_out, make_trial_env
from planprobe.subjects.envs.trial_inputs import TrialInputs
from planprobe.subjects.organisms.base import CodedNet
from planprobe.subjects.trial_changes import STRAIGHT, TrialChange, trial_changes
from planprobe.subjects.trial_scores import hash_trials
from planprobe.verdict.belief_trials import play_belief_trials, untrained_twin
from planprobe.verdict.budgets import Budget
from planprobe.verdict.criteria import ADAPTATION, BELIEF, REVALUATION
from planprobe.verdict.figures import rebuild_figures
from planprobe.verdict.forced_choices import ask_choices, judge_choices
from planprobe.verdict.goal_courses import judge_commitment, judge_psi_patching
from planprobe.verdict.judge import judge
from planprobe.verdict.provenance import studied_agent, study_facts
from planprobe.verdict.rates import TRIAL_RATES_FILE, load_rates
from planprobe.verdict.reference_scores import PlayedReference, best_reference, play_references
from planprobe.verdict.report import write_report
from planprobe.verdict.results import write_results
from planprobe.verdict.stages import ProgressCallback
from planprobe.verdict.study import Taken

NUM_TRIALS = {"smoke": 40, "quick": 1000, "full": 5000}
NUM_BOARD_TRIALS = {"smoke": 24, "quick": 300, "full": 1000}  # of tasks seen as boards, where a step costs more
NUM_BOARD_CHANGES = {"smoke": 24, "quick": 500, "full": 2000}
"""Of D10 and D8 on boards. One trial in six has a better course that no rule of thumb finds, and who goes by such rules
is told from a planner with power .8 on 60 of these; one in twenty has donors, and a course of theirs that no walk
straight for their goal finds, be it as lucky as it may."""
BELIEF_SIZES = {
    "smoke": {"num_trials": 60, "steps": 3, "untrained": 1, "updates": 50},
    "quick": {"num_trials": 400, "steps": 8, "untrained": 1, "updates": 400},
    "full": {"num_trials": 3000, "steps": 20, "untrained": 5, "updates": 2000},
}
"""Of D12: steps of a trial that are looked at, nets, and updates of each hidden layer."""
CHOICE_SIZES = {
    "smoke": {"most_histories": 100, "drawn_trials": 10, "num_repeats": 3},
    "quick": {"most_histories": 1500, "drawn_trials": 60, "num_repeats": 10},
    "full": {"most_histories": 20_000, "drawn_trials": 300, "num_repeats": 100},
}
"""Of D13: histories that are enumerated, walks where they cannot be, simulations of each reading."""
REFUTES_NOTHING = (
    "To miss the better course refutes nothing here: a planner that believes what training showed does too."
)
NUM_WALKS = {"smoke": 40, "quick": 300, "full": 2000}  # of D14


def study_trials(agent: Agent, *, out: str | Path, budget: Budget, progress: ProgressCallback | None = None) -> Verdict:
    """Run the battery for trials on an agent and write verdict, evidence, figures and report to `out`.

    Args: as `take_trial_evidence`.
    Raises: RecipeError (an agent that plays single episodes on levels: `study.study`); nothing is written before
    everything is measured.
    """
    tell = progress or (lambda share, text: None)
    taken = take_trial_evidence(agent, budget, progress=progress)
    tell(0.95, "figures and report")
    folder = write_results(out, taken.verdict, {"trials": taken.behaviour})
    rebuild_figures(folder)
    write_report(folder)
    tell(1.0, "done")
    return taken.verdict


def take_trial_evidence(agent: Agent, budget: Budget, *, progress: ProgressCallback | None = None) -> Taken:
    """Measure and judge; write nothing. budget: its name decides the number of trials, its seed every draw."""
    tell, began = progress or (lambda share, text: None), time.monotonic()
    task = held_out(agent.trial_task)
    make_trials = partial(_make_trials, task, agent)
    boards = make_trials(1).height > 1
    num_trials = (NUM_BOARD_TRIALS if boards else NUM_TRIALS).get(budget.name, budget.num_levels)

    tell(0.0, "D11 adaptation: playing trials")
    played = adaptation.play_conditions(agent.net, make_trials, num_trials, seed=budget.seed)
    kept = played[adaptation.KEPT]
    tell(0.5, "reference players on the same trials")
    references = play_references(task, num_trials)
    best = best_reference(references, adaptation.stage_scores(kept).shape[1] - 1)
    adapts = adaptation.judge(
        played, best=references[best].stages if best else None, min_effect=ADAPTATION.value, seed=budget.seed,
        recurrent=bool(agent.net.initial_state(1, (make_trials(1).height, make_trials(1).width))),
    )  # fmt: skip
    skill = measure_skill(kept, references[best] if best else None, make_trials, num_trials)

    evidence, unmeasured = [adapts], {}
    further = {
        "D10": partial(revalue_in_sight, agent, _num_changed(budget, boards)),
        "D8": partial(judge_psi_patching, agent, _num_changed(budget, boards)),
        "D12": partial(read_belief, agent, budget),
        "D13": partial(match_choices, agent, budget),
        "D14": partial(judge_commitment, agent, NUM_WALKS.get(budget.name, NUM_WALKS["smoke"])),
    }
    for number, (detector, measure) in enumerate(further.items()):
        tell(0.6 + 0.06 * number, detector)
        try:
            evidence.append(measure(seed=budget.seed))
        except (TooFewLevelsError, RecipeError, ShapeError) as error:  # the task, or the net, does not allow it
            unmeasured[f"{detector} was not measured"] = str(error)

    tell(0.9, "judging")
    provenance = _describe(agent, task, skill, budget, num_trials, seconds=time.monotonic() - began)
    provenance |= unmeasured
    rates = load_rates(budget.name, task.kind, TRIAL_RATES_FILE)
    verdict = judge(evidence, agent=agent.name, solve_rate=skill, provenance=provenance, rates=rates, counted="trials")
    return Taken(verdict, stage_rows(kept, references))


def _num_changed(budget: Budget, boards: bool) -> int:
    return (NUM_BOARD_CHANGES if boards else NUM_TRIALS).get(budget.name, budget.num_levels)


def revalue(agent: Agent, changes: Sequence[TrialChange], num_trials: int, *, seed: int = 0) -> Evidence:
    """D10 of an agent by some changes of its trials, taken together; refuted only where each could refute it."""
    stimuli = [
        trial_revaluation.Change(
            change.name, partial(_make_trials, change.task, agent), change.score, change.cached, (STRAIGHT,)
        )
        for change in changes
    ]
    item = trial_revaluation.run(agent.net, stimuli, num_trials=num_trials, min_effect=REVALUATION.value, seed=seed)
    if item.outcome == "refuted" and not all(change.refutes for change in changes):
        return replace(item, outcome="inconclusive", notes=[*item.notes, REFUTES_NOTHING])
    return item


def revalue_in_sight(agent: Agent, num_trials: int, *, seed: int = 0) -> Evidence:
    """D10 by all changes that the agent could have seen. Raises: RecipeError (its task allows none)."""
    changes = [change for change in trial_changes(agent.trial_task) if change.in_sight]
    if not changes:
        raise RecipeError(f"'{agent.trial_task.kind}' allows no change that makes a course best that was never taken.")
    return revalue(agent, changes, num_trials, seed=seed)


def read_belief(agent: Agent, budget: Budget, *, seed: int = 0) -> Evidence:
    """D12, for tasks whose posterior is written down and nets that keep a memory of few numbers, or organisms.

    Raises: RecipeError (no recipe of its net, or another task); ShapeError (memory).
    """
    if agent.folder is None and not isinstance(agent.net, CodedNet):
        raise RecipeError("without a recipe of its net there are no untrained ones to compare its belief with.")
    sizes = BELIEF_SIZES.get(budget.name, BELIEF_SIZES["smoke"])
    trials = play_belief_trials(agent, sizes["num_trials"], seed=seed)
    untrained = [untrained_twin(agent, seed=number) for number in range(sizes["untrained"])]
    return belief.run(
        agent.net, trials, untrained=untrained, min_effect=BELIEF.value, most_steps=sizes["steps"],
        num_updates=sizes["updates"], seed=seed,
    )  # fmt: skip


def match_choices(agent: Agent, budget: Budget, *, seed: int = 0) -> Evidence:
    """D13, for tasks of which exact readings of choices are known. Raises: RecipeError (another task)."""
    sizes = dict(CHOICE_SIZES.get(budget.name, CHOICE_SIZES["smoke"]))
    num_repeats = sizes.pop("num_repeats")
    judged = next(iter(ask_choices(agent, **sizes, seed=seed).values()))
    return judge_choices(judged, num_repeats=num_repeats, seed=seed)


def measure_skill(kept: TrialRollout, best: PlayedReference | None, make_trials: MakeTrials, num_trials: int) -> Effect:
    """How well the agent has learnt its task, on the scale of a solve rate.

    Where episodes can be solved: the share of last episodes that were. Elsewhere its return between that of choosing at
    random (0) and of the best reference player (1), on the same trials; without a player it is not known (nan).
    """
    if bool(kept.success.any()):
        return proportion(kept.success[:, -1].cpu().numpy(), unit="fraction of last episodes solved")
    unit = "return, from chance (0) to the best player (1)"
    if best is None:
        return Effect(math.nan, math.nan, math.nan, num_trials, unit)
    chance = play_trials(_Chance(make_trials(1).num_actions), make_trials(num_trials)).returns.double()
    gains = torch.stack([kept.returns.double() - chance, best.rewards.double().sum(1) - chance], dim=1)
    return cluster_bootstrap(gains.cpu().numpy(), ratio, unit=unit)


def stage_rows(kept: TrialRollout, references: dict[str, PlayedReference]) -> list[Row]:
    """Mean score of each stage with its interval, of the agent and of every reference player."""
    scores = {"the agent": adaptation.stage_scores(kept)} | {name: each.stages for name, each in references.items()}
    rows: list[Row] = []
    for name, stages in scores.items():
        for number, column in enumerate(stages.T, start=1):
            mean = cluster_bootstrap(column)
            rows.append(
                {"arm": name, "stage": number, "value": mean.value, "low": mean.low, "high": mean.high, "n": mean.n}
            )
    return rows


def _make_trials(task: TrialTask, agent: Agent, num_trials: int) -> TrialInputs:
    return make_trial_env(task, agent.recipe.inputs, num_trials)


class _Chance:
    """A policy that chooses at random."""

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        return ()

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        zeros = torch.zeros(len(observation), self.num_actions)
        return zeros, zeros[:, 0], ()


def _describe(
    agent: Agent, task: TrialTask, skill: Effect, budget: Budget, num_trials: int, *, seconds: float
) -> dict[str, Any]:
    """Everything that decides the numbers, as `provenance.describe` has it for levels."""
    told = f"{skill.value:.3f} [{skill.low:.3f}, {skill.high:.3f}] {skill.unit}"
    played = {"kind": task.kind, **asdict(task)}  # pyright: ignore[reportArgumentType]
    return {
        "agent": studied_agent(agent, {"skill": told}) | {"task": played},
        "trials": {"number": num_trials, "seed": TEST_SEED, "hash": hash_trials(task, num_trials)},
        **study_facts(budget, skill, seconds=seconds),
    }
