"""Erase a concept from a running net: fitted on the agent's own episodes, applied at every tick of every step.

    erasure = fit_erasure(opened, make_env, levels, concept_target("agent-approach-direction"))
    with intervene(opened, erasure.edits(floor)):
        play(opened, env, level_ids)

One eraser a site, the same on every floor square, as a 1x1 probe is; walls are left alone. What is taken out at one
site changes what arrives at the next, and a memory writes anew what was taken from it. So sites are fitted one after
the other in the order in which they fire, each with the erasers of the others in force, and once more from the start,
since the last ones change what the first find in the next step (fitting all at once, however often, does not settle).
`check_erasure` tells what a linear read-out still finds. Source: concept scrubbing, Belrose et al. 2023, for a net
without memory.

It is linear read-outs that find nothing afterwards. A net may keep what it knows in another form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from planprobe.core.errors import ShapeError, UnknownSiteError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.records import Row
from planprobe.instruments.erasure.leace import Eraser, Moments, fit_eraser, random_erasers
from planprobe.instruments.erasure.rows import Episodes, Scope, find_block, make_edits, sum_moments
from planprobe.instruments.erasure.targets import Target
from planprobe.instruments.hooks import Edit, OpenedPolicy, select_sites

Sites = str | Sequence[str]
MEMORY = ("ticks.*.*.hook_c", "ticks.*.*.hook_h")
"""Everything a recurrent net carries: what is left in the cell would come back in the hidden state. Not every net has
both; see `memory_sites`."""


@dataclass(frozen=True)
class Erasure:
    """One eraser a site, in the order in which the sites fire.

    scope: 'square', the channels of each floor square by themselves; 'board', a whole site at once. joint: each site is
    guided by those before it (see `leace.fit_joint_erasers`), else by itself. moments: of the untouched net, by site;
    all sites concatenated under '' if joint. explained: share of the concept's variance that a linear guess at the site
    accounted for before anything was erased.
    """

    erasers: dict[str, Eraser]
    moments: dict[str, Moments]
    scope: Scope
    joint: bool
    explained: dict[str, float]
    num_levels: int
    num_states: int

    @property
    def num_draws(self) -> int:
        return max(eraser.num_draws for eraser in self.erasers.values())

    def edits(self, floor: Tensor | None, *, draws: Tensor | None = None) -> list[Edit]:
        """What `intervene` takes.

        Args: floor (B, H, W) bool, squares to erase on; used where the scope is 'square'. draws (B,): which eraser
            of several each board gets.
        """
        return make_edits(list(self.erasers), self.erasers, self.scope, self.joint, floor, draws, {}, {})

    def randomised(self, num_draws: int, *, seed: int, equal_length: bool = False) -> Erasure:
        """Random subspaces of the same rank at every site; equal_length: scaled to move activations as far.

        Source: random directions as the control of an erasure, Elazar et al. 2021; here in the same affine form.
        """
        drawn: dict[str, Eraser] = {}
        for number, (site, eraser) in enumerate(self.erasers.items()):
            drawn[site] = random_erasers(
                self.moments["" if self.joint else site], eraser.rank, num_draws, seed=seed * 1009 + number,
                moved=float(eraser.moved) if equal_length else None, **find_block(self.moments, site, self.joint),
            )  # fmt: skip
        return replace(self, erasers=drawn)


def fit_erasure(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    target: Target,
    *,
    sites: Sites | None = None,
    scope: Scope = "square",
    joint: bool = False,
    sweeps: int = 2,
    per_level: int = 6,
    max_steps: int | None = None,
    thinking_steps: int = 0,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> Erasure:
    """Let the agent play every level, and fit erasers on what it, and the net so far erased, holds on its way.

    The net is run through the episodes once a site and sweep.

    Args:
        levels: other ones than those that the erased agent is judged on. sites: `memory_sites` by default.
        sweeps: how often each site is fitted. per_level: states of each episode. max_steps: of an episode.
        thinking_steps: before each episode, as many as the erased agent will have: what is not there yet when it is
        fitted is not taken out when it is. on_progress: told the share that is done.
    Raises: UnknownSiteError; TooFewLevelsError; ShapeError (a site without squares, a concept that never varies).
    """
    if sweeps < 1:
        raise ShapeError(f"sweeps={sweeps}: erasers are fitted once or more.")
    names = memory_sites(opened) if sites is None else select_sites(opened, sites)
    episodes = Episodes(opened, make_env, levels, target, per_level, max_steps, seed, thinking_steps)
    clean = sum_moments(episodes, names, {}, scope, joint)
    names = [site for site in clean if site]  # in firing order
    erasers: dict[str, Eraser] = {}
    for done, site in enumerate(names * sweeps):
        moments = clean if done == 0 else sum_moments(episodes, names, erasers, scope, joint)
        erasers[site] = fit_eraser(moments["" if joint else site], **find_block(moments, site, joint))
        if on_progress:
            on_progress((done + 1) / (len(names) * sweeps))
    explained = {site: clean[site].explained() for site in names}
    return Erasure(erasers, clean, scope, joint, explained, len(levels), episodes.num_states)


def memory_sites(opened: OpenedPolicy) -> list[str]:
    """Cells and hidden states, or hidden states alone where a net has no cells. Raises: UnknownSiteError (neither)."""
    try:
        return select_sites(opened, MEMORY)
    except UnknownSiteError:
        return select_sites(opened, MEMORY[-1])


def check_erasure(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    target: Target,
    erasure: Erasure,
    *,
    per_level: int = 6,
    max_steps: int | None = None,
    thinking_steps: int = 0,
    seed: int = 0,
) -> list[Row]:
    """How much of the concept a fresh linear guess finds at each site, before and after erasure: one row a site.

    Fitted anew on `levels`, best other ones than those of the fit; without any relation it finds about features / rows.
    """
    erasers, scope = erasure.erasers, erasure.scope
    episodes = Episodes(opened, make_env, levels, target, per_level, max_steps, seed, thinking_steps)
    before = sum_moments(episodes, list(erasers), {}, scope, False)
    after = sum_moments(episodes, list(erasers), erasers, scope, erasure.joint, edited=True)
    return [
        {
            "site": site, "rank": eraser.rank, "features": after[site].num_features, "rows": after[site].num_rows,
            "explained_before": before[site].explained(), "explained_after": after[site].explained(),
            "moved_rms": float(eraser.moved.sqrt()), "spread_rms": float(before[site].covariance.trace().sqrt()),
        }
        for site, eraser in erasers.items()
    ]  # fmt: skip
