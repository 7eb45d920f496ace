"""Environment as memory (D15): an agent without memory that can leave a trace, one that cannot, and a scrambled trace.

Interval timing: an interval is shown, then the agent must wait as long and respond. On a track it may walk out while
the interval runs and home again, so that a feed-forward net can let its place do the remembering; on a track of one
square it cannot. GRUs with the same inputs have memory too. What is seen is the place and the phase, nothing of the
past.

Walking out pays only for who walks home, and walking home for who walked out. So even the exact gradient leads a
policy to a lesser one, which lets the track count the steps since the interval and is right for one interval alone.
Some nets therefore begin on a track that carries them out by itself while the interval runs, and learn the way home
before the way out; others must find both at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from planprobe.core.records import Evidence, Row
from planprobe.experiments import figures
from planprobe.experiments.catalog import EXPERIMENTS
from planprobe.experiments.intervals import average_seeds, over_trials
from planprobe.experiments.record import Findings, ProgressCallback, between, pick_budget, silent
from planprobe.experiments.small_nets import fit_training, fresh_net, train_net
from planprobe.instruments.detectors import environment_memory as detector
from planprobe.subjects.envs.timing import TimingTask
from planprobe.subjects.envs.trial_catalog import make_trial_env, training_seed
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.recipe import NetRecipe, TrainingRecipe
from planprobe.verdict.criteria import ENVIRONMENT_MEMORY
from planprobe.verdict.reference_scores import play_references

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent

TRACK = TimingTask(shortest=1, longest=3, track_length=4)
LESSONS = {
    "a track, carried out at first": (replace(TRACK, carried=True), TRACK),
    "a track": (TRACK,),
    "no track": (replace(TRACK, track_length=1),),
}
"""What nets are trained on, one task after the other; the last is the one that they are tested on."""
NETS = {
    "feed-forward": NetRecipe(kind="mlp", channels=48, num_blocks=1, hidden=32),
    "GRU": NetRecipe(kind="gru", channels=48, hidden=32),
}
INPUTS = Inputs(previous_action=False, reward=False, episode_end=False)
TRAINING = TrainingRecipe(
    num_boards=128, unroll=7, gamma=0.98, lr=(3e-3, 3e-4), entropy=(0.05, 0.0), epochs=3, num_minibatches=2
)


@dataclass(frozen=True)
class _Size:
    frames: int
    num_seeds: int
    num_trials: int


SIZES = {"smoke": _Size(600, 2, 50), "quick": _Size(120_000, 4, 2000), "full": _Size(2_000_000, 8, 10_000)}


def run_environment_memory(
    agents: Sequence[Agent] = (), *, budget: str = "quick", seed: int = 0, progress: ProgressCallback | None = None
) -> Findings:
    """Train nets with and without memory, with and without a track, and scramble; trains its own, takes no agents.

    Raises: UnknownNameError (budget).
    """
    tell, size = progress or silent, pick_budget(SIZES, budget)
    jobs = [(net, task, number) for net in NETS for task in LESSONS for number in range(size.num_seeds)]
    evidence, rows = [], []
    for done, (net, task, number) in enumerate(jobs):
        name = f"{net}, {task}, seed {number}"
        share = between(done / len(jobs), (done + 1) / len(jobs), tell)
        found = _judge(net, task, 1000 * seed + number, size, partial(_tell_of, share, name))
        found = replace(found, rows=[{"agent": name, **row} for row in found.rows])
        rows += [{"arm": f"{net}, {task}", "net": net, "task": task, **row} for row in found.rows]
        evidence.append(found)
    tables = {
        "conditions": average_seeds(rows, ("arm", "net", "task", "condition")),
        "references": _reference_rows(size.num_trials),
    }
    tell(1.0, "done")
    return Findings(
        name="environment-memory", question=EXPERIMENTS["environment-memory"].question, tables=tables,
        evidence=evidence, notes=_notes(tables, evidence),
        provenance={
            "lessons": {
                name: [{"kind": task.kind, **asdict(task)} for task in tasks] for name, tasks in LESSONS.items()
            },
            "nets": {name: asdict(net) for name, net in NETS.items()}, "inputs": asdict(INPUTS),
            "training": asdict(fit_training(TRAINING, size.frames)), "num_seeds": size.num_seeds,
            "num_trials": size.num_trials,
        },
    )  # fmt: skip


def _tell_of(tell: ProgressCallback, name: str, share: float, text: str) -> None:
    tell(share, f"{name}: {text}")


def _judge(net: str, task: str, seed: int, size: _Size, tell: ProgressCallback) -> Evidence:
    """D15 of one net, trained on one task after the other and tested on the last."""
    training, tested = fit_training(TRAINING, size.frames), LESSONS[task][-1]
    envs = [
        make_trial_env(lesson, INPUTS, training.num_boards, seed=training_seed(seed), autoreset=True)
        for lesson in LESSONS[task]
    ]
    trained = train_net(fresh_net(NETS[net], envs[0], seed=seed), envs, training, seed=seed, progress=tell)
    make, make_scrambled = (
        partial(make_trial_env, replace(tested, scramble=scramble), INPUTS) for scramble in (False, True)
    )
    return detector.run(
        trained, make, make_scrambled, num_trials=size.num_trials, min_effect=ENVIRONMENT_MEMORY.value, seed=seed
    )


def best_without_trace(task: TimingTask) -> float:
    """Most that an agent with neither memory nor trace can be paid: a response at an even chance each step, exactly."""
    waits = range(task.shortest, task.longest + 1)
    chances = [chance / 1000 for chance in range(1, 1000)]
    return max(sum(chance * (1 - chance) ** wait for wait in waits) / len(waits) for chance in chances)


def _reference_rows(num_trials: int) -> list[Row]:
    rows: list[Row] = []
    for condition, task in ((detector.INTACT, TRACK), (detector.SCRAMBLED, replace(TRACK, scramble=True))):
        for name, played in play_references(task, num_trials).items():
            total = (played.rewards * played.active).sum(1).double().numpy()
            rows.append({"player": name, "condition": condition, **over_trials(total)})
    exact = best_without_trace(TRACK)
    name = "best with neither memory nor trace (exact, tolerance 0)"
    return [*rows, {"player": name, "condition": detector.INTACT, "value": exact, "low": exact, "high": exact, "n": 1}]


def _notes(tables: dict[str, list[Row]], evidence: list[Evidence]) -> list[str]:
    shown = {(row["arm"], row["condition"]): f"{row['value']:.2f}" for row in tables["conditions"]}
    conditions = (detector.INTACT, detector.SCRAMBLED, detector.MEMORY)
    notes = [
        f"{arm}: right {', '.join(f'{shown[arm, name]} {name}' for name in conditions)}."
        for arm in dict.fromkeys(row["arm"] for row in tables["conditions"])
    ]
    for arm in dict.fromkeys(row["arm"] for row in tables["conditions"]):
        outcomes = [item.outcome for item in evidence if str(item.rows[0]["agent"]).rsplit(", seed ", 1)[0] == arm]
        kinds = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes))
        notes.append(f"{arm}: it keeps in the world what it has to remember (D15): {kinds}, of {len(outcomes)} nets.")
    return [
        *notes,
        "A track that carries nets out at first teaches them the way home and not the way out, which they have to find "
        "without it, in the second half of training.",
        "Always right is 1; who lets the track count the steps since the interval, and forgets the interval itself, "
        f"is right for one interval in {TRACK.longest - TRACK.shortest + 1}.",
        f"With neither memory nor a trace {best_without_trace(TRACK):.2f} is the most that can be had: responding with "
        "an even chance at every step.",
        "A net that was never shown a reset of its memory may lose by one whatever it kept where: that it loses is no "
        "proof that it remembers, that it loses nothing is proof that it does not.",
    ]  # fmt: skip


FIGURES = {
    "conditions": figures.points(
        "conditions", label="arm", series="condition", x_title="right responses (95 % intervals over seeds)",
        grey=(detector.NOTHING,),
    )
}  # fmt: skip
