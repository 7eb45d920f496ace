"""What hand-built agents share with trained ones: memory, ticks, named sites, and a code that only a fit can read.

An organism thinks in plain features, so many numbers a square (a wall, a distance, a move of its plan). What it *holds*
is never these, but a random rotation of them among channels that carry no meaning, with noise on top:

    cell   c = mix_cell [features, padding] + noise          ticks.{k}.0.hook_c
    hidden h = mix_hidden (mix_cell' c) + noise              ticks.{k}.0.hook_h

Both are read back, unmixed, from the value that the hook returned. Hence an edit at a site is an edit of what the
organism goes on with: there is no other copy. The observation passes through `hook_encode` in the same way.

Noise is a fixed table looked up by a hash of what is seen and of the tick, so that the same board gives the same noise
in any batch, with or without captures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from planprobe.core.errors import ShapeError
from planprobe.core.grid import NUM_MOVES
from planprobe.core.protocols import State
from planprobe.core.rng import draw_below, draw_bits, draw_uniform
from planprobe.subjects.nets.base import Modules, Taps

AMPLITUDE = 2.0  # of a feature that is there; half of it is the threshold at which it is read as there
BLOCKED = -25.0  # score of a move into a wall
NUM_PATTERNS, PATTERN_SQUARES = 64, 625
_STYLE, _CONTENT, _PATTERN = 401, 402, 403  # streams of the counter-based draws
_CLOCK = 0x5851F42D4C957F2D  # odd and large, so that steps do not meet the hashes of other boards


@dataclass(frozen=True)
class Style:
    """What differs between the seeds of one family. num_padding: channels without meaning; noise: sd on every unit."""

    seed: int = 0
    num_ticks: int = 3
    num_padding: int = 9
    temperature: float = 0.3
    noise: float = 0.05


def draw_style(seed: int, *, ticks: tuple[int, int] = (2, 4)) -> Style:
    """The style of a seed; ticks: inclusive range of ticks a step that suits the family."""
    parts = [float(draw_uniform(seed, _STYLE, torch.tensor([number]))) for number in range(4)]
    low, high = ticks
    return Style(
        seed=seed, num_ticks=low + int(parts[0] * (high - low + 1)), num_padding=4 + int(parts[1] * 13),
        temperature=0.2 + 0.3 * parts[2], noise=0.02 + 0.08 * parts[3],
    )  # fmt: skip


@dataclass(frozen=True)
class View:
    """What is seen. walls, targets, boxes (B, H, W) bool; player (B,) int64 flat square."""

    walls: Tensor
    targets: Tensor
    boxes: Tensor
    player: Tensor

    @property
    def goal(self) -> Tensor:
        """Flat square of the first target, (B,)."""
        return self.targets.flatten(1).to(torch.uint8).argmax(1)

    @property
    def player_mask(self) -> Tensor:
        """(B, H, W) bool."""
        return torch.zeros_like(self.walls.flatten(1)).scatter_(1, self.player[:, None], True).view_as(self.walls)


@dataclass(frozen=True)
class Tick:
    """Where in a step an update happens. keys (B,) int64: a hash of what is seen, and of the clock if there is one."""

    number: int
    is_last: bool
    keys: Tensor


def same_board(view: View, remembered: Tensor) -> Tensor:
    """Whether the board in memory, plain features wall and target (B, 2, H, W), is the one seen, (B,) bool.

    A doubt of three quarters of the amplitude on any square counts as another board.
    """
    return (remembered - AMPLITUDE * board_features(view)).abs().amax((1, 2, 3)) < 0.75 * AMPLITUDE


def board_features(view: View) -> Tensor:
    """What a planner remembers of the board that its plan is for, (B, 2, H, W) in 0, 1."""
    return torch.stack([view.walls, view.targets], dim=1).float()


def read_view(plain: Tensor) -> View:
    """The view in plain features wall, target, (box,) player, (B, 3 or 4, H, W), noisy as they are.

    The border counts as wall whatever is shown: blank frames and edits must not send anybody off the board.
    """
    there = plain > AMPLITUDE / 2
    there[:, 0, [0, -1]] = True
    there[:, 0, :, [0, -1]] = True
    boxes = there[:, 2] if plain.shape[1] == 4 else torch.zeros_like(there[:, 0])
    return View(there[:, 0], there[:, 1], boxes, plain[:, -1].flatten(1).argmax(1))


class CodedNet(nn.Module):
    """Base of organisms on boards. Follows `core.protocols.Policy`, on boards of any size.

    Args: planes: of the observation, 3 (wall, target, player) or 4 (with box before player); board (H, W): the usual
    size; style: of the seed. Memory: (h, c), each (B, C, H, W), and (B, 1) steps where `clocked`: noise then differs
    from step to step though the same is seen. A subclass names its `features`, and defines `update` and `act`.
    """

    num_layers, size_free, clocked = 1, True, False
    features: ClassVar[dict[str, int]] = {}
    mix_encode: Tensor
    mix_cell: Tensor
    mix_hidden: Tensor
    patterns: Tensor

    def __init__(self, *, planes: int, board: tuple[int, int], style: Style, num_actions: int = NUM_MOVES) -> None:
        super().__init__()
        self.planes, self.style, self.num_actions = planes, style, num_actions
        self.board = (board[0], board[1])
        features = self.name_features()
        self.num_features = sum(features.values())
        self.channels = max(self.num_features, planes) + style.num_padding
        ends = torch.tensor(list(features.values())).cumsum(0).tolist()
        self.slots = {
            name: slice(end - number, end) for (name, number), end in zip(features.items(), ends, strict=True)
        }
        generator = torch.Generator().manual_seed(style.seed)
        for site in ("encode", "cell", "hidden"):
            self.register_buffer(f"mix_{site}", draw_rotation(self.channels, generator))
        num_squares = 1 if self.board == (1, 1) else PATTERN_SQUARES
        patterns = torch.randn(NUM_PATTERNS, self.channels, num_squares, generator=generator)
        self.register_buffer("patterns", patterns, persistent=False)
        self._cut_patterns: dict[tuple[int, int], Tensor] = {}
        self.hook_encode, self.hook_policy, self.hook_value = nn.Identity(), nn.Identity(), nn.Identity()
        self.set_num_ticks(style.num_ticks)

    # an organism defines -------------------------------------------------------------------------------------------
    def update(self, view: Any, own: Tensor, around: Tensor, tick: Tick) -> Tensor:
        """One tick: new plain features (B, F, H, W) from what was read back of c (own) and of h (around), unclean."""
        raise NotImplementedError

    def act(self, view: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the moves (B, A), before temperature, and value (B,), from the plain features in h."""
        raise NotImplementedError

    def name_features(self) -> dict[str, int]:
        """Names of the features with their number of channels, in order."""
        return self.features

    def look(self, plain: Tensor) -> Any:
        """The view that `update` and `act` are given, from the planes as they were read back, (B, C_in, H, W)."""
        return read_view(plain)

    # shared ----------------------------------------------------------------------------------------------------------
    def set_num_ticks(self, num_ticks: int) -> None:
        """Tick more or less often a step; taps are made anew, so do it before hooks are added."""
        self.num_ticks = num_ticks
        self.ticks = Modules(Modules([Taps(("c", "h"))]) for _ in range(num_ticks))

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        zeros = torch.zeros(num_boards, self.channels, *(board or self.board), device=self.mix_cell.device)
        return (zeros, zeros.clone(), zeros.new_zeros(num_boards, 1)) if self.clocked else (zeros, zeros.clone())

    @torch.no_grad()
    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """One environment step: logits (B, A), value (B,), new memory. Raises: ShapeError."""
        self._check(observation)
        keys, clock = self._content_keys(observation), state[2:]
        if self.clocked:
            keys, clock = keys + _CLOCK * clock[0].squeeze(1).to(torch.int64), (clock[0] + 1,)
        noise_ids = self._draw_noise(keys)
        encoding = self.hook_encode(self._write(AMPLITUDE * observation.float(), self.mix_encode, noise_ids[:, -1]))
        view = self.look(self._read(encoding, self.mix_encode)[:, : self.planes])
        hidden, cell = state[0], state[1]
        own, around = self._read(cell, self.mix_cell), self._read(hidden, self.mix_hidden)
        for number, (taps,) in enumerate(self.ticks):
            tick = Tick(number, number == self.num_ticks - 1, keys)
            features = self.update(view, own[:, : self.num_features], around[:, : self.num_features], tick)
            cell = taps("c", self._write(features, self.mix_cell, noise_ids[:, 2 * number]))
            own = self._read(cell, self.mix_cell)
            hidden = taps("h", self._write(own, self.mix_hidden, noise_ids[:, 2 * number + 1]))
            around = self._read(hidden, self.mix_hidden)
        scores, value = self.act(view, around[:, : self.num_features])
        logits = self.hook_policy(scores / self.style.temperature)
        return logits, self.hook_value(value), (hidden, cell, *clock)

    @property
    def boards_apart(self) -> bool:
        """Whether a board is the same to the bit whatever others are in its batch; products of vectors round by it."""
        return self.board != (1, 1)

    def forward(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        return self.step(observation, state)

    def read(self, values: Tensor, site: str) -> dict[str, Tensor]:
        """Plain features by name in values (B, C, H, W) of a site, 'cell' or 'hidden': what a perfect probe sees."""
        plain = self._read(values, getattr(self, f"mix_{site}"))
        return {name: plain[:, slot] for name, slot in self.slots.items()}

    def _draw_noise(self, keys: Tensor) -> Tensor:
        """Which pattern each site gets in this step, (B, 2 K + 1): c and h tick by tick, then the encoding."""
        sites = torch.arange(2 * self.num_ticks + 1, device=keys.device)
        return draw_below(NUM_PATTERNS, self.style.seed, _PATTERN, keys[:, None], sites)

    def _write(self, plain: Tensor, mix: Tensor, noise_ids: Tensor) -> Tensor:
        """Mix plain features (B, <= C, H, W) with padding into channels, and add noise."""
        pattern = self._patterns_of(plain.shape[-2:]).index_select(0, noise_ids)  # nine times as fast as indexing
        full = torch.cat([plain, pattern[:, : self.channels - plain.shape[1]]], dim=1).flatten(2)
        if full.shape[2] == 1:  # vectors of many features: one large product, where a small one a board takes ten times
            return torch.addmm(pattern.flatten(1), full.flatten(1), mix.T, beta=self.style.noise).view_as(pattern)
        pattern.flatten(2).baddbmm_(mix.expand(len(full), -1, -1), full, beta=self.style.noise)
        return pattern

    def _read(self, values: Tensor, mix: Tensor) -> Tensor:
        if values.shape[2:].numel() == 1:
            return (values.flatten(1) @ mix).view(values.shape)
        # one small product a board: a 1x1 convolution of so few channels takes five times as long, and rounds by batch
        return torch.bmm(mix.T.expand(len(values), -1, -1), values.flatten(2)).view(values.shape)

    def _patterns_of(self, board: tuple[int, ...]) -> Tensor:
        """The patterns on a board (H, W), (NUM_PATTERNS, C, H, W), cut out once: a gather of whole rows is cheap."""
        height, width = board
        if (known := self._cut_patterns.get((height, width))) is None or known.device != self.patterns.device:
            known = self.patterns[:, :, : height * width].contiguous().unflatten(2, (height, width))
            self._cut_patterns[height, width] = known
        return known

    def _content_keys(self, observation: Tensor) -> Tensor:
        """A hash of what each board shows, (B,) int64."""
        shown = (1024 * observation.flatten(1).float()).round().to(torch.int64)
        return (shown * draw_bits(self.style.seed, _CONTENT, torch.arange(shown.shape[1], device=shown.device))).sum(1)

    def _check(self, observation: Tensor) -> None:
        if observation.ndim != 4 or observation.shape[1] != self.planes:
            raise ShapeError(
                f"observation of shape {tuple(observation.shape)}; this net reads (B, {self.planes}, H, W)."
            )
        if observation.shape[2] * observation.shape[3] > PATTERN_SQUARES:
            raise ShapeError(f"boards of {observation.shape[2]}x{observation.shape[3]}: 25x25 is the largest.")


def draw_rotation(size: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix (size, size)."""
    return torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
