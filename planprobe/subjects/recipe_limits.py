"""What numbers a recipe may hold.

A value out of its range would crash after minutes of making levels or, worse, train another agent in silence: an empty
range of time limits, a discount above 1, a net without ticks.
"""

from __future__ import annotations

import math
from typing import Any

from planprobe.core.errors import RecipeError

ANY = math.inf
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "task": {
        "warm_up_frames": (0, ANY), "num_boxes": (1, ANY), "warm_up_boxes": (1, ANY), "num_levels": (1, ANY),
        "time_limit": (1, ANY), "eval_time_limit": (1, ANY), "near_fraction": (0, 1), "max_walk": (1, ANY),
        "pool": (0, ANY), "thinking_steps": (0, ANY), "thinking_fraction": (0, 1),
    },
    "net": {
        "channels": (1, ANY), "num_layers": (1, ANY), "num_ticks": (1, ANY), "forget_bias": (-ANY, ANY),
        "hidden": (1, ANY), "num_blocks": (1, ANY), "num_heads": (1, ANY), "context": (0, ANY),
    },
    "training": {
        "frames": (1, ANY), "anneal_frames": (0, ANY), "num_boards": (1, ANY), "unroll": (1, ANY), "gamma": (0, 1),
        "lam": (0, 1), "lr": (0, ANY), "entropy": (0, ANY), "value_weight": (0, ANY), "clip": (0, ANY),
        "epochs": (1, ANY), "num_minibatches": (1, ANY), "grad_clip": (0, ANY), "logit_l2": (0, ANY),
        "adam_eps": (0, ANY), "reward_scale": (-ANY, ANY), "predict_weight": (0, ANY), "change_fraction": (0, 1),
        "eval_every": (1, ANY), "num_eval_levels": (1, ANY), "checkpoint_every": (1, ANY),
    },
}  # fmt: skip
"""Lowest and highest value of each number, ends included, and of both where there are two."""

ASCENDING = ("num_boxes", "warm_up_boxes", "braid", "time_limit", "thinking_steps")
"""Pairs that are (fewest, most); the others are (first, last) of a schedule."""

LARGEST_SEED = 2**62


def check_numbers(part: Any, section: str, *, where: str) -> None:
    """Compare a section of a recipe (a dataclass) with `RANGES`; sizes are checked by what makes the boards.

    Raises: RecipeError (out of range, not finite, or a pair in the wrong order).
    """
    for key, (low, high) in RANGES[section].items():
        value = getattr(part, key)
        for number in value if isinstance(value, tuple) else (value,):
            if not (math.isfinite(number) and low <= number <= high):  # NaN is in no range
                raise RecipeError(f"{where}: {section}: {key} is {_shown(value)}; it must be {_described(low, high)}.")
    for key in ASCENDING:
        pair = getattr(part, key, None)
        if pair is not None and pair[0] > pair[1]:
            raise RecipeError(f"{where}: {section}: {key} is {_shown(pair)}; it must be [fewest, most].")


def check_name(name: str, seed: int, *, where: str) -> None:
    """A name becomes a folder, and a seed seeds torch. Raises: RecipeError."""
    if not name or name.startswith(".") or any(letter in name for letter in "/\\\0"):
        raise RecipeError(f"{where}: name is {name!r}; it names a folder, as in 'drc12-rl-maze11-s0'.")
    if not 0 <= seed <= LARGEST_SEED:
        raise RecipeError(f"{where}: seed is {seed}; it must be 0 to 2^62.")


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _described(low: float, high: float) -> str:
    if math.isinf(low):
        return "finite"
    return f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
