"""Activations on disk: chosen sites of whole episodes, in half precision, however many levels there are.

    write_activations("acts", opened, make_env, levels, "ticks.*.*.hook_h")   # goes on where it was stopped
    store = open_activations("acts")
    store.sites                              # {'ticks.0.0.hook_h': (16, 11, 11), ...}
    store.index["step"]                      # level, episode, step, thinking, action, square, ... of every row
    store.read("ticks.1.0.hook_h", rows=store.where(level=[3, 4]))              # (N, C, H, W) float16
    store.ticks("hook_h", layer=0)                                              # names of one site over the ticks
    for rows, values in store.batches(["ticks.1.0.hook_h"], 4096): ...          # all of it, bounded memory

A row is one environment step of one episode; ticks are sites, since each tick has hook points of its own. A shard holds
the rows of a block of levels, one safetensors file with a tensor (N, C, H, W) a site and the index beside it. It is
written in one piece and renamed into place, so that a kill loses one block of levels at most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from planprobe.core.errors import CheckpointError, ShapeError, UnknownSiteError, unknown_name
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker, Rollout, play
from planprobe.core.store import load_tensors, save_tensors, write_json
from planprobe.instruments.addresses import select_sites, tick_and_layer
from planprobe.instruments.hooks import OpenedPolicy, capture

MANIFEST, SCHEMA = "store.json", 1
SHARD_LEVELS = 50  # fixed by the store, not by memory at hand: a shard is what a kill can lose
INDEX = ("level", "episode", "step", "thinking", "action", "square", "steps_left", "solved")
"""Columns: level, row of the level set; episode of it; environment step since its start; thinking, steps on the frozen
first observation still to come (0 for real steps); action taken; square of the agent; steps left, this one included;
solved, 1 if the episode was. Action -1: a thinking step."""


@dataclass(frozen=True)
class StoreCard:
    """What a store holds and how it was made; two runs with the same card continue each other.

    sites: shape on one board, by name. level_hash: of the whole level set. thinking_steps, max_steps: as `core.play`.
    weights_hash: of the net that was captured; a run that trained on is another net under the same name.
    """

    agent: str
    sites: dict[str, list[int]]
    level_hash: str
    num_levels: int
    thinking_steps: int = 0
    max_steps: int | None = None
    shard_levels: int = SHARD_LEVELS
    schema: int = SCHEMA
    weights_hash: str = ""

    @property
    def num_shards(self) -> int:
        return -(-self.num_levels // self.shard_levels)


@dataclass(frozen=True)
class ActivationStore:
    """A store opened for reading. Nothing but the index is in memory until rows are asked for.

    folder; card; index: one int64 column (N,) a name of `INDEX`; offsets: first row of each shard, and the number of
    rows N last. num_missing: shards that are not written yet.
    """

    folder: Path
    card: StoreCard
    index: dict[str, Tensor] = field(repr=False)
    offsets: list[int] = field(repr=False)
    shards: list[int] = field(repr=False)

    def __len__(self) -> int:
        return self.offsets[-1]

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        return {site: tuple(shape) for site, shape in self.card.sites.items()}

    @property
    def num_missing(self) -> int:
        return self.card.num_shards - len(self.shards)

    def axes(self, site: str) -> tuple[str, ...]:
        """Names of a site's axes, e.g. ('N', 'C', 'H', 'W'); see `core.axes`."""
        shape = self._shape(site)
        return ("N", *(("C", "H", "W") if len(shape) == 3 else ("C",) if len(shape) == 1 else "?" * len(shape)))

    def ticks(self, hook: str, *, layer: int) -> list[str]:
        """One site of one layer at every tick, in order: names to stack along K."""
        found = {site: tick_and_layer(site) for site in self.card.sites if site.rpartition(".")[2] == hook}
        return sorted(
            (site for site, place in found.items() if place[1] == layer), key=lambda site: found[site][0] or 0
        )

    def where(self, **columns: int | Sequence[int]) -> Tensor:
        """Rows (M,) whose index has one of the given values in every given column: where(level=[1, 2], step=0).

        Raises: UnknownNameError (column).
        """
        chosen = torch.ones(len(self), dtype=torch.bool)
        for name, values in columns.items():
            if name not in self.index:
                raise unknown_name("column", name, self.index, where="the index")
            wanted = torch.tensor([values] if isinstance(values, int) else list(values), dtype=torch.int64)
            chosen &= torch.isin(self.index[name], wanted)
        return chosen.nonzero().squeeze(1)

    def read(self, site: str, rows: Tensor | slice | None = None) -> Tensor:
        """Values of one site, (M, ...) float16, in the order of rows; all of them by default.

        Only the shards that hold a row are opened, and only this site of them is read.
        Raises: UnknownSiteError; ShapeError (a row that is not there); CheckpointError (a damaged shard).
        """
        shape = self._shape(site)
        ids = torch.arange(len(self))
        ids = ids if rows is None else ids[rows] if isinstance(rows, slice) else torch.as_tensor(rows)
        if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < len(self)):
            raise ShapeError(f"rows {int(ids.min())}..{int(ids.max())} of a store with {len(self)}.")
        values = torch.empty(len(ids), *shape, dtype=torch.float16)
        starts = torch.tensor(self.offsets[:-1])
        shard_of_row = torch.searchsorted(starts, ids.contiguous(), right=True) - 1
        for place in shard_of_row.unique().tolist():
            here = (shard_of_row == place).nonzero().squeeze(1)
            values[here] = self._read_shard(self.shards[place], site)[ids[here] - self.offsets[place]]
        return values

    def batches(self, sites: Sequence[str], num_rows: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Every row once, in order: (row ids (M,), site -> values (M, ...)), a shard at a time, M <= num_rows."""
        for place, shard in enumerate(self.shards):
            values = {site: self._read_shard(shard, site) for site in sites}
            for rows in torch.arange(self.offsets[place], self.offsets[place + 1]).split(num_rows):
                yield rows, {site: value[rows - self.offsets[place]] for site, value in values.items()}

    def _shape(self, site: str) -> list[int]:
        if site not in self.card.sites:
            raise unknown_name(
                "site", site, self.card.sites, where=f"the store '{self.folder}'", error=UnknownSiteError
            )
        return self.card.sites[site]

    def _read_shard(self, shard: int, site: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        path = _shard_path(self.folder, shard)
        try:
            with safe_open(str(path), framework="pt") as file:
                return file.get_tensor(site)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"'{path}' is damaged: {error}.\n  Next: delete it and capture again.") from None


def write_activations(
    folder: str | Path,
    agent: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    sites: str | Sequence[str],
    *,
    name: str = "",
    thinking_steps: int = 0,
    max_steps: int | None = None,
    shard_levels: int = SHARD_LEVELS,
    on_shard: Callable[[int, int], None] | None = None,
) -> ActivationStore:
    """Play every level once, greedily, and write the chosen sites at every step; goes on where an earlier call stopped.

    Memory is that of `shard_levels` episodes, whatever the number of levels.

    Args:
        sites: patterns of `select_sites`. name: of the agent. thinking_steps, max_steps: as `core.play.play`.
        on_shard(shards done, shards in all).
    Raises: UnknownSiteError; CheckpointError (the folder holds another store); OutputError (cannot be written).
    """
    folder, shapes = Path(folder), _site_shapes(agent, make_env, levels, sites)
    card = StoreCard(
        name, shapes, levels.hash(), len(levels), thinking_steps, max_steps, shard_levels,
        weights_hash=_hash_weights(agent),
    )  # fmt: skip
    if (folder / MANIFEST).is_file():
        _check_same(folder, read_card(folder), card)
    else:
        write_json(folder / MANIFEST, asdict(card))
    for shard in range(card.num_shards):
        if not _shard_path(folder, shard).is_file():
            ids = torch.arange(shard * shard_levels, min((shard + 1) * shard_levels, len(levels)))
            _write_shard(_shard_path(folder, shard), agent, make_env, levels, ids, card)
        if on_shard:
            on_shard(shard + 1, card.num_shards)
    return open_activations(folder)


def open_activations(folder: str | Path) -> ActivationStore:
    """A store for reading, finished or not. Raises: CheckpointError (no store, or a damaged one)."""
    folder = Path(folder)
    card = read_card(folder)
    shards = [shard for shard in range(card.num_shards) if _shard_path(folder, shard).is_file()]
    columns: list[dict[str, Tensor]] = []
    for shard in shards:
        tensors, _ = load_tensors(_index_path(folder, shard))
        columns.append({column: tensors[column].to(torch.int64) for column in INDEX})
    offsets = [0]
    for part in columns:
        offsets.append(offsets[-1] + len(part["level"]))
    nothing = torch.zeros(0, dtype=torch.int64)
    index = {column: torch.cat([nothing, *(part[column] for part in columns)]) for column in INDEX}
    return ActivationStore(folder, card, index, offsets, shards)


def read_card(folder: str | Path) -> StoreCard:
    """Raises: CheckpointError (no store there, or written by another version)."""
    path = Path(folder) / MANIFEST
    try:
        table = json.loads(path.read_text())
        if table.get("schema") != SCHEMA:
            raise ValueError(f"schema {table.get('schema')}, this version reads {SCHEMA}")
        return StoreCard(**table)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"'{folder}' is no activation store: {error}.\n  Next: planprobe capture writes one."
        ) from None


def _write_shard(
    path: Path, agent: OpenedPolicy, make_env: EnvMaker, levels: LevelSet, ids: Tensor, card: StoreCard
) -> None:
    with capture(agent, list(card.sites), dtype=torch.float16) as cache:
        rollout = play(
            agent, make_env(levels, len(ids)), ids, thinking_steps=card.thinking_steps, max_steps=card.max_steps
        )
    index, boards, clocks = _index_of(rollout, card.thinking_steps)
    save_tensors(_index_path(path.parent, int(path.stem.split("-")[1])), index, {"rows": len(boards)})
    values = {site: cache[site][boards, clocks] for site in card.sites}
    save_tensors(path, values, {"rows": len(boards), "agent": card.agent})


def _index_of(rollout: Rollout, thinking_steps: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Index columns of every active step, board by board, and where each stands: board, and step on the clock."""
    thinking = torch.ones(len(rollout.active), thinking_steps, dtype=torch.bool, device=rollout.active.device)
    boards, clocks = torch.cat([thinking, rollout.active], dim=1).nonzero(as_tuple=True)
    steps = (clocks - thinking_steps).clamp(min=0)
    still_thinking = (thinking_steps - clocks).clamp(min=0)
    index = {
        "level": rollout.level_ids[boards],
        "episode": torch.zeros_like(boards),
        "step": steps,
        "thinking": still_thinking,
        "action": rollout.actions[boards, steps].masked_fill(still_thinking > 0, -1),
        "square": rollout.positions[boards, steps],
        "steps_left": rollout.lengths[boards] - steps,
        "solved": rollout.solved[boards].to(torch.int64),
    }
    return {name: column.to(torch.int32) for name, column in index.items()}, boards, clocks


def _site_shapes(
    agent: OpenedPolicy, make_env: EnvMaker, levels: LevelSet, sites: str | Sequence[str]
) -> dict[str, list[int]]:
    names = select_sites(agent, sites)
    env = make_env(levels[:1], 1)
    with torch.no_grad(), capture(agent, names) as cache:
        agent.step(env.reset(torch.zeros(1, dtype=torch.int64)), agent.initial_state(1, (env.height, env.width)))
    return {name: list(cache[name].shape[2:]) for name in names}


def _hash_weights(agent: OpenedPolicy) -> str:
    """sha256 over names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(agent.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_same(folder: Path, found: StoreCard, wanted: StoreCard) -> None:
    differing = [
        f"{key}: {old} there, {getattr(wanted, key)} asked for"
        for key, old in asdict(found).items()
        if old != getattr(wanted, key)
    ]
    if differing:
        raise CheckpointError(
            f"'{folder}' holds another store; nothing was written.\n  " + "\n  ".join(differing)
            + "\n  Next: choose another folder, or ask for the same thing to go on with it."
        )  # fmt: skip


def _shard_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.safetensors"


def _index_path(folder: Path, shard: int) -> Path:
    return folder / f"index-{shard:05d}.safetensors"
