"""The four ingredients of RL²: all of them, then each taken away in turn, and what is left of adaptation.

An agent that sees what it was paid, sees what it did, remembers, and is trained on many tasks learns to learn (Duan et
al. 2016, Wang et al. 2016). Small nets are trained on the hidden goal of 3 x 3, two short episodes a trial: once with
everything, once without each. All are measured on the same trials, with goals drawn anew, and play as they were
trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from planprobe.core.play_trials import play_trials
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.experiments import figures
from planprobe.experiments.catalog import EXPERIMENTS
from planprobe.experiments.intervals import average_seeds, over_trials
from planprobe.experiments.record import Findings, ProgressCallback, between, pick_budget, silent
from planprobe.experiments.small_nets import fit_training, fresh_net, train_on
from planprobe.instruments.detectors.adaptation import pair_gains, share_of_gain, stage_scores
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.recipe import NetRecipe, TrainingRecipe
from planprobe.verdict.reference_scores import PlayedReference, best_reference, play_references

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

TASK = HiddenGoalTask(size=3, num_episodes=2, episode_steps=6)
NET = NetRecipe(kind="gru", channels=48, hidden=32)
TRAINING = TrainingRecipe(
    num_boards=64, unroll=12, gamma=0.97, lr=(3e-3, 3e-4), entropy=(0.03, 0.0), epochs=2, num_minibatches=2,
    reward_scale=0.3,
)  # fmt: skip
ALL, UNTRAINED, INDEX = "all four", "untrained", "adaptation index"


@dataclass(frozen=True)
class Arm:
    """How nets of one arm are trained: what they are told, on which task, and whether they remember."""

    inputs: Inputs = field(default_factory=Inputs)
    task: HiddenGoalTask = TASK
    reset_memory: bool = False


ARMS = {
    ALL: Arm(),
    "no reward input": Arm(Inputs(reward=False)),
    "no action history": Arm(Inputs(observation=False, previous_action=False)),
    "no memory": Arm(reset_memory=True),
    "one task": Arm(task=replace(TASK, goal=8)),
}
"""Where the agent stands also says what its actions did, so that it goes together with the last action."""


@dataclass(frozen=True)
class _Size:
    frames: int
    num_seeds: int
    num_trials: int


SIZES = {"smoke": _Size(600, 2, 50), "quick": _Size(100_000, 3, 2000), "full": _Size(2_000_000, 8, 10_000)}


def run_ingredients(
    agents: Sequence[Agent] = (), *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """Train every arm with several seeds and measure adaptation; trains its own nets and takes no agents.

    Raises: UnknownNameError (budget).
    """
    tell, size = progress or silent, pick_budget(SIZES, budget)
    players = play_references(TASK, size.num_trials)
    best = best_reference(players, 1)
    assert best is not None  # the hidden goal has players
    jobs = [(name, number) for name in (*ARMS, UNTRAINED) for number in range(size.num_seeds)]
    rows: list[Row] = []
    for done, (name, number) in enumerate(jobs):
        share = between(done / len(jobs), (done + 1) / len(jobs), _prefixed(tell, f"{name}, seed {number}"))
        arm, first_seed = ARMS.get(name, ARMS[ALL]), 1000 * seed + number
        if name == UNTRAINED:
            net: Policy = fresh_net(NET, make_trial_env(TASK, arm.inputs, 1), seed=first_seed)
        else:
            training = fit_training(TRAINING, size.frames, reset_memory=arm.reset_memory)
            net = train_on(arm.task, arm.inputs, NET, training, seed=first_seed, progress=share)
        label: Row = {"arm": name, "seed": number}
        rows += [label | row for row in _measure(net, arm, players[best], size.num_trials, seed)]
    tables = {"arms": average_seeds(rows, ("arm", "measure")), "players": _player_rows(players), "nets": rows}
    tell(1.0, "done")
    return Findings(
        name="ingredients", question=EXPERIMENTS["ingredients"].question, tables=tables,
        notes=_notes(tables, best, size),
        provenance={
            "task": {"kind": TASK.kind, **asdict(TASK)}, "net": asdict(NET),
            "training": asdict(fit_training(TRAINING, size.frames)), "arms": {k: asdict(v) for k, v in ARMS.items()},
            "num_seeds": size.num_seeds, "num_trials": size.num_trials,
        },
    )  # fmt: skip


def _prefixed(tell: ProgressCallback, name: str) -> ProgressCallback:
    return lambda share, text: tell(share, f"{name}: {text}")


def _measure(net: Policy, arm: Arm, best: PlayedReference, num_trials: int, seed: int) -> list[Row]:
    """Adaptation index and return of each episode of one net, playing as it was trained, on trials of all tasks."""
    env = make_trial_env(TASK, arm.inputs, num_trials)
    reset = "each step" if arm.reset_memory else "never"
    scores = stage_scores(play_trials(net, env, reset_memory=reset, seed=seed))
    index = share_of_gain(pair_gains(scores, best.stages, 1), seed=seed)
    first: Row = {"measure": INDEX, "value": index.value, "low": index.low, "high": index.high, "n": index.n}
    return [first, *_episode_rows(scores)]


def _episode_rows(scores: np.ndarray) -> list[Row]:
    return [
        {"measure": f"return, episode {number}", **over_trials(column)}
        for number, column in enumerate(scores.T, start=1)
    ]


def _player_rows(players: dict[str, PlayedReference]) -> list[Row]:
    return [
        {"player": name, **row} for name, played in players.items() for row in _episode_rows(played.stages)
    ]  # fmt: skip


def _notes(tables: dict[str, list[Row]], best: str, size: _Size) -> list[str]:
    index = {str(row["arm"]): row for row in tables["arms"] if row["measure"] == INDEX}
    shown = "; ".join(f"{name} {_interval(row)}" for name, row in index.items())
    return [
        f"Adaptation index, mean of {size.num_seeds} seeds with its interval over seeds: {shown}. "
        f"1 is the second episode of the '{best}' player, 0 no gain over the first episode.",
        "Without its last action and the square it stands on an agent may still know what it did: it remembers what it "
        "meant to do, and a policy without chance does just that.",
        "An agent of one task is measured on goals that it never had; on its own there is nothing to adapt to.",
        f"One small task and one net: {size.frames:,} steps of training each. That an arm does not adapt here shows "
        "that it was not learned with this much training, not that it cannot be.",
    ]


def _interval(row: Row) -> str:
    if row["low"] is None:
        return f"{row['value']:+.2f}"
    return f"{row['value']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


FIGURES = {
    "index": figures.points(
        "arms", label="arm", x_title=f"{INDEX} (95 % intervals over seeds)", where={"measure": INDEX},
        grey=(UNTRAINED,), level=0,
    ),
    "nets": figures.points(
        "nets", label="arm", x_title=f"{INDEX} of each net (95 % intervals over trials)", where={"measure": INDEX},
        series="seed", level=0,
    ),
}  # fmt: skip
