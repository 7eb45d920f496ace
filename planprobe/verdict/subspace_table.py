"""One call from an agent to learned subspaces: pairs of its own task, a search at each site, every control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import NoContrastError
from planprobe.core.grid import NUM_MOVES, WALL, move_offsets
from planprobe.core.levels import LevelSet
from planprobe.core.play import play_levels
from planprobe.core.records import Row
from planprobe.instruments.erasure.subspaces import InterchangePairs, SubspaceFit, fit_subspace
from planprobe.instruments.hooks import open_policy, select_sites
from planprobe.subjects.agent import Agent
from planprobe.verdict.material import untrained_net

LAST_HIDDEN = "ticks.{-1}.{-1}.hook_h"
MIN_PAIRS = 10
_SPARE = 2  # bases and sources drawn for each pair that is asked for: in a dead end there is no other move


@dataclass(frozen=True)
class SubspaceTable:
    """Results of `subspace_table`: a fit a site, the pairs, and the two levels of each."""

    agent: str
    fits: dict[str, SubspaceFit]
    pairs: InterchangePairs
    base_levels: LevelSet
    source_levels: LevelSet
    notes: list[str]

    @property
    def rows(self) -> list[Row]:
        """One a site and condition."""
        return [row for fit in self.fits.values() for row in fit.rows]

    @property
    def losses(self) -> list[Row]:
        """One a site and epoch of the search."""
        return [
            {"site": site, "epoch": epoch, "loss": loss}
            for site, fit in self.fits.items()
            for epoch, loss in enumerate(fit.losses)
        ]

    def level_sets(self) -> dict[str, LevelSet]:
        """By the part they play, for provenance."""
        return {"base": self.base_levels, "source": self.source_levels}


def subspace_table(
    agent: Agent,
    *,
    sites: str | Sequence[str] = LAST_HIDDEN,
    ranks: Sequence[int] = (1, 2, 4),
    thinking_steps: int = 0,
    num_pairs: int = 300,
    levels: str = "test",
    num_untrained: int = 2,
    num_random: int = 100,
    epochs: int = 20,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    seed: int = 0,
    on_progress: Callable[[float, str], None] | None = None,
) -> SubspaceTable:
    """Is the next move carried by a few directions at the agent's own square? See `fit_subspace`.

    The runs of a pair are on two levels that have nothing in common. What the source holds at its agent's square,
    inside the subspace, is put at the base's agent's square; if the base then makes the source's move, the subspace
    carries it.

    Args:
        sites: patterns, a search at each. thinking_steps: before the move. levels: level set of the agent's task.
        num_untrained: nets of the agent's architecture with random weights; none for an agent without a recipe.
    Raises: UnknownSiteError; ShapeError (ranks, no squares there); NoContrastError (too few pairs); TooFewLevelsError.
    """
    report, opened = on_progress or (lambda share, text: None), open_policy(agent.net, name=agent.name)
    chosen = select_sites(opened, sites)
    report(0.0, "making pairs")
    pairs, bases, sources = move_pairs(agent, num_pairs, thinking_steps=thinking_steps, levels=levels, seed=seed)
    count = num_untrained if agent.folder is not None else 0
    nets = [open_policy(untrained_net(agent.recipe, agent.make_env, bases, number)) for number in range(count)]
    fits = {}
    for number, site in enumerate(chosen):
        report(number / len(chosen), site)
        fits[site] = fit_subspace(
            opened, pairs, site, ranks=ranks, untrained=nets, num_random=num_random, epochs=epochs,
            batch_size=batch_size, learning_rate=learning_rate, seed=seed,
        )  # fmt: skip
    report(1.0, "done")
    return SubspaceTable(agent.name, fits, pairs, bases, sources, [_note(fit) for fit in fits.values()])


def move_pairs(
    agent: Agent, num_pairs: int, *, thinking_steps: int = 0, levels: str = "test", seed: int = 0
) -> tuple[InterchangePairs, LevelSet, LevelSet]:
    """Pairs of runs on two levels each, where the source's first move is another one and no wall bars it in the base.

    No level is in two pairs, so that none is on both sides of a split. Targets are the agent's own moves in the source.
    Returns: up to `num_pairs` pairs, their base levels, their source levels.
    Raises: NoContrastError (under ten pairs: an agent that always makes the same move).
    """
    drawn = agent.levels(levels, 2 * _SPARE * num_pairs)
    half = len(drawn) // 2
    order = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(seed))
    bases, sources = drawn[order[:half]], drawn[order[half : 2 * half]]
    moves = [
        play_levels(agent.net, agent.make_env, each, thinking_steps=thinking_steps, max_steps=1).first_logits.argmax(1)
        for each in (bases, sources)
    ]
    matched = _match(moves, bases)[:num_pairs]
    if len(matched) < MIN_PAIRS:
        raise NoContrastError(
            f"{agent.name} makes another move that the base allows in {len(matched)} of {half} pairs of levels; a "
            f"search needs {MIN_PAIRS}.\n  Next: more pairs, or another level set."
        )
    bases, sources = bases[matched[:, 0]], sources[matched[:, 1]]
    pairs = InterchangePairs(
        _observe(agent, bases, thinking_steps), _observe(agent, sources, thinking_steps), moves[1][matched[:, 1]],
        torch.arange(len(matched)), bases.players, sources.players,
    )  # fmt: skip
    return pairs, bases, sources


def _observe(agent: Agent, levels: LevelSet, thinking_steps: int) -> Tensor:
    """The first observation as often as it is looked at, (N, T, C, H, W)."""
    seen = agent.make_env(levels, len(levels)).reset(torch.arange(len(levels)))
    return seen[:, None].expand(-1, 1 + thinking_steps, *seen.shape[1:])


def _match(moves: list[Tensor], bases: LevelSet) -> Tensor:
    """A source for each base, of a move that differs from the base's own and leads into no wall; (N, 2) row numbers.

    Of several such moves the one that most sources are left of, so that few bases go without.
    """
    ahead = bases.players[:, None] + move_offsets(bases.width)[:NUM_MOVES]
    allowed = (bases.boards.flatten(1).gather(1, ahead) & WALL) == 0
    left = [(moves[1] == move).nonzero().squeeze(1).tolist()[::-1] for move in range(NUM_MOVES)]
    matched = []
    for base, own in enumerate(moves[0].tolist()):
        move = max(range(NUM_MOVES), key=lambda move: len(left[move]) * bool(allowed[base, move]) * (move != own))
        if move != own and allowed[base, move] and left[move]:
            matched.append((base, left[move].pop()))
    return torch.tensor(matched, dtype=torch.int64).view(-1, 2)


def _note(fit: SubspaceFit) -> str:
    effect, beyond = fit.effect, fit.beyond
    number = f"{fit.rank} direction{'s' if fit.rank > 1 else ''}"
    text = (
        f"{fit.site}: {number} give the source's move in {effect.value:.0%} of held-out pairs, {beyond.value:+.3f} "
        f"[{beyond.low:+.3f}, {beyond.high:+.3f}] beyond '{fit.best_control}'."
    )
    if fit.beyond_site.low > 0:
        text += " It does better than the whole site, so it is no variable that the net uses."
    return text
