"""Typed errors: each replays the request, names what exists and offers the next move.

The CLI turns every `PlanprobeError` into one message and exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PlanprobeError(Exception):
    """Base of every error that planprobe raises on purpose."""


class ShapeError(PlanprobeError, ValueError):
    """Arrays disagree about an axis."""


class LevelFormatError(PlanprobeError, ValueError):
    """A level file or board is malformed."""


class UnknownNameError(PlanprobeError, KeyError):
    """A name that does not exist was asked for; the message lists what does."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class UnknownSiteError(UnknownNameError):
    """A network has no such hook point."""


class UnknownConceptError(UnknownNameError):
    """No such concept."""


class UnknownAgentError(UnknownNameError):
    """No such agent in the zoo or on disk."""


class RecipeError(PlanprobeError, ValueError):
    """A recipe is malformed, or holds an unknown key."""


class CheckpointError(PlanprobeError, ValueError):
    """A checkpoint is truncated, foreign, or does not fit the net."""


class BoardSizeError(PlanprobeError, ValueError):
    """An agent with a flattened head was given boards of another size."""


class CompiledPolicyError(PlanprobeError, TypeError):
    """Hooks on a compiled module are silently ignored, so instruments refuse it."""


class PolicyError(PlanprobeError, TypeError):
    """Not a policy that instruments can open, or one that was not opened."""


class AddressError(PlanprobeError, ValueError):
    """An address asks for steps, squares or channels that a run or a cache does not have."""


class NoContrastError(PlanprobeError, ValueError):
    """Clean and corrupted runs do not differ, so that there is nothing to patch back."""


class DirectionError(PlanprobeError, ValueError):
    """A steering direction is not of unit norm, so that its strength would mean nothing."""


class CaptureError(PlanprobeError, RuntimeError):
    """A run cannot be captured, or edited, as one value a site and step."""


class TooFewLevelsError(PlanprobeError, ValueError):
    """Too few independent levels to split by level and give an interval."""


class TrainingLevelsError(PlanprobeError, ValueError):
    """Levels that an agent was trained on, where what is read from it must not be memory of them."""


class UnreachableError(PlanprobeError, ValueError):
    """A level has no solution or no route where one is needed."""


class OutputError(PlanprobeError, OSError):
    """A result could not be written; nothing half-written is left."""


class TrainingDivergedError(PlanprobeError, ArithmeticError):
    """Loss or gradient became NaN or infinite; the last good checkpoint is kept."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The closest known name, or None where nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return matches[0] if matches else None


def unknown_name(
    kind: str,
    name: str,
    known: Iterable[str],
    *,
    where: str = "",
    next_move: str = "",
    error: type[UnknownNameError] | type[RecipeError] = UnknownNameError,
) -> PlanprobeError:
    """Build (not raise) the error for an unknown `kind`, with the nearest name and what exists."""
    known = sorted(known)
    lines = [f"{where + ' has ' if where else 'there is '}no {kind} '{name}'."]
    guess = nearest(name, known)
    shown = ", ".join(known[:24]) + (f", ... ({len(known)} in all)" if len(known) > 24 else "")
    lines.append((f"  Did you mean '{guess}'? " if guess else "  ") + f"It has: {shown}.")
    if next_move:
        lines.append(f"  {next_move}")
    return error("\n".join(lines))
