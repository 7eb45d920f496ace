"""Clean / corrupted pairs of histories that differ in psi alone, for tasks with trials: what is patched within a trial.

    histories = psi_pairs(agent.trial_task, 100, inputs=agent.recipe.inputs)
    effects = patch_pairs(opened, histories, patch_grid(opened, "ticks.*.*.hook_h", steps=range(histories.num_steps)))

Both runs are told which psi it is, in ways that the task decides, and then led to where they are shown the same and no
action is best for both. What differs there can only have come by memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.pairs import HistoryPairs
from planprobe.subjects.envs.trial_catalog import TrialTask
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.psi_pairs.choices import draw_arms, draw_states, draw_targets
from planprobe.subjects.psi_pairs.histories import PsiCandidates, choose_pairs
from planprobe.subjects.psi_pairs.moves import draw_permutations
from planprobe.subjects.psi_pairs.walks import draw_doors, draw_goals, draw_maze_goals

DrawPsi = Callable[[Any, Inputs, int, int], PsiCandidates]
"""(task, inputs, number of trials, seed) -> a pair of histories of each trial; trial i is the same in any number."""

PSI_PAIRS: dict[str, tuple[DrawPsi, int]] = {
    "hidden-goal": (draw_goals, 6), "doors": (draw_doors, 6), "maze-trial": (draw_maze_goals, 12),
    "sokoban-trial": (draw_permutations, 4), "bandit": (draw_arms, 60), "informative-bandit": (draw_targets, 1),
    "two-step": (draw_states, 12),
}  # fmt: skip
"""By kind of task, with how many trials are drawn for each pair that is asked for."""

SPARE = 8  # pairs that are drawn for too: a handful may need more trials than many do on average


def psi_pairs(task: TrialTask, num_pairs: int, *, inputs: Inputs | None = None, seed: int = 0) -> HistoryPairs:
    """`num_pairs` pairs (change 'psi') of histories (N, T, C, H, W), each of another trial.

    Args: inputs: what the agent is told, all of it by default. More pairs begin with the fewer.
    Raises: RecipeError (a kind of task without such pairs, or options that would make histories differ in more than
        psi); TooFewLevelsError (too few draws do).
    """
    if task.kind not in PSI_PAIRS:
        raise unknown_name("kind of task with pairs that differ in psi", task.kind, PSI_PAIRS, error=RecipeError)
    if num_pairs < 1:
        raise RecipeError(f"{num_pairs} pairs were asked for: needs at least one.")
    draw, pool = PSI_PAIRS[task.kind]
    candidates = draw(task, inputs or Inputs(), pool * (num_pairs + SPARE), seed)
    return choose_pairs(candidates, num_pairs, kind=task.kind)
