"""Futures refuse shapes that do not fit, and know by default."""

import pytest
import torch

from planprobe.core.errors import ShapeError
from planprobe.core.futures import Futures


def make(num_states=3, num_steps=2, **changes):
    shape = (num_states, num_steps)
    parts = {
        "positions": torch.zeros(num_states, num_steps + 1, dtype=torch.int64),
        "actions": torch.zeros(shape, dtype=torch.int64),
        "moved": torch.ones(shape, dtype=torch.bool),
        "pushed": torch.zeros(shape, dtype=torch.bool),
    }
    return Futures(**(parts | changes))


def test_every_future_is_known_unless_said_otherwise():
    assert make().known.tolist() == [True, True, True]
    known = torch.tensor([True, False, True])
    futures = make(known=known)
    assert len(futures[known]) == 2
    assert futures[known].known.all()
    assert not futures[1:2].known.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": torch.zeros(3, 2, dtype=torch.int64)},
        {"moved": torch.zeros(3, 3, dtype=torch.bool)},
        {"known": torch.zeros(2, dtype=torch.bool)},
        {"num_steps": 0},
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes):
    with pytest.raises(ShapeError, match="positions"):
        make(**changes)
