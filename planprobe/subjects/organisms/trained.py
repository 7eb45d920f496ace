"""Trained organisms: nets whose weights come from gradient descent, and whose answer follows from what they were given.

Hand-built codes are clean; a detector that has only met those might fail on what a real net makes of the same task. All
are small DRCs on 9x9 mazes, `agents/organisms/NAME-maze9-sSEED`: recipes of two seeds each, and the weights of those
that were trained and learnt their lesson.

| family | answer | why |
|---|---|---|
| signpost | does not plan | the best move on every square is shown to it: however well it acts, it need not compute |
| memorised | does not plan | rewarded on ten mazes with their goals and no other; a table of squares serves it there |
| no-use | does not plan | it only ever met goals in a straight line from it: going towards what one sees is enough |
| taught | plans: parallel sweep | taught after every tick what a wave from the goal has reached and what it found |
| taught-serial | plans: serial rollout | taught after every tick where a walker stands that tries way after way |

The first three were rewarded as any agent is (PPO). The other two were never rewarded: `training.teach` asks of every
square after every tick what an algorithm holds there, and of the policy the move that the algorithm has found by then.
How far they do what they were taught is measured, in their cards and in the tests: that the wave stands in memory tick
by tick, that first moves come with the time to think. Nothing forces the policy to go by the marks of the way (`plan`)
and not by the best move on its own square: whether writing such marks redirects it is for D7 to find out.
"""

from __future__ import annotations

from pathlib import Path

from planprobe.core.errors import RecipeError, UnknownAgentError, unknown_name
from planprobe.subjects.agent import WEIGHTS_FILE, load_folder
from planprobe.subjects.organisms.families import TRAINED, TRAINED_SIZE, Organism
from planprobe.subjects.zoo import agents_folder

FOLDER = "organisms"  # of the zoo, one deeper than its agents, so that nobody takes them for some


def trained_folder(family: str, seed: int) -> Path:
    """Where a trained organism lives. Raises: UnknownAgentError (no such family)."""
    if family not in TRAINED:
        raise unknown_name("trained organism", family, TRAINED, error=UnknownAgentError)
    return agents_folder() / FOLDER / f"{family}-maze{TRAINED_SIZE}-s{seed}"


def trained_seeds(family: str, kind: str, size: int) -> list[int]:
    """Seeds of which there are weights, for a kind of task and a size of board, sorted."""
    if kind != "maze" or size != TRAINED_SIZE:
        return []
    pattern = f"{trained_folder(family, 0).name.removesuffix('0')}*/{WEIGHTS_FILE}"
    names = [path.parent.name for path in (agents_folder() / FOLDER).glob(pattern)]
    return sorted(int(name.rpartition("-s")[2]) for name in names)


def load_trained(family: str, size: int = TRAINED_SIZE, seed: int = 0) -> Organism:
    """A trained organism; its task is the one that it was trained on, `agent` all that belongs to it.

    Raises: UnknownAgentError (no such family); RecipeError (none of this size or seed).
    """
    there = trained_seeds(family, "maze", TRAINED_SIZE)
    if size != TRAINED_SIZE or seed not in there:
        raise RecipeError(
            f"there is no '{family}' of size {size} and seed {seed}: there are weights for size {TRAINED_SIZE} and "
            f"seeds {there}.\n  Others: planprobe train on the recipe in its folder, with another seed."
        )
    agent, about = load_folder(trained_folder(family, seed)), TRAINED[family]
    return Organism(agent.net, family, agent.task, seed, about.answer, about.kind, agent)
