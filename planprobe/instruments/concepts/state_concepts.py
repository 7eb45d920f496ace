"""Concepts of a state as a whole: what will be done, how long it takes, what it is worth, whether it goes in circles.

Classes are read by a multinomial probe, numbers by ridge regression. How an episode ends is only known of episodes that
did end: where a time limit cut one, steps left and return to go are no rows. Labels of psi and belief are whatever the
task says of its trials (`Futures.facts`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.futures import Futures
from planprobe.core.grid import ACTION_NAMES
from planprobe.core.rng import draw_bits
from planprobe.instruments.concepts.labels import NO_ROW, StateConcept
from planprobe.instruments.concepts.square_concepts import HORIZONS, landing_squares


def action_ahead(futures: Futures, steps: int) -> Tensor:
    """The action `steps` after the present one (0 is the present one), (M,); no row where the future is over."""
    step = min(steps, futures.actions.shape[1] - 1)
    return futures.actions[:, step].masked_fill(futures.lengths <= steps, NO_ROW)


def steps_left(futures: Futures) -> Tensor:
    """Steps until the episode, or the plan, reaches its end, the present action included."""
    return _where_finished(futures.lengths.float(), futures)


def return_to_go(futures: Futures, *, discount: float = 1.0) -> Tensor:
    """Sum of rewards from the present action to the end."""
    rewards = futures.fact("rewards").float()
    weights = discount ** torch.arange(rewards.shape[1], device=rewards.device)
    return _where_finished((rewards * weights).sum(1), futures)


def is_in_cycle(futures: Futures) -> Tensor:
    """1 where some state of agent and boxes, at or before now, comes back after now, with a move in between.

    Waiting is no cycle. Boxes count as a set: two boxes that change places leave the same state.
    """
    before = futures.before
    assert before is not None  # `needs` says so
    agent = torch.cat([before.positions, futures.positions[:, 1:]], dim=1)
    pushed = torch.cat([before.pushed & before.moved, futures.pushed & futures.moved], dim=1)
    landing = torch.cat([landing_squares(before), landing_squares(futures)], dim=1)
    # a sum of one random key a box names the set of boxes, up to a constant: a push swaps one key for another
    change = (draw_bits(1, landing) - draw_bits(1, agent[:, 1:])) * pushed
    keys = torch.cat([torch.zeros_like(agent[:, :1]), change.cumsum(1)], dim=1) + draw_bits(2, agent)
    moves = torch.cat([before.moved, futures.moved], dim=1).cumsum(1)
    moves = torch.nn.functional.pad(moves, (1, 0))
    now = before.positions.shape[1]
    steps = torch.arange(1, futures.actions.shape[1] + 1, device=agent.device)
    back = keys[:, :now, None] == keys[:, None, now:]
    back &= moves[:, :now, None] < moves[:, None, now:]
    back &= (steps <= futures.lengths[:, None])[:, None]
    return back.flatten(1).any(1).to(torch.int64)


def is_closer(futures: Futures) -> Tensor:
    """1 where the last move came closer to the goal; no row at the start, or where a distance is not known."""
    now, before = futures.fact("distance"), futures.fact("distance_before")
    return (now < before).to(torch.int64).masked_fill((now < 0) | (before < 0), NO_ROW)


def distance_to_goal(futures: Futures) -> Tensor:
    """Optimal steps to the goal, whatever the agent does."""
    distance = futures.fact("distance").float()
    return distance.masked_fill(distance < 0, torch.nan)


def _where_finished(values: Tensor, futures: Futures) -> Tensor:
    return values.masked_fill(~futures.finished, torch.nan)


STATE_CONCEPTS = (
    *(
        StateConcept(f"action-ahead-{steps}", ACTION_NAMES, lambda futures, steps=steps: action_ahead(futures, steps))
        for steps in HORIZONS
    ),
    StateConcept("steps-left", (), steps_left),
    StateConcept("return-to-go", (), return_to_go, ("rewards",)),
    StateConcept("predicted-value", (), lambda futures: futures.fact("value"), ("value",)),
    StateConcept("distance-to-goal", (), distance_to_goal, ("distance",)),
    StateConcept("progress", ("not closer", "closer"), is_closer, ("distance", "distance_before")),
    StateConcept("in-cycle", ("no", "yes"), is_in_cycle, ("before",)),
    StateConcept("psi", (), lambda futures: futures.fact("psi"), ("psi",)),
    StateConcept("belief", (), lambda futures: futures.fact("belief"), ("belief",)),
)
