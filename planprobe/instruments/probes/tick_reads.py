"""What is read off a net tick by tick while it looks at the first observation: the material of D5 and D6.

The agent thinks for some steps on the frozen first observation of every level, then plays. At each tick a read-out of
one square says what the agent will do there; it is fitted on other levels, once at that tick (`own`) and once at the
last tick for all ticks (`fixed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.levels import LevelSet
from planprobe.core.play import BATCH_BOARDS, EnvMaker, join_rollouts, play
from planprobe.core.protocols import State
from planprobe.instruments.concepts.catalog import Concept, Labels, States, behaviour_futures, floor_mask, get_concept
from planprobe.instruments.hooks import OpenedPolicy, capture, select_sites
from planprobe.instruments.probes.controls import shuffle_label_maps
from planprobe.instruments.probes.linear_probes import ProbeResult, fit_probes
from planprobe.instruments.probes.splits import Split, split_by_level
from planprobe.instruments.probes.square_rows import SquareRows, gather_windows, list_rows

MAX_TICKS = 32
DENSE_TICKS = 24  # of the first ticks each is kept; later ones are spread evenly
FRACTIONS = (0.45, 0.05, 0.5)  # of the levels; half of them are read, since order is counted on few squares a level
L2 = 1e-4
SHUFFLED = "labels of another level"
ENDS = (0, -1)  # what is kept of a net that is only compared at the first and the last tick


@dataclass(frozen=True)
class Thinking:
    """N levels thought about. ticks (T,): number of each kept tick, from 0; values[net] (T, N, C, H, W) float16, two
    ticks (first and last) of every net but the agent; labels: of the future after thinking; solved (N,) bool."""

    ticks: Tensor
    values: dict[str, Tensor]
    labels: Labels
    solved: Tensor


@dataclass(frozen=True)
class Read:
    """Classes read on R squares of the test levels. true (R,), -1 = no row; own, fixed (T, R): see the module."""

    true: Tensor
    own: Tensor
    fixed: Tensor


@dataclass(frozen=True)
class TickReads:
    """All that was read. ticks (T,); num_ticks: all that passed; level_index (R,) into num_levels test levels;
    order (R,): which square of the way, 0 = entered first, -1 = not on it; last (R,) bool: where the way ends.
    groups (num_levels,): of the test levels, what to resample: those of one layout go together.
    agent; controls by name, with the first and the last tick only. num_classes: 'never' included."""

    ticks: Tensor
    num_ticks: int
    level_index: Tensor
    num_levels: int
    groups: Tensor
    order: Tensor
    last: Tensor
    agent: Read
    controls: dict[str, Read]
    num_classes: int


def kept_ticks(num_ticks: int) -> Tensor:
    """At most MAX_TICKS of the ticks, the first ones and the very last among them, ascending (T,) int64."""
    if num_ticks <= MAX_TICKS:
        return torch.arange(num_ticks)
    late = torch.linspace(DENSE_TICKS, num_ticks - 1, MAX_TICKS - DENSE_TICKS).round().to(torch.int64)
    return torch.cat([torch.arange(DENSE_TICKS), late])


@torch.no_grad()
def think_aloud(
    opened: OpenedPolicy, observation: Tensor, site: str, num_steps: int, *, ends_only: bool = False
) -> tuple[Tensor, State]:
    """Activations (T, B, C, H, W) float16 of a site at the kept ticks of `num_steps` steps, and the memory left.

    Args: observation (B, C, H, W), frozen; site: a pattern of one site a tick.
    """
    names = select_sites(opened, site)
    kept = kept_ticks(len(names) * num_steps)
    wanted = set((kept[[0, -1]] if ends_only else kept).tolist())
    memory = opened.initial_state(len(observation), (observation.shape[2], observation.shape[3]))
    values = []
    for step in range(num_steps):
        here = [name for number, name in enumerate(names) if step * len(names) + number in wanted]
        if not here:
            memory = opened.step(observation, memory)[2]
            continue
        with capture(opened, here) as cache:
            memory = opened.step(observation, memory)[2]
        values += [cache[name][:, 0].half() for name in here]
    return torch.stack(values), memory


def record_thinking(
    opened: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    concept: str | Concept,
    site: str,
    *,
    thinking_steps: int,
    others: Mapping[str, OpenedPolicy],
) -> Thinking:
    """Let the agent think on every level and play it; `others` see what it saw. Raises: UnknownSiteError; ShapeError
    (a concept of states)."""
    found = get_concept(concept)
    if not isinstance(found, Concept):
        raise ShapeError(f"'{found.name}' is a concept of states; squares are read here.")
    values: dict[str, list[Tensor]] = {}
    rollouts = []
    for ids in torch.arange(len(levels)).split(BATCH_BOARDS):
        env = make_env(levels, len(ids))
        seen = env.reset(ids).clone()
        own, memory = think_aloud(opened, seen, site, thinking_steps)
        values.setdefault("", []).append(own)
        for name, other in others.items():
            values.setdefault(name, []).append(think_aloud(other, seen, site, thinking_steps, ends_only=True)[0])
        rollouts.append(play(opened, env, ids, initial_state=memory))
    rollout = join_rollouts(rollouts)
    states = States(torch.arange(len(levels)), torch.zeros(len(levels), dtype=torch.int64))
    floor = floor_mask(levels, rollout, states)
    futures = behaviour_futures(rollout, states, levels=levels)
    labels = found.label(futures, height=levels.height, width=levels.width, floor=floor)
    ticks = kept_ticks(len(select_sites(opened, site)) * thinking_steps)
    return Thinking(ticks, {name: torch.cat(parts, dim=1) for name, parts in values.items()}, labels, rollout.solved)


def read_ticks(thinking: Thinking, *, groups: Tensor | None = None, seed: int = 0) -> TickReads:
    """Fit the read-outs on some levels, and read the others.

    groups (N,): levels that are near-copies, such as those of one layout, which stay on one side; default: none are.
    Raises: TooFewLevelsError.
    """
    labels = thinking.labels
    level_ids = torch.arange(len(labels.values))
    groups = level_ids if groups is None else groups
    rows = list_rows(labels.is_row, level_ids)
    split = split_by_level(groups[rows.level_ids], fractions=FRACTIONS, seed=seed)
    parts = tuple(torch.isin(level_ids, rows.level_ids[part].unique()) for part in split)
    shuffled = shuffle_label_maps(labels.values, level_ids, parts, seed=seed)
    maps = torch.stack([rows.take(labels.values), rows.take(shuffled)]).to(torch.int64)
    agent, decoy = _read(thinking.values[""], maps, rows, split, labels.num_classes)
    controls = {SHUFFLED: Read(decoy.true, decoy.own[list(ENDS)], decoy.fixed[list(ENDS)])}
    for name, values in thinking.values.items():
        if name:
            controls[name] = _read(values, maps[:1], rows, split, labels.num_classes)[0]
    levels, level_index = rows.level_ids[split.test].unique(return_inverse=True)
    order = _rank_events(labels.horizon)
    number = rows.take(order)[split.test]
    final = rows.take(order == order.flatten(1).amax(1)[:, None, None])[split.test] & (number >= 0)
    total = int(thinking.ticks[-1]) + 1
    return TickReads(
        thinking.ticks, total, level_index, len(levels), groups[levels], number, final, agent, controls,
        labels.num_classes,
    )  # fmt: skip


def _read(values: Tensor, maps: Tensor, rows: SquareRows, split: Split, num_classes: int) -> list[Read]:
    """One a label map; values (T, N, C, H, W), maps (V, rows)."""
    test = split.test.nonzero().squeeze(1)
    fitted: list[Sequence[ProbeResult]] = []
    own: list[list[Tensor]] = [[] for _ in maps]
    for tick in range(len(values)):
        fitted.append(
            fit_probes(
                gather_windows(values[tick], rows, 1), maps, level_ids=rows.level_ids, split=split,
                num_classes=num_classes, l2_strengths=(L2,), tolerance=1e-4,
            )[0]
        )  # fmt: skip
        for number, probe in enumerate(fitted[-1]):
            own[number].append(probe.test_predictions)
    fixed: list[list[Tensor]] = [[] for _ in maps]
    for tick in range(len(values)):
        features = gather_windows(values[tick], rows, 1)[test]
        for number, probe in enumerate(fitted[-1]):
            fixed[number].append(probe.logits(features).argmax(1).to(torch.int8))
    return [
        Read(maps[number, test], torch.stack(own[number]), torch.stack(fixed[number])) for number in range(len(maps))
    ]


def _rank_events(horizon: Tensor) -> Tensor:
    """Which of a state's squares has its event first, second, ...; (M, H, W), -1 where it never has one."""
    flat = horizon.flatten(1).to(torch.int64)
    keys = flat.masked_fill(flat < 0, torch.iinfo(torch.int64).max)
    ranks = keys.argsort(dim=1, stable=True).argsort(dim=1)
    return ranks.masked_fill(flat < 0, -1).view_as(horizon)
