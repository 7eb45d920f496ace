"""Level identity: hashes and symmetry."""

import pytest
import torch

from planprobe.core.errors import ShapeError
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.levels import LevelSet, split_names


def some_levels(num_levels=12, size=6):
    generator = torch.Generator().manual_seed(0)
    boards = (torch.rand(num_levels, size, size, generator=generator) < 0.3).to(torch.uint8) * WALL
    boards[:, 2, 3], boards[:, 4, 1] = TARGET, BOX
    return LevelSet(boards, torch.randint(0, size * size, (num_levels,), generator=generator), "some")


def images(levels):
    """The eight images of every level, by moving the player along."""
    size = levels.height
    player = torch.zeros_like(levels.boards).flatten(1).scatter_(1, levels.players[:, None], 1).view_as(levels.boards)
    for turns in range(4):
        for flip in (False, True):
            board, where = (torch.rot90(part, turns, (-2, -1)) for part in (levels.boards, player))
            if flip:
                board, where = board.flip(-1), where.flip(-1)
            yield LevelSet(board.contiguous(), where.reshape(-1, size * size).argmax(1), "image")


def test_symmetric_images_share_key_and_split_and_nothing_else_does():
    levels = some_levels()
    keys = levels.canonical_keys()
    for image in images(levels):
        assert list(image.canonical_keys()) == list(keys)
        assert (split_names(image, with_player=True) == split_names(levels, with_player=True)).all()
    assert len(set(map(bytes, keys))) == len(levels)


def test_hash_sees_boards_and_starts_but_not_the_name():
    levels = some_levels()
    moved = LevelSet(levels.boards, (levels.players + 1) % 36, levels.name)
    renamed = LevelSet(levels.boards, levels.players, "other")
    assert levels.hash() == renamed.hash() != moved.hash()
    assert levels[:5].hash() != levels.hash()


def test_selection():
    levels = some_levels()
    assert len(levels[3]) == 1
    assert len(levels[-1]) == 1
    assert torch.equal(levels[[1, 2]].boards, levels.boards[1:3])


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match="uint8"):
        LevelSet(torch.zeros(2, 3, 3), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ShapeError, match="2 boards"):
        LevelSet(torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
