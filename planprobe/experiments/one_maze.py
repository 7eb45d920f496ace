"""One maze is a distribution: what a random start, a random initial memory, or a stochastic policy makes of it, alone.

An agent trained in one maze with one goal could be a fixed list of moves. Each of the three sources makes its histories
differ, so that acting on what it sees and remembers may pay. Small GRUs with a local view are trained with none of
them, with each alone, and with all; then each is put into the same maze under every kind of change, beside its own list
of moves played without looking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from planprobe.core.play_trials import FREE, TrialRollout, play_trials
from planprobe.core.records import Row
from planprobe.core.rng import draw_below
from planprobe.experiments import figures
from planprobe.experiments.catalog import EXPERIMENTS
from planprobe.experiments.intervals import average_seeds, over_trials
from planprobe.experiments.random_memory import NoisyStart, StartedGRU
from planprobe.experiments.record import Findings, ProgressCallback, between, pick_budget, silent
from planprobe.experiments.small_nets import fit_training, train_net
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.trial_catalog import TEST_SEED, training_seed
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.recipe import TrainingRecipe

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

TASK = MazeTrialTask(size=7, num_episodes=1, episode_steps=24, maze_id=4, one_goal=True, num_mazes=8)
CHANNELS, HIDDEN, NUM_SHAKEN = 48, 32, 4
KEEPS_CHANCE = (0.03, 0.03)
TRAINING = TrainingRecipe(
    num_boards=64, unroll=20, gamma=0.97, lr=(3e-3, 3e-4), entropy=(0.03, 0.0), epochs=2, num_minibatches=2
)
_DRAW_SHAKE = 302


@dataclass(frozen=True)
class Source:
    """What varies from trial to trial: the start, the initial memory, the actions (entropy is kept to the end)."""

    start: bool = False
    memory: bool = False
    policy: bool = False


NOTHING = "nothing"
SOURCES = {
    NOTHING: Source(), "random start": Source(start=True), "random initial memory": Source(memory=True),
    "stochastic policy": Source(policy=True), "all three": Source(start=True, memory=True, policy=True),
}  # fmt: skip
OWN_START, SHAKEN = "own start", f"first {NUM_SHAKEN} moves random"
CHANGES = (OWN_START, "random start", "random initial memory", SHAKEN)
AGENT, NO_MEMORY, LIST = "the agent", "memory reset each step", "its own moves, without looking"


@dataclass(frozen=True)
class _Size:
    frames: int
    num_seeds: int
    num_trials: int


SIZES = {"smoke": _Size(600, 1, 30), "quick": _Size(60_000, 4, 1000), "full": _Size(2_000_000, 8, 4000)}


def run_one_maze(
    agents: Sequence[Agent] = (), *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """Train in one maze with each source of change, then test under each; trains its own nets and takes no agents.

    Raises: UnknownNameError (budget).
    """
    tell, size = progress or silent, pick_budget(SIZES, budget)
    jobs = [(name, number) for name in SOURCES for number in range(size.num_seeds)]
    rows: list[Row] = []
    for done, (name, number) in enumerate(jobs):
        share = between(done / len(jobs), (done + 1) / len(jobs), tell)
        net = train_source(SOURCES[name], size.frames, seed=1000 * seed + number, progress=share)
        label: Row = {"trained_with": name, "seed": number}
        rows += [label | row for row in measure_net(net, SOURCES[name], size.num_trials, seed=seed)]
    tables = {"tests": average_seeds(rows, ("trained_with", "change", "player", "measure")), "nets": rows}
    tell(1.0, "done")
    return Findings(
        name="one-maze", question=EXPERIMENTS["one-maze"].question, tables=tables, notes=_notes(tables["tests"], size),
        provenance={
            "task": {"kind": TASK.kind, **asdict(TASK)}, "net": {"kind": "gru", "channels": CHANNELS, "hidden": HIDDEN},
            "training": asdict(fit_training(TRAINING, size.frames)), "entropy_kept": KEEPS_CHANCE,
            "num_seeds": size.num_seeds, "num_trials": size.num_trials,
        },
    )  # fmt: skip


def make_maze(num_boards: int, source: Source, *, seed: int = TEST_SEED, autoreset: bool = False) -> NoisyStart:
    """The one maze with the chosen things varying from trial to trial."""
    task = replace(TASK, start="redrawn" if source.start else "fixed")
    env = task.make_env(num_boards, seed=seed, autoreset=autoreset)
    return NoisyStart(env, Inputs(), channels=CHANNELS, random=source.memory)


def train_source(source: Source, frames: int, *, seed: int, progress: ProgressCallback = silent) -> StartedGRU:
    """A GRU trained in the one maze under one source of change."""
    training = fit_training(TRAINING, frames, entropy=KEEPS_CHANCE if source.policy else TRAINING.entropy)
    env = make_maze(training.num_boards, source, seed=training_seed(seed), autoreset=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = StartedGRU(
            planes=env.num_planes, board=(1, 1), num_actions=env.num_actions, channels=CHANNELS, hidden=HIDDEN
        )
    train_net(net, env, training, seed=seed, progress=progress)
    return net


def measure_net(net: StartedGRU, source: Source, num_trials: int, *, seed: int) -> list[Row]:
    """Share of trials that reach the goal in time, by change and player; and how many histories there are."""
    own = play_trials(net, make_maze(num_trials, source), seed=seed)
    settled = play_trials(net, make_maze(1, Source()), greedy=True)
    rows: list[Row] = [{"change": "as trained", "player": AGENT, "measure": "histories", **_histories(own)}]
    for change in CHANGES:
        world = Source(start=change == "random start", memory=change == "random initial memory")
        shake = _shake(num_trials, seed) if change == SHAKEN else None
        moves = _list_of_moves(settled, shake, num_trials)
        ways = {AGENT: (shake, "never"), NO_MEMORY: (shake, "each step"), LIST: (moves, "never")}
        for player, (forced, reset) in ways.items():
            env = make_maze(num_trials, world)
            rollout = play_trials(net, env, seed=seed, forced=forced, reset_memory=reset)
            label: Row = {"change": change, "player": player}
            rows.append(label | {"measure": "solved"} | over_trials(rollout.success.any(1).double().numpy()))
            rows.append(label | {"measure": "return"} | over_trials(rollout.returns.double().numpy()))
    return rows


def _shake(num_trials: int, seed: int) -> Tensor:
    """Random first moves (N, NUM_SHAKEN)."""
    boards, steps = torch.arange(num_trials)[:, None], torch.arange(NUM_SHAKEN)
    return draw_below(4, seed, _DRAW_SHAKE, boards, steps)


def _list_of_moves(settled: TrialRollout, shake: Tensor | None, num_trials: int) -> Tensor:
    """The moves that the agent settled on from its own start, over and over to the end of the time; after a shake."""
    moves = settled.actions[0][settled.active[0]]
    repeated = moves.repeat(-(-TASK.episode_steps // len(moves)))[: TASK.episode_steps].expand(num_trials, -1)
    return repeated if shake is None else torch.cat([shake, repeated], dim=1)[:, : TASK.episode_steps]


def _histories(rollout: TrialRollout) -> Row:
    """Effective number of different walks, e to the entropy of which walk a trial is; at most the number of trials."""
    squares = torch.where(rollout.active, rollout.extras["square_before"], FREE)
    counts = torch.unique(squares, dim=0, return_counts=True)[1].double()
    chances = counts / counts.sum()
    number = float(torch.exp(-(chances * chances.log()).sum()))
    return {"value": number, "low": None, "high": None, "n": len(squares)}


def _notes(rows: list[Row], size: _Size) -> list[str]:
    found = {(row["trained_with"], row["change"], row["player"], row["measure"]): row["value"] for row in rows}
    notes = []
    for name in SOURCES:
        solved = ", ".join(f"{found[name, change, AGENT, 'solved']:.2f} with {change}" for change in CHANGES)
        lost = found[name, SHAKEN, AGENT, "solved"] - found[name, SHAKEN, LIST, "solved"]  # pyright: ignore
        forgot = found[name, SHAKEN, AGENT, "solved"] - found[name, SHAKEN, NO_MEMORY, "solved"]  # pyright: ignore
        notes.append(
            f"Trained with {name}: {found[name, 'as trained', AGENT, 'histories']:.0f} different walks (effective "
            f"number); solved {solved}. When shaken, looking is worth {lost:+.2f} over its own moves played blindly, "
            f"memory {forgot:+.2f}."
        )
    return [
        *notes,
        "Training by policy gradient needs chance at first: 'nothing' is a policy whose chance is annealed away, not "
        "one that never had any, and what it learned from its early wandering is still in it.",
        f"One maze, {size.frames:,} steps, {size.num_seeds} seeds a source. That a net acts on what it sees is "
        "feedback, and no sign of planning.",
    ]


FIGURES = {
    "solved": figures.for_each(
        "change", "tests",
        figures.points(
            "tests", label="trained_with", series="player", x_title="goal reached in time (95 % intervals over seeds)",
            where={"measure": "solved"}, grey=(LIST,),
        ),
    ),
}  # fmt: skip
