"""Exact activation patching: what changes when one part of the clean run stands in the corrupted one.

    pairs = observe_pairs(make_env, task_pairs(task, "move-goal", 100))
    effects = patch_pairs(opened, pairs, patch_grid(opened, "ticks.*.0.hook_h", squares="each"))
    effects.rows()                                               # tidy, with intervals over levels

Each patch of each pair is one board of a batch. It starts at the first patched step from the memory that the corrupted
run had there (its carry), is shown what the corrupted run was shown, and is read at the last step. Effects are scaled
so that 0 is the corrupted run and 1 the clean one. `pairs.swap()` puts the corrupted run into the clean one.
Source: activation patching after Vig et al. 2020, Meng et al. 2022; clean and corrupted after Heimersheim & Nanda 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from planprobe.core.errors import AddressError, ShapeError, unknown_name
from planprobe.core.grid import board_size
from planprobe.core.levels import LevelSet
from planprobe.core.pairs import HistoryPairs, LevelPairs
from planprobe.core.play import BATCH_BOARDS, EnvMaker, take_boards
from planprobe.core.protocols import State
from planprobe.instruments.addresses import Address, Moment, region, select_sites, step_filter
from planprobe.instruments.cache import Cache
from planprobe.instruments.edits import Edit, ablate
from planprobe.instruments.hooks import OpenedPolicy, capture, intervene
from planprobe.instruments.patching.effects import PatchEffects, score_runs
from planprobe.instruments.patching.patches import Patch, check_addresses, patched_pairs

Source = Literal["patch", "zero", "mean", "resample"]
BLOCK_PAIRS = 64  # pairs whose runs are held at once, so that memory does not grow with their number
OnProgress = Callable[[float, float], None]


@dataclass(frozen=True)
class PairRuns:
    """Both runs of B pairs.

    pairs: the histories. ids: (B,) their rows among all pairs, which masks (N, H, W) go by. clean: activations of the
    clean run. carries: memory of the corrupted run before each step. clean_logits, corrupted_logits: (B, A) at the last
    step.
    """

    pairs: HistoryPairs
    ids: Tensor
    clean: Cache
    carries: list[State]
    clean_logits: Tensor
    corrupted_logits: Tensor

    def __len__(self) -> int:
        return len(self.pairs)


@torch.no_grad()
def observe_pairs(
    make_env: EnvMaker, pairs: LevelPairs, *, thinking_steps: int = 0, actions: Tensor | None = None
) -> HistoryPairs:
    """What both runs see: the first observation thinking_steps + 1 times, then one more after each forced action.

    Args: actions: (N, S) int64 moves that both runs are made to take; the best moves are then those of `pairs` still,
        so give moves after which they hold (or set them anew with `dataclasses.replace`).
    """
    forced = torch.zeros(len(pairs), 0, dtype=torch.int64) if actions is None else actions
    if forced.shape[:1] != (len(pairs),) or forced.ndim != 2 or thinking_steps < 0:
        raise ShapeError(f"actions {tuple(forced.shape)} for {len(pairs)} pairs and {thinking_steps} thinking steps.")
    histories, legal = [], []
    for levels in (pairs.clean, pairs.corrupted):
        ids, env = torch.arange(len(levels)), make_env(levels, len(levels))
        observations = [env.reset(ids)] * (thinking_steps + 1)
        observations += [env.step(action).observation for action in forced.T]
        histories.append(torch.stack(observations, dim=1))
        legal.append(_legal_moves(make_env, levels, forced))
    clean, corrupted = histories
    return HistoryPairs(
        clean, corrupted, pairs.clean_actions, pairs.corrupted_actions, legal[0] | legal[1], pairs.level_ids,
        pairs.change,
    )  # fmt: skip


def patch_pairs(
    opened: OpenedPolicy,
    pairs: HistoryPairs,
    patches: Sequence[Patch],
    *,
    source: Source = "patch",
    reference: Cache | None = None,
    seed: int = 0,
    num_boards: int = BATCH_BOARDS,
    on_progress: OnProgress | None = None,
) -> PatchEffects:
    """Apply every patch to every pair and measure what the policy at the last step makes of it.

    Args:
        patches: see `patch_grid`, `route_patches`. source: what is put in: 'patch', the clean run's activation at the
            same site and step; 'zero', 'mean' or 'resample', as `edits.ablate` has them.
        reference: typical runs for 'mean' and 'resample'; by default the clean runs of the first BLOCK_PAIRS pairs.
        seed: of resampling. num_boards: in one batch. on_progress(done, total).
    Raises: UnknownSiteError; ShapeError, AddressError (a patch does not fit its site, or names no step of the runs);
        NoContrastError (the policy answers both runs of every pair alike).
    """
    if source not in get_args(Source):
        raise unknown_name("source of a patch", source, get_args(Source))
    check_patches(opened, pairs, patches)
    sites = select_sites(opened, [patch.address.site for patch in patches])
    if source in ("mean", "resample") and reference is None:
        reference = record_pairs(opened, pairs, sites, torch.arange(len(pairs))[:BLOCK_PAIRS]).clean
    logits, clean, corrupted = [], [], []
    for done, ids in enumerate(blocks := torch.arange(len(pairs)).split(BLOCK_PAIRS)):
        runs = record_pairs(opened, pairs, sites, ids)
        donor = make_donor(runs, source, reference=reference, seed=seed)
        logits.append(patch_block(opened, runs, patches, donor, num_boards=num_boards))
        clean.append(runs.clean_logits)
        corrupted.append(runs.corrupted_logits)
        if on_progress:
            on_progress(done + 1, len(blocks))
    named = patched_pairs(patches, len(pairs))
    return score_runs(pairs, list(patches), torch.cat(logits, 1), torch.cat(clean), torch.cat(corrupted), named)


@torch.no_grad()
def record_pairs(opened: OpenedPolicy, pairs: HistoryPairs, sites: str | Sequence[str], ids: Tensor) -> PairRuns:
    """Run both histories of some pairs from initial memory; record sites of the clean run, and the corrupted run's
    memory."""
    pairs, board = pairs[ids], board_size(pairs.clean)
    state, logits = opened.initial_state(len(pairs), board), torch.empty(0)
    with capture(opened, sites, dtype=precision(opened)) as cache:
        for observation in pairs.clean.unbind(1):
            logits, _, state = opened.step(observation, state)
    clean_logits = logits
    state, carries = opened.initial_state(len(pairs), board), []
    for observation in pairs.corrupted.unbind(1):
        carries.append(state)
        logits, _, state = opened.step(observation, state)
    return PairRuns(pairs, ids, cache, carries, clean_logits, logits)


def precision(opened: OpenedPolicy) -> torch.dtype:
    """The dtype that the policy computes in: activations kept in another would not be its own."""
    return next((part.dtype for part in opened.parameters()), torch.float32)


Donor = Callable[[Tensor, Moment, Tensor], Tensor]
"""(value (B, ...), moment, rows (B,) of the block's pairs) -> what may be put in, shaped like the value."""


@torch.no_grad()
def patch_block(
    opened: OpenedPolicy, runs: PairRuns, patches: Sequence[Patch], donor: Donor, *, num_boards: int = BATCH_BOARDS
) -> Tensor:
    """Logits at the last step, (J, B, A), of each patch on each pair of a block."""
    steps = range(runs.pairs.num_steps)
    starts = [next(step for step in steps if step_filter(patch.address.steps)(step)) for patch in patches]
    answers: list[Tensor | None] = [None] * len(patches)
    for start in sorted(set(starts)):
        chosen = [number for number, first in enumerate(starts) if first == start]
        parts = []
        for rows in torch.arange(len(chosen) * len(runs)).split(num_boards):
            patch_ids, pair_ids = rows // len(runs), rows % len(runs)  # the pairs of one patch stand together
            edits = make_edits(opened, runs, [patches[number] for number in chosen], patch_ids, pair_ids, donor)
            parts.append(_run_from(opened, runs, start, pair_ids, edits))
        logits = torch.cat(parts).view(len(chosen), len(runs), -1)
        for number, answer in zip(chosen, logits, strict=True):
            answers[number] = answer
    return torch.stack([answer for answer in answers if answer is not None])


def _run_from(opened: OpenedPolicy, runs: PairRuns, start: int, pair_ids: Tensor, edits: list[Edit]) -> Tensor:
    """The corrupted run of some pairs from one step on, under edits: logits at the last step."""
    state, logits = take_boards(runs.carries[start], pair_ids), torch.empty(0)
    opened.clock = start
    with intervene(opened, edits):
        for observation in runs.pairs.corrupted[pair_ids, start:].unbind(1):
            logits, _, state = opened.step(observation, state)
    return logits


def make_edits(
    opened: OpenedPolicy, runs: PairRuns, patches: Sequence[Patch], patch_ids: Tensor, pair_ids: Tensor, donor: Donor
) -> list[Edit]:
    """One edit a site for a whole batch: board b has patch `patch_ids[b]` (sorted) and is pair `pair_ids[b]` of the
    runs."""
    entries: dict[str, list[tuple[Tensor, Address]]] = {}
    for number, rows in _runs_of_equals(patch_ids):
        address = patches[number].address
        for site in select_sites(opened, address.site):
            entries.setdefault(site, []).append((rows, address))
    return [_make_edit(site, parts, runs, pair_ids, donor) for site, parts in entries.items()]


def _make_edit(site: str, parts: list[tuple[Tensor, Address]], runs: PairRuns, pair_ids: Tensor, donor: Donor) -> Edit:
    num_steps = runs.pairs.num_steps  # where a policy plays on after the last one, nothing is put in
    wanted = [step_filter(address.steps) for _, address in parts]

    def put_in(value: Tensor, moment: Moment) -> Tensor:
        here = [part for part, is_wanted in zip(parts, wanted, strict=True) if is_wanted(moment.step)]
        if not here or moment.step >= num_steps:
            return value
        mask = torch.zeros(value.shape, dtype=torch.bool, device=value.device)
        for rows, address in here:
            named = region(address, site, value[rows], board_ids=runs.ids[pair_ids[rows]])
            mask[rows] = True if named is None else named.expand(len(rows), *value.shape[1:])
        return torch.where(mask, donor(value, moment, pair_ids).to(value), value)

    return Edit(Address(site), put_in)


def make_donor(runs: PairRuns, source: Source, *, reference: Cache | None = None, seed: int = 0) -> Donor:
    """What `patch_pairs` puts in, by its source."""
    if source == "patch":
        return lambda value, moment, rows: runs.clean.at(moment.site, moment.step)[rows]

    def put_ablated(value: Tensor, moment: Moment, rows: Tensor) -> Tensor:
        edit = ablate(Address(moment.site), source, reference=reference, seed=seed, board_ids=runs.ids[rows])
        return edit.apply(value, moment)

    return put_ablated


def check_patches(opened: OpenedPolicy, pairs: HistoryPairs, patches: Sequence[Patch]) -> None:
    """Raises: UnknownSiteError; AddressError (no patch, or one without a step of these runs); ShapeError."""
    select_sites(opened, [patch.address.site for patch in patches])
    if not patches:
        raise AddressError("no patch was given. Make some with patch_grid or route_patches.")
    steps = range(pairs.num_steps)
    for patch in patches:
        squares, wanted = patch.address.squares, step_filter(patch.address.steps)
        if not any(wanted(step) for step in steps):
            raise AddressError(
                f"steps {patch.address.steps} of '{patch.address.site}': these runs have steps 0 to {steps[-1]}, the "
                "thinking steps among them, and effects are read at the last."
            )
        if squares is not None and squares.ndim == 3 and len(squares) != len(pairs):
            raise ShapeError(f"squares {tuple(squares.shape)} for {len(pairs)} pairs: give one mask (H, W) a pair.")
    with torch.no_grad():  # a policy that does not tell what it sees has to be shown
        opened.step(pairs.clean[:1, 0], opened.initial_state(1, board_size(pairs.clean)))
    check_addresses(patches, opened.sites())


def _runs_of_equals(numbers: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(number, its places) of sorted numbers."""
    values, counts = numbers.unique_consecutive(return_counts=True)
    yield from zip(values.tolist(), torch.arange(len(numbers)).split(counts.tolist()), strict=True)


def _legal_moves(make_env: EnvMaker, levels: LevelSet, forced: Tensor) -> Tensor:
    """Moves that would move the player after the forced ones, (N, A) bool; all where the task does not tell."""
    ids, legal = torch.arange(len(levels)), []
    env = make_env(levels, len(levels))
    for action in range(env.num_actions):
        env.reset(ids)
        for forced_action in forced.T:
            env.step(forced_action)
        result = env.step(torch.full_like(ids, action))
        legal.append(result.extras.get("moved", torch.ones_like(ids, dtype=torch.bool)))
    return torch.stack(legal, dim=1)
