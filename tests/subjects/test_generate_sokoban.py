"""Generated levels are legal, solvable, different, reproducible, and split without leaks."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch

from planprobe.core.grid import BOX, TARGET, WALL, symmetries
from planprobe.core.levels import SPLITS, LevelSet, split_names
from planprobe.subjects.envs.generate_sokoban import GenerationError, generate_sokoban
from planprobe.subjects.envs.reverse_play import carve_rooms, flood


def walk(free: np.ndarray, start: int, width: int) -> set[int]:
    """Squares reachable from `start` over the flat squares that are `free`: the slow way."""
    reached, queue = {start}, deque([start])
    while queue:
        square = queue.popleft()
        for offset in (-width, width, -1, 1):
            if free[square + offset] and square + offset not in reached:
                reached.add(square + offset)
                queue.append(square + offset)
    return reached


def can_be_solved(board: np.ndarray, player: int) -> bool:
    """Search over single moves."""
    cells, width = board.ravel(), board.shape[1]
    walls = (cells & WALL) != 0
    targets = frozenset(np.flatnonzero(cells & TARGET).tolist())
    start = (player, frozenset(np.flatnonzero(cells & BOX).tolist()))
    seen, queue = {start}, deque([start])
    while queue:
        player, boxes = queue.popleft()
        if boxes == targets:
            return True
        for offset in (-width, width, -1, 1):
            ahead, after = player + offset, boxes
            if walls[ahead]:
                continue
            if ahead in boxes:
                if walls[ahead + offset] or ahead + offset in boxes:
                    continue
                after = (boxes - {ahead}) | {ahead + offset}
            if (ahead, after) not in seen:
                seen.add((ahead, after))
                queue.append((ahead, after))
    return False


@pytest.mark.parametrize(("size", "num_boxes"), [(5, (1, 1)), (7, (1, 2)), (8, (3, 3)), (12, (1, 1))])
def test_boards_are_legal(size: int, num_boxes: tuple[int, int]) -> None:
    levels = generate_sokoban(60, size=size, num_boxes=num_boxes, seed=1)
    cells = levels.boards.numpy()
    assert cells.shape == (60, size, size)
    assert levels.players.dtype == torch.int64
    for edge in (cells[:, 0], cells[:, -1], cells[:, :, 0], cells[:, :, -1]):
        assert (edge == WALL).all()
    assert set(np.unique(cells)) <= {0, WALL, TARGET, BOX}, "no box starts on a target, nothing stands in a wall"
    boxes, targets = ((cells & flag != 0).sum((1, 2)) for flag in (BOX, TARGET))
    assert (boxes == targets).all()
    assert boxes.min() >= num_boxes[0]
    assert boxes.max() <= num_boxes[1]
    at_player = cells.reshape(60, -1)[np.arange(60), levels.players.numpy()]
    assert not (at_player & (WALL | BOX)).any()


@pytest.mark.parametrize(("size", "num_boxes", "count"), [(5, 1, 30), (7, 1, 60), (7, 2, 40), (7, 3, 8)])
def test_every_level_can_be_solved(size: int, num_boxes: int, count: int) -> None:
    levels = generate_sokoban(count, size=size, num_boxes=(num_boxes, num_boxes), seed=2)
    for board, player in zip(levels.boards.numpy(), levels.players.tolist(), strict=True):
        assert can_be_solved(board, player), board


def test_rooms_are_connected() -> None:
    for room in carve_rooms(128, 10, np.random.default_rng(0)).T:
        floor = np.flatnonzero(~room)
        assert walk(~room, int(floor[0]), 10) == set(floor.tolist())


def test_levels_of_boxobans_size_have_its_share_of_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planprobe.subjects.envs.generate_sokoban.CHUNK_LEVELS", 512)  # saves a second
    levels = generate_sokoban(100, size=10, num_boxes=(4, 4), seed=0)
    share = ((levels.boards & WALL) == 0).sum() / (64 * 100)
    assert 0.44 < share < 0.55  # Boxoban, unfiltered: 0.50


def test_flood_equals_a_walk() -> None:
    rng = np.random.default_rng(1)
    free = rng.random((81, 64)) < 0.6
    free.reshape(9, 9, 64)[[0, -1]] = free.reshape(9, 9, 64)[:, [0, -1]] = False
    starts = free.argmax(0)
    reached = flood(free, starts, 9)
    for n, start in enumerate(starts):
        assert set(np.flatnonzero(reached[:, n]).tolist()) == walk(free[:, n], int(start), 9)


def test_starts_are_uniform_over_the_squares_the_player_can_walk_to() -> None:
    levels = generate_sokoban(1500, seed=3)
    shares = []
    for board, player in zip(levels.boards.numpy().reshape(1500, -1), levels.players.tolist(), strict=True):
        region = sorted(walk((board & (WALL | BOX)) == 0, player, 7))
        shares.append((region.index(player) + 0.5) / len(region))
    assert abs(np.mean(shares) - 0.5) < 0.03  # uniform: sd 0.29 / sqrt(1500) = 0.0075
    assert abs(np.std(shares) - 0.28) < 0.03


def test_number_of_boxes_is_uniform() -> None:
    levels = generate_sokoban(1500, num_boxes=(1, 3), seed=4)
    boxes = ((levels.boards & BOX) != 0).sum((1, 2))
    for count in (1, 2, 3):
        assert abs((boxes == count).float().mean() - 1 / 3) < 0.05


def test_levels_are_not_trivial() -> None:
    levels = generate_sokoban(500, num_boxes=(2, 2), seed=5)
    distance = []
    for board in levels.boards.numpy():
        boxes, targets = np.argwhere(board & BOX), np.argwhere(board & TARGET)
        near = np.abs(boxes[:, None] - targets[None]).sum(-1)
        distance.append(min(near[0, 0] + near[1, 1], near[0, 1] + near[1, 0]))
    assert np.mean(distance) > 3.2  # one push per box, the least there can be, would be 2


def test_same_seed_same_levels_and_a_prefix_of_more() -> None:
    first, again = (generate_sokoban(40, num_boxes=(1, 1), seed=6) for _ in range(2))
    assert first.hash() == again.hash() != generate_sokoban(40, num_boxes=(1, 1), seed=7).hash()
    assert generate_sokoban(2500, num_boxes=(1, 1), seed=6)[:40].hash() == first.hash()  # a second chunk is needed
    long = generate_sokoban(300, num_boxes=(1, 1), seed=6, split="test")
    few = generate_sokoban(40, num_boxes=(1, 1), seed=6, split="test")
    assert few.hash() == long[:40].hash()


def test_the_stream_of_levels_has_not_moved() -> None:
    """Stored results name levels by seed: a change here changes every level set (CHANGELOG: numbers that moved)."""
    assert generate_sokoban(500, seed=3).hash().startswith("03a0d274fcc5b519")


def test_no_layout_twice_up_to_symmetry() -> None:
    levels = generate_sokoban(3000, num_boxes=(1, 1), seed=8)
    assert len(set(levels.canonical_keys(with_player=False))) == 3000


def test_splits_share_no_layout_whatever_the_seed() -> None:
    arguments = {"size": 6, "num_boxes": (1, 1)}
    sets = {split: generate_sokoban(80, **arguments, seed=n, split=split) for n, split in enumerate(SPLITS)}
    keys = {split: set(levels.canonical_keys(with_player=False)) for split, levels in sets.items()}
    assert not keys["train"] & keys["valid"]
    assert not keys["train"] & keys["test"]
    assert not keys["valid"] & keys["test"]
    unsplit = set(generate_sokoban(400, **arguments, seed=9).canonical_keys(with_player=False))
    assert unsplit & keys["test"], "small boards do repeat between seeds; the split is what keeps them apart"
    assert [levels.name for levels in sets.values()] == ["sokoban6/train", "sokoban6/valid", "sokoban6/test"]


def test_split_names_follow_symmetry_and_their_shares() -> None:
    levels = generate_sokoban(2000, num_boxes=(2, 2), seed=9)
    names = split_names(levels, with_player=False)
    assert [
        abs((names == split).mean() - share) < 0.03 for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True)
    ] == [True] * 3
    for image in symmetries(levels.boards):
        turned = LevelSet(image.contiguous(), torch.zeros(2000, dtype=torch.int64))
        assert (split_names(turned, with_player=False) == names).all()
    assert list(split_names(levels[:16], with_player=False)) == list(names[:16])


@pytest.mark.parametrize("shape", [(7, 7), (5, 8)])
def test_canonical_keys_are_the_smallest_image(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    boards = torch.randint(0, 8, (300, *shape), generator=generator).to(torch.uint8) * (
        torch.rand(300, *shape, generator=generator) < 0.2
    )
    players = torch.randint(0, shape[0] * shape[1], (300,), generator=generator)
    with_player = boards.flatten(1).clone()
    with_player[torch.arange(300), players] += 8
    images = symmetries(with_player.view(boards.shape))
    prefix = b"7x7" if shape == (7, 7) else b""
    naive = [prefix + min(images[i, n].numpy().tobytes() for i in range(len(images))) for n in range(300)]
    assert LevelSet(boards, players).canonical_keys() == naive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 4}, "5-12"),
        ({"size": 13}, "5-12"),
        ({"num_boxes": (0, 2)}, "1 <= fewest"),
        ({"num_boxes": (3, 2)}, "1 <= fewest"),
        ({"num_boxes": (1, 6)}, "1 <= fewest"),
        ({"size": 5, "num_boxes": (5, 5)}, "need 11 squares"),
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"seed": -1}, "negative"),
        ({"num_levels": -1}, "negative"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        generate_sokoban(**({"num_levels": 3, "seed": 0} | arguments))


def test_an_exhausted_supply_says_how_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planprobe.subjects.envs.generate_sokoban.MAX_BARREN_CHUNKS", 2)
    monkeypatch.setattr("planprobe.subjects.envs.generate_sokoban.CHUNK_LEVELS", 512)
    with pytest.raises(GenerationError, match=r"only \d+ were found"):
        generate_sokoban(5000, size=5, num_boxes=(1, 1), seed=0)


def test_no_levels_is_an_empty_set() -> None:
    assert len(generate_sokoban(0, seed=0)) == 0
