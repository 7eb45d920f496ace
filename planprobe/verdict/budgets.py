"""How much a study spends: three named budgets, fixed beforehand, so that a run is known by a word."""

from __future__ import annotations

from dataclasses import dataclass

from planprobe.core.errors import UnknownNameError, unknown_name


@dataclass(frozen=True)
class Budget:
    """Numbers of levels and draws; what a study can conclude is bounded by them (see each Evidence's power).

    num_levels: plain play, and thinking judged by solve rate. num_first_moves: levels for thinking judged by the first
    move, which costs one step each. thinking_steps, judged_steps, tick_factors: see D1. num_probe_levels,
    states_per_level: the rows of D4. kernels: of its read-outs. num_route_levels: two-route mazes of D7, half of them
    to choose strengths on; of Sokoban boards twice as many. alphas: those strengths. num_random, num_random_choice,
    num_wrong, num_shuffles: control draws of D7. num_layouts: of the ladder of D2, each on every rung, and of D6 on
    several ways. num_matched_rows: of the ladder of D3, of each rung, or as many as a small board has. law_steps: how
    long both look; in the longest look, what moves one square a step must get across the longest rung. num_changes:
    changed levels of D10. num_tick_levels: that D5 and D6 look at for `judged_steps`; num_turn_ticks: how many ticks
    are looked at, at least, where several ways could take turns. num_erased_levels, num_erased_draws: levels and random
    subspaces of D9. erase_episodes: ask D9 on whole episodes where first moves cannot be scored.
    clone: also train a memoryless net to imitate the agent, a control of D4 that takes minutes. seed: of everything.
    """

    name: str
    num_levels: int
    num_first_moves: int
    num_probe_levels: int
    num_route_levels: int
    thinking_steps: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    judged_steps: int = 8
    tick_factors: tuple[int, ...] = (2,)
    states_per_level: int = 4
    kernels: tuple[int, ...] = (1, 3)
    alphas: tuple[float, ...] = (0.5, 1, 2, 4, 8)
    num_random: int = 100
    num_random_choice: int = 6
    num_wrong: int = 4
    num_shuffles: int = 2
    num_layouts: int = 200
    num_matched_rows: int = 400
    law_steps: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24)
    num_changes: int = 400
    num_tick_levels: int = 120
    num_turn_ticks: int = 32
    num_erased_levels: int = 100
    num_erased_draws: int = 20
    erase_episodes: bool = False
    clone: bool = False
    seed: int = 0


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(
            "smoke", num_levels=16, num_first_moves=32, num_probe_levels=40, num_route_levels=20, thinking_steps=(0, 2),
            judged_steps=2, tick_factors=(), states_per_level=2, kernels=(1,), alphas=(2,), num_random=2,
            num_random_choice=1, num_wrong=1, num_shuffles=1, num_layouts=20, num_matched_rows=30, law_steps=(0, 2),
            num_changes=10, num_tick_levels=16, num_turn_ticks=4, num_erased_levels=12, num_erased_draws=2,
        ),
        Budget(
            "quick", num_levels=200, num_first_moves=1000, num_probe_levels=150, num_route_levels=400,
            thinking_steps=(0, 2, 8), tick_factors=(), kernels=(1,), alphas=(1, 2, 4, 8),
            num_layouts=80, num_matched_rows=180, num_changes=150,
        ),
        Budget(
            "full", num_levels=600, num_first_moves=5000, num_probe_levels=500, num_route_levels=600,
            num_tick_levels=400, num_erased_levels=300, num_erased_draws=100, erase_episodes=True, clone=True,
        ),
    )
}  # fmt: skip


def get_budget(name: str) -> Budget:
    """A named budget. Raises: UnknownNameError."""
    if name not in BUDGETS:
        raise unknown_name("budget", name, BUDGETS, where="a study", error=UnknownNameError)
    return BUDGETS[name]
