"""Replays: levels played again, with what is read of the plan at every tick, as one page that opens offline.

What is read has no controls beside it. It shows what to look for; the evidence is a probe table (`planprobe probe`),
and whether the agent acts on it is asked by plan steering.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.grid import ACTION_NAMES
from planprobe.core.levels import LevelSet
from planprobe.core.play import Rollout, play
from planprobe.core.protocols import State
from planprobe.core.records import Row
from planprobe.core.store import write_atomic
from planprobe.instruments.cache import Cache
from planprobe.instruments.concepts.catalog import Concept, get_concept
from planprobe.instruments.hooks import OpenedPolicy, capture, open_policy, select_sites
from planprobe.instruments.probes.linear_probes import ProbeResult
from planprobe.instruments.probes.table import fit_site_probes
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.plans import boards_from_observations

REPLAY_FILE, TEMPLATE_FILE = "view.html", "replay.html.jinja"
FIT_SPLIT = "valid"  # read-outs are fitted on other levels than those that are shown
LAST_LAYER = "ticks.*.{-1}.hook_h"
THINKING = -1  # the action of a thinking step
ARROWS = {"up": "↑", "down": "↓", "left": "←", "right": "→"}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_FITTED = 0.8  # of the work


@dataclass(frozen=True)
class Replay:
    """One level: T steps, thinking steps first, with K reads each.

    boards (T, H, W) uint8, players (T,) int64: as they stood before each step; end: the agent's last square. actions
    (T,) int64, THINKING where none was taken. policy (T, A): probabilities of actions after each step's ticks; values
    (T,). classes (T, K, H, W) int64: the likeliest class of each square; events (T, K, H, W): probability that its
    class is not the first, 'never'.
    """

    boards: Tensor
    players: Tensor
    end: int
    actions: Tensor
    policy: Tensor
    values: Tensor
    classes: Tensor
    events: Tensor
    solved: bool


@dataclass(frozen=True)
class Replays:
    """Several levels, and the read-outs they were seen through.

    sites: in the order in which they fire, one read each. read_outs: how each did on held-out levels, one row a site.
    """

    agent: str
    concept: str
    class_names: tuple[str, ...]
    sites: tuple[str, ...]
    read_outs: list[Row]
    num_fit_levels: int
    levels: LevelSet
    replays: list[Replay]

    def rows(self) -> list[Row]:
        """One a level: what came of it."""
        return [
            {
                "level": number, "solved": replay.solved, "steps": int((replay.actions != THINKING).sum()),
                "thinking_steps": int((replay.actions == THINKING).sum()),
                "first_move": ACTION_NAMES[int(replay.actions[replay.actions != THINKING][0])],
            }
            for number, replay in enumerate(self.replays, start=1)
        ]  # fmt: skip


def make_replays(
    agent: Agent,
    levels: LevelSet,
    *,
    concept: str | Concept = "agent-approach-direction",
    sites: str | Sequence[str] = LAST_LAYER,
    thinking_steps: int = 2,
    max_steps: int = 80,
    num_fit_levels: int = 150,
    per_level: int = 4,
    seed: int = 0,
    on_progress: Callable[[float, str], None] | None = None,
) -> Replays:
    """Fit one read-out a site, then play the levels and read every square at every tick.

    Args:
        levels: to be shown, all in one batch. concept: of squares. sites: patterns of `select_sites`, spatial sites.
        thinking_steps: on the frozen first observation. max_steps: shown of an episode at most.
        num_fit_levels, per_level: levels of the split 'valid' and states of each that read-outs are fitted on.
    Raises: UnknownConceptError; UnknownSiteError; ShapeError (a concept of states, no squares there);
    TooFewLevelsError (no level to show, or too few to fit on).
    """
    if len(levels) == 0:
        raise TooFewLevelsError("there is no level to replay: ask for one or more.")
    report, opened = on_progress or (lambda share, text: None), open_policy(agent.net, name=agent.name)
    found, chosen = get_concept(concept), tuple(select_sites(opened, sites))
    report(0.0, "fitting read-outs")
    probes = fit_site_probes(
        opened, agent.make_env, agent.levels(FIT_SPLIT, num_fit_levels), found, sites=list(chosen),
        per_level=per_level, seed=seed,
    )  # fmt: skip
    report(_FITTED, "playing")
    listener = _Listener(opened)
    with capture(opened, list(chosen)) as cache:
        rollout = play(
            listener, agent.make_env(levels, len(levels)), torch.arange(len(levels)), thinking_steps=thinking_steps,
            max_steps=max_steps, keep_observations=True,
        )  # fmt: skip
    told = torch.stack(listener.logits, dim=1), torch.stack(listener.values, dim=1)
    replays = [
        _cut(board, rollout, cache, probes, told, thinking_steps, agent.task.observation)
        for board in range(len(levels))
    ]
    report(1.0, "done")
    read_outs: list[Row] = [
        {"site": site, "macro_f1": probes[site].test_score, "l2": probes[site].l2} for site in chosen
    ]
    return Replays(agent.name, found.name, tuple(found.class_names), chosen, read_outs, num_fit_levels, levels, replays)


def write_replays(path: str | Path, replays: Replays) -> Path:
    """One HTML file with everything in it. Raises: OutputError (cannot be written)."""
    return write_atomic(path, render_replays(replays))


def render_replays(replays: Replays) -> str:
    """The page as text; names and data are escaped by the template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(TEMPLATE_FILE).render(book=replays, data=pack_replays(replays))


