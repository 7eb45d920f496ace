"""One call from an agent to the roles of its channels: what each codes, how far off its square, with which sign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.grid import BOX, TARGET
from planprobe.core.levels import LevelSet
from planprobe.core.records import Row
from planprobe.instruments.alignment import ChannelRole, align_channels, class_maps
from planprobe.instruments.concepts.catalog import Concept, Labels, get_concept
from planprobe.instruments.hooks import open_policy, select_sites
from planprobe.instruments.probes.bench import AGENT
from planprobe.instruments.probes.recording import Recording, Watch, record_states
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.plans import boards_from_observations

LAST_LAYER = "ticks.{-1}.{-1}.hook_h"
_RECORDED = 0.5  # of the work


@dataclass(frozen=True)
class AlignTable:
    """Results of `align_table`: roles by site, in order of channels. candidates: names of the maps that were tried."""

    agent: str
    roles: dict[str, list[ChannelRole]]
    candidates: tuple[str, ...]
    num_states: int
    levels: LevelSet

    @property
    def rows(self) -> list[Row]:
        """One a site and channel."""
        return [{"site": site, **role.row()} for site, roles in self.roles.items() for role in roles]


def align_table(
    agent: Agent,
    *,
    sites: str | Sequence[str] = LAST_LAYER,
    concepts: Sequence[str | Concept] = ("agent-approach-direction",),
    board: bool = True,
    reach: int = 2,
    min_correlation: float = 0.1,
    levels: str = "test",
    num_levels: int = 150,
    per_level: int = 4,
    seed: int = 0,
    on_progress: Callable[[float, str], None] | None = None,
) -> AlignTable:
    """Offset, sign and role of every channel of some sites; see `align_channels`.

    Args:
        concepts: of squares, a candidate map for each class but 'never', from what the agent goes on to do.
        board: also what stands on a square (target, box, agent) as candidates.
        levels, num_levels, per_level: what is played, and states of each episode.
    Raises: UnknownSiteError; UnknownConceptError; ShapeError (a concept of states, no squares, nothing to tell apart);
    TooFewLevelsError (under 10).
    """
    report, opened = on_progress or (lambda share, text: None), open_policy(agent.net, name=agent.name)
    asked = [get_concept(concept) for concept in concepts]
    found = [concept for concept in asked if isinstance(concept, Concept)]
    if states := [concept.name for concept in asked if not isinstance(concept, Concept)]:
        raise ShapeError(f"channels are aligned with concepts of squares; '{states[0]}' is one of states.")
    chosen, played = select_sites(opened, sites), agent.levels(levels, num_levels)
    report(0.0, "playing and recording")
    recording = record_states(
        opened, agent.make_env, played, Watch(found, {AGENT: (opened, chosen)}, {}, history=1), per_level=per_level,
        seed=seed, on_batch=lambda share: report(_RECORDED * share, "playing and recording"),
    )  # fmt: skip
    names, maps = _candidates(recording, found, agent.task.observation if board else None)
    roles = {}
    for number, site in enumerate(chosen):
        report(_RECORDED + (1 - _RECORDED) * number / len(chosen), site)
        roles[site] = align_channels(
            recording.activations[AGENT][site], maps, names, level_ids=recording.level_ids, is_row=recording.floor,
            reach=reach, min_correlation=min_correlation, seed=seed,
        )  # fmt: skip
    report(1.0, "done")
    return AlignTable(agent.name, roles, tuple(names), len(recording), played)


def _candidates(recording: Recording, concepts: Sequence[Concept], observation: str | None) -> tuple[list[str], Tensor]:
    """Maps (M, K, H, W) that are not the same everywhere, with their names."""
    names, parts = [], []
    for concept in concepts:
        labels = recording.labels[concept.name]["behaviour"]
        assert isinstance(labels, Labels)  # of a concept of squares
        ours, maps = class_maps(labels, name=concept.name)
        names, parts = [*names, *ours], [*parts, maps]
    if observation is not None:
        boards, players = boards_from_observations(recording.recent[:, 0], observation=observation)
        here = (
            torch.zeros_like(boards, dtype=torch.bool).flatten(1).scatter(1, players[:, None], True).view(boards.shape)
        )
        names += ["target", "box", "agent"]
        parts.append(torch.stack([(boards & TARGET) != 0, (boards & BOX) != 0, here], dim=1).float())
    maps = torch.cat(parts, dim=1) if parts else recording.floor.float()[:, None][:, :0]
    varied = ((maps > 0) & recording.floor[:, None]).flatten(2).any(2).any(0)
    if not bool(varied.any()):
        raise ShapeError("no candidate map marks any square on these levels: name concepts that occur in the task.")
    return [name for name, kept in zip(names, varied.tolist(), strict=True) if kept], maps[:, varied]
