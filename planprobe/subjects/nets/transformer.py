"""A small causal transformer whose memory is what it attended to so far: a key and value cache, one entry a step.

`step` adds one entry and attends to those there are; `unroll` runs T steps at once under a mask that is causal and ends
at trial starts. The two are equal to rounding. Blocks, sites and their order are those of TransformerLens (GPT-2 with
the norm before each part), so that a pattern is read at `blocks.0.attn.hook_pattern` as everywhere: (B, heads, keys)
for the query of each step, (B, T, heads, keys) once captured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planprobe.core.errors import RecipeError, ShapeError
from planprobe.core.protocols import State
from planprobe.subjects.nets.base import Modules
from planprobe.subjects.nets.vector import VectorNet

_NEVER = float("-inf")


class Transformer(VectorNet):
    """`num_layers` blocks of `num_heads` heads on a linear encoding of the observation; other arguments of `VectorNet`.

    context: longest trial in steps; longer ones are refused, for nothing was learned about such positions.
    Memory: (keys_0, values_0, keys_1, ..., steps so far): caches (B, heads, context, C / heads) and (B,) float32.
    Raises: RecipeError (channels that the heads cannot share, no context).
    """

    def __init__(
        self,
        *,
        planes: int,
        board: tuple[int, int],
        num_actions: int,
        context: int,
        channels: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        head: str = "flatten",
        hidden: int = 64,
    ) -> None:
        super().__init__(
            planes=planes, board=board, num_actions=num_actions, channels=channels, head=head, hidden=hidden
        )
        if num_heads < 1 or channels % num_heads:
            raise RecipeError(f"{channels} channels cannot be shared evenly by {num_heads} heads.")
        if context < 1:
            raise RecipeError("a transformer must know how many steps it may remember: set context in [net].")
        self.num_layers, self.num_heads, self.context = num_layers, num_heads, context
        self.positions = nn.Parameter(0.02 * torch.randn(context, channels))
        self.hook_pos_embed = nn.Identity()
        self.blocks = Modules(Block(channels, num_heads) for _ in range(num_layers))
        self.ln_final = nn.LayerNorm(channels)

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        shape = (num_boards, self.num_heads, self.context, self.channels // self.num_heads)
        cache = self.encoder.weight.new_zeros(shape)
        return (*(cache,) * (2 * self.num_layers), cache.new_zeros(num_boards))

    def encode(self, observation: Tensor) -> Tensor:
        return self.embed(observation)[:, :, None, None]

    def advance(self, drives: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        position = state[-1].long()
        self._check_room(position)
        x = drives[0].flatten(1) + tap_vector(self.hook_pos_embed, self.positions[position])
        may_see = torch.arange(self.context, device=x.device) <= position[:, None]
        caches: list[Tensor] = []
        for block, keys, values in self._by_block(state):
            x, keys, values = block.step(x, keys, values, position, may_see)
            caches += [keys, values]
        return self.ln_final(x)[:, :, None, None], (*caches, state[-1] + 1)

    def _recur(self, drives: tuple[Tensor, ...], state: State, starts: Tensor) -> tuple[Tensor, State]:
        trial = starts.to(torch.int64).cumsum(0).T  # (B, T): trials begun since the unroll did
        position = _positions(state[-1].long(), starts.T)
        self._check_room(position)
        num_boards, num_steps = position.shape
        encodings = drives[0].flatten(1).unflatten(0, (num_steps, num_boards)).transpose(0, 1)
        x = encodings + self.positions[position]
        cached = torch.arange(self.context, device=x.device) < state[-1][:, None]
        sees_cache = (trial == 0)[:, :, None] & cached[:, None]
        causal = torch.ones(num_steps, num_steps, dtype=torch.bool, device=x.device).tril()
        sees_steps = (trial[:, :, None] == trial[:, None]) & causal
        may_see = torch.cat([sees_cache, sees_steps], dim=2)
        goes_on, remains = trial == trial[:, -1:], trial[:, -1] == 0
        slots = torch.where(goes_on, position, self.context)  # steps of trials that are over go to one slot too many
        caches: list[Tensor] = []
        for block, keys, values in self._by_block(state):
            x, new_keys, new_values = block.unroll(x, keys, values, may_see)
            caches += [_fill(keys, new_keys, slots, remains), _fill(values, new_values, slots, remains)]
        top = self.ln_final(x).transpose(0, 1).flatten(0, 1)[:, :, None, None]
        return top, (*caches, (position[:, -1] + 1).to(state[-1].dtype))

    def _by_block(self, state: State) -> Iterator[tuple[Block, Tensor, Tensor]]:
        return zip(self.blocks, state[0:-1:2], state[1:-1:2], strict=True)

    def _check_room(self, position: Tensor) -> None:
        if int(position.max()) >= self.context:
            raise ShapeError(
                f"step {int(position.max())} of a trial, and this net remembers {self.context}.\n"
                "  A longer trial needs a net trained with a larger context."
            )


class Block(nn.Module):
    """Attention, then two layers on each step, both added to what they read."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.hook_resid_pre, self.ln1, self.attn = nn.Identity(), nn.LayerNorm(channels), Attention(channels, num_heads)
        self.hook_attn_out, self.hook_resid_mid = nn.Identity(), nn.Identity()
        self.ln2, self.mlp = nn.LayerNorm(channels), MLPBlock(channels)
        self.hook_mlp_out, self.hook_resid_post = nn.Identity(), nn.Identity()

    def step(
        self, x: Tensor, keys: Tensor, values: Tensor, position: Tensor, may_see: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step x (B, C), caches before it, its position (B,), what it may see (B, context) -> x and caches."""
        x = tap_vector(self.hook_resid_pre, x)
        read, keys, values = self.attn.step(self.ln1(x), keys, values, position, may_see)
        x = tap_vector(self.hook_resid_mid, x + tap_vector(self.hook_attn_out, read))
        added = self.mlp(self.ln2(x), tap_vector)
        return tap_vector(self.hook_resid_post, x + tap_vector(self.hook_mlp_out, added)), keys, values

    def unroll(self, x: Tensor, keys: Tensor, values: Tensor, may_see: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """T steps x (B, T, C), caches before them, may_see (B, T, context + T) -> x and their keys and values."""
        read, new_keys, new_values = self.attn.unroll(self.ln1(x), keys, values, may_see)
        x = x + read
        return x + self.mlp(self.ln2(x), lambda hook, value: value), new_keys, new_values


class Attention(nn.Module):
    """Softmax attention over the steps of a trial."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.hook_q, self.hook_k, self.hook_v = nn.Identity(), nn.Identity(), nn.Identity()
        self.hook_attn_scores, self.hook_pattern, self.hook_z = nn.Identity(), nn.Identity(), nn.Identity()

    def step(
        self, x: Tensor, keys: Tensor, values: Tensor, position: Tensor, may_see: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What one step reads (B, C), and the caches with it in; arguments of `Block.step`."""
        q, k, v = self._project(x)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        keys, values = _put(keys, position, k), _put(values, position, v)
        scores = (keys @ q[..., None]).squeeze(-1) / math.sqrt(q.shape[-1])
        scores = self.hook_attn_scores(scores).masked_fill(~may_see[:, None], _NEVER)
        pattern = self.hook_pattern(scores.softmax(-1))
        z = self.hook_z((pattern[..., None, :] @ values).squeeze(-2))
        return self.out(z.flatten(1)), keys, values

    def unroll(self, x: Tensor, keys: Tensor, values: Tensor, may_see: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What T steps read (B, T, C), and their keys and values; arguments of `Block.unroll`."""
        q, k, v = (part.transpose(1, 2) for part in self._project(x))
        z = F.scaled_dot_product_attention(
            q, torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2), attn_mask=may_see[:, None]
        )
        return self.out(z.transpose(1, 2).flatten(2)), k, v

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """(..., C) -> queries, keys, values, each (..., heads, C / heads)."""
        return tuple(part.unflatten(-1, (self.num_heads, -1)) for part in self.qkv(x).chunk(3, dim=-1))


class MLPBlock(nn.Module):
    """Two layers on each step by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.hook_pre, self.hook_post = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor, tapped: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
        """x (..., C) -> the same; `tapped(hook, value)` runs a hook, or does not."""
        return self.narrow(tapped(self.hook_post, F.gelu(tapped(self.hook_pre, self.widen(x)))))


def tap_vector(hook: nn.Module, value: Tensor) -> Tensor:
    """Run a hook on (B, C), shown to it as a board of one square (B, C, 1, 1)."""
    if type(hook) is nn.Identity:
        return value
    return hook(value[:, :, None, None])[:, :, 0, 0]


def _put(cache: Tensor, position: Tensor, entry: Tensor) -> Tensor:
    """A copy of a cache (B, heads, context, d) with an entry (B, heads, d) at each board's position (B,)."""
    num_boards, num_heads = cache.shape[:2]
    boards = torch.arange(num_boards, device=cache.device)[:, None]
    heads = torch.arange(num_heads, device=cache.device)
    return cache.index_put((boards, heads, position[:, None]), entry)


def _fill(cache: Tensor, entries: Tensor, slots: Tensor, remains: Tensor) -> Tensor:
    """The cache after T steps: entries (B, heads, T, d) at slots (B, T), the last slot thrown away.

    remains (B,) bool: the trial of the cache goes on; elsewhere it is emptied first.
    """
    kept = F.pad(cache * remains[:, None, None, None].to(cache.dtype), (0, 0, 0, 1))
    where = slots[:, None, :, None].expand_as(entries)
    return kept.scatter(2, where, entries)[:, :, :-1].contiguous()


def _positions(before: Tensor, starts: Tensor) -> Tensor:
    """Steps since its trial began of every step (B, T); before (B,): of the first, unless a trial starts there."""
    steps = torch.arange(starts.shape[1], device=starts.device)
    last_start = torch.where(starts, steps, -1).cummax(1).values
    return torch.where(last_start >= 0, steps - last_start, before[:, None] + steps)