def pack_replays(replays: Replays) -> dict[str, Any]:
    """What the page draws, in little room: a board is a string of one digit a square, a probability one in base 36."""
    signs = ["", *(ARROWS.get(name, "•") for name in replays.class_names[1:])]
    return {
        "agent": replays.agent, "concept": replays.concept, "signs": signs, "sites": list(replays.sites),
        "actions": list(ACTION_NAMES), "height": replays.levels.height, "width": replays.levels.width,
        "levels": [_pack(replay) for replay in replays.replays],
    }  # fmt: skip


class _Listener:
    """The policy, and what it said in every step, thinking steps included, which a rollout does not keep."""

    def __init__(self, opened: OpenedPolicy) -> None:
        self._opened = opened
        self.logits: list[Tensor] = []
        self.values: list[Tensor] = []

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        return self._opened.initial_state(num_boards, board)

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        logits, value, state = self._opened.step(observation, state)
        self.logits.append(logits)
        self.values.append(value)
        return logits, value, state


def _cut(
    board: int, rollout: Rollout, cache: Cache, probes: dict[str, ProbeResult], told: tuple[Tensor, Tensor],
    thinking_steps: int, observation: str,
) -> Replay:  # fmt: skip
    """One board of a batch, as long as its own episode."""
    length = int(rollout.lengths[board])
    num_steps = thinking_steps + length
    acted = (torch.arange(num_steps) - thinking_steps).clamp(min=0)  # thinking steps look at the first observation
    assert rollout.observations is not None  # play was asked to keep them
    boards, players = boards_from_observations(rollout.observations[board, :length], observation=observation)
    reads = torch.stack([probe.read_board(cache[site][board, :num_steps]) for site, probe in probes.items()], dim=1)
    chances = reads.softmax(2)
    actions = rollout.actions[board, acted]
    actions[:thinking_steps] = THINKING
    return Replay(
        boards=boards[acted], players=players[acted], end=int(rollout.positions[board, length]), actions=actions,
        policy=told[0][board, :num_steps].softmax(-1), values=told[1][board, :num_steps],
        classes=chances.argmax(2), events=1 - chances[:, :, 0], solved=bool(rollout.solved[board]),
    )  # fmt: skip


def _pack(replay: Replay) -> dict[str, Any]:
    shades = (replay.events * (len(_DIGITS) - 1)).round().to(torch.int64).clamp(0, len(_DIGITS) - 1)
    return {
        "boards": _digits(replay.boards), "players": [*replay.players.tolist(), replay.end],
        "actions": replay.actions.tolist(),
        "policy": [[round(share, 3) for share in step] for step in replay.policy.tolist()],
        "values": [round(value, 3) for value in replay.values.tolist()], "solved": replay.solved,
        "classes": [_digits(step) for step in replay.classes], "shades": [_digits(step) for step in shades],
    }  # fmt: skip


def _digits(maps: Tensor) -> list[str]:
    """(N, H, W) of small numbers -> N strings, a character a square."""
    return ["".join(_DIGITS[number] for number in flat) for flat in maps.flatten(1).tolist()]
