"""LevelSet: a named, hashable bank of boards, the unit that every split and interval counts in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.grid import symmetries

SPLITS = ("train", "valid", "test")
_PLAYER_BIT = 8
_BLOCK = 65536  # levels canonicalised at once, to bound memory


@dataclass(frozen=True)
class LevelSet:
    """N levels of one board size.

    boards: (N, H, W) uint8, flags of `core.grid`; every border cell is a wall.
    players: (N,) int64, flat index of the start square.
    name: where the levels come from, e.g. 'sokoban7/test'.
    """

    boards: Tensor
    players: Tensor
    name: str = "unnamed"

    def __post_init__(self) -> None:
        if self.boards.ndim != 3 or self.boards.dtype != torch.uint8:
            raise ShapeError(f"boards must be (N, H, W) uint8, got {tuple(self.boards.shape)} {self.boards.dtype}.")
        if self.players.shape != self.boards.shape[:1]:
            raise ShapeError(f"{len(self.boards)} boards but players of shape {tuple(self.players.shape)}.")

    def __len__(self) -> int:
        return len(self.boards)

    def __getitem__(self, index) -> LevelSet:
        """Select levels by slice, list, mask or id tensor (a single int gives a set of one)."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        return replace(self, boards=self.boards[index], players=self.players[index])

    @property
    def height(self) -> int:
        return self.boards.shape[1]

    @property
    def width(self) -> int:
        return self.boards.shape[2]

    def to(self, device: torch.device | str) -> LevelSet:
        return replace(self, boards=self.boards.to(device), players=self.players.to(device))

    def hash(self) -> str:
        """sha256 over size, boards and starts: the identity stored beside every result."""
        digest = hashlib.sha256(repr(tuple(self.boards.shape)).encode())
        digest.update(self.boards.cpu().contiguous().numpy().tobytes())
        digest.update(self.players.cpu().to(torch.int64).contiguous().numpy().tobytes())
        return digest.hexdigest()

    def canonical_keys(self, *, with_player: bool = True) -> list[bytes]:
        """One key a level, equal for levels that are rotations or reflections of each other.

        `with_player=False` compares layouts only: mazes whose start and goal are drawn anew share a layout.
        """
        boards = self.boards.cpu().clone(memory_format=torch.contiguous_format)
        if with_player:
            starts = self.players.cpu()[:, None]
            boards.view(len(boards), -1).scatter_add_(
                1, starts, torch.full_like(starts, _PLAYER_BIT, dtype=torch.uint8)
            )
        shape = f"{self.height}x{self.width}".encode() if self.height == self.width else b""
        return [shape + key for block in boards.split(_BLOCK) for key in _smallest_images(block)]


def split_names(levels: LevelSet, *, with_player: bool) -> np.ndarray:
    """The split each level belongs to, (N,) str: 'train' (80 %), 'valid' (10 %) or 'test' (10 %).

    A stable hash of the canonical key decides, so that a level and its rotations and reflections land in the same split
    in every set, on every machine. `with_player=False` also keeps one layout with several starts on one side.
    """
    keys = levels.canonical_keys(with_player=with_player)
    hashes = [int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") for key in keys]
    tenths = (np.array(hashes, dtype=np.uint64) >> np.uint64(32)) * np.uint64(10) >> np.uint64(32)
    return np.array(["train"] * 8 + ["valid", "test"])[tenths.astype(np.int64)]


def _smallest_images(boards: Tensor) -> list[bytes]:
    """Bytes of the lexicographically smallest of each board's images, (N, H, W) uint8.

    Images are compared eight cells at a time as big-endian words, whose order is the order of their bytes.
    """
    images = symmetries(boards).flatten(2).numpy()
    num_cells = images.shape[2]
    padded = np.zeros((*images.shape[:2], -(-num_cells // 8) * 8), dtype=np.uint8)
    padded[..., :num_cells] = images
    words = padded.view(">u8").astype(np.uint64)
    rows = np.arange(len(boards))
    best_image = np.zeros(len(boards), dtype=np.int64)
    for image in range(1, len(words)):
        best = words[best_image, rows]
        first_difference = (words[image] != best).argmax(1)
        smaller = words[image][rows, first_difference] < best[rows, first_difference]
        best_image[smaller] = image
    chosen = images[best_image, rows].tobytes()
    return [chosen[start : start + num_cells] for start in range(0, len(chosen), num_cells)]
