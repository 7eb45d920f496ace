"""Level files: what real collections hold, everything that can be wrong, and Boxoban with its leaking splits."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from planprobe.core.errors import LevelFormatError, OutputError
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.levels import LevelSet
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.level_format import LEGEND
from planprobe.subjects.envs.level_text import (
    boxoban_levels,
    boxoban_root,
    level_to_text,
    levels_from_text,
    read_levels,
    render_text,
    write_levels,
)

COLLECTION = """\
Title: two hand-made levels, ragged and indented
Author: someone

Level 1
    #####
    #  .###
  ### $ @ #
  #*__-####
  ######
; between them
Comment:
#### this is prose, not a level ####
Comment-End:

#####
#+$ #
#####

    #####
    #  .###
  ### $ @ #
  #*__-####
  ######
"""


def test_a_ragged_collection_is_padded_closed_and_grouped_by_size() -> None:
    wide, small = levels_from_text(COLLECTION, "hand made.xsb")
    assert (wide.name, small.name) == ("hand made/5x9", "hand made/3x5")
    assert len(wide) == 2
    assert len(small) == 1
    expected = ["#########", "###  .###", "### $ @ #", "#*   ####", "#########"]
    assert level_to_text(wide.boards[0], int(wide.players[0])).split("\n") == expected
    assert small.boards[0].tolist()[1] == [WALL, TARGET, BOX, 0, WALL]
    assert small.players.tolist() == [6]
    assert wide.boards[0][3, 1] == BOX | TARGET


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending_is_a_line_ending(ending: str) -> None:
    sets = levels_from_text(COLLECTION.replace("\n", ending), "a.txt")
    assert [len(level_set) for level_set in sets] == [2, 1]


def test_boxoban_headers_separate_levels_without_blank_lines() -> None:
    (levels,) = levels_from_text("; 0\n#####\n#@$.#\n#####\n; 1\n#####\n#.$@#\n#####", "b.txt")
    assert levels.players.tolist() == [6, 8]


def test_a_maze_has_no_box_and_one_target() -> None:
    (levels,) = levels_from_text("#####\n#@ .#\n#####", "maze.txt")
    assert not (levels.boards & BOX).any()


MALFORMED = {
    "empty file": ("", "no level in it"),
    "only prose": ("Hello\n\nworld\n", "no level in it"),
    "no player": ("#####\n# $.#\n#####", "line 1: this level has no player"),
    "two players": ("\n\n#####\n#@$.#\n#@  #\n#####", "line 3: this level has 2 players"),
    "more boxes": ("######\n#@$$.#\n######", "2 boxes and 1 targets"),
    "no box, two targets": ("######\n#@ ..#\n######", "0 boxes and 2 targets"),
    "nothing to do": ("######\n#@   #\n######", "neither box nor target"),
    "unknown symbol": ("; 0\n#####\n#@$.#\n# x #\n#####", "line 4: unknown symbol 'x' in column 3"),
    "tab": ("#####\n\t#@$.#\n#####", r"line 2: unknown symbol '\\t'"),
    "open side": ("#####\n#@$.\n#####", "line 2: open border"),
    "hole in the top": ("## ##\n#@$.#\n#####", "open border"),
    "player on the edge": ("#####\n# $.#\n#@###", "line 2: open border|line 3: open border"),
    "box outside": ("#####  $\n#@$.#\n#.  #\n#####", "open border: '\\$' in column 8"),
    "too large": ("#" * 40 + "\n" + "#@$." + "#" * 36 + "\n" + "#" * 40, "3 x 40 squares.*\n.*at most 32"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_levels_are_refused_with_file_line_and_next_move(name: str, tmp_path: Path) -> None:
    text, message = MALFORMED[name]
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(LevelFormatError, match=message) as caught:
        read_levels(path)
    assert str(caught.value).startswith("bad.txt")
    assert "Next: " in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(LevelFormatError, match="cannot read levels"):
            read_levels(path)


def test_an_old_file_in_latin_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes("; Björn\n#####\n#@$.#\n#####".encode("latin-1"))
    assert len(read_levels(tmp_path / "old.txt")[0]) == 1


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="#@$.*+ -_;x\n\r\t|0", max_size=80))
def test_any_text_gives_closed_boards_or_a_typed_error(text: str) -> None:
    try:
        sets = levels_from_text(text, "fuzz.txt")
    except LevelFormatError:
        return
    for levels in sets:
        for edge in (levels.boards[:, 0], levels.boards[:, -1], levels.boards[:, :, 0], levels.boards[:, :, -1]):
            assert (edge == WALL).all()
        at_player = levels.boards.flatten(1).gather(1, levels.players[:, None])
        assert not (at_player & (WALL | BOX)).any()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_levels_or_a_typed_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.txt"
    path.write_bytes(raw)
    with contextlib.suppress(LevelFormatError):
        read_levels(path)


def test_written_levels_come_back_the_same(tmp_path: Path) -> None:
    small, large = (
        generate_sokoban(20, size=6, num_boxes=(1, 1), seed=0),
        generate_sokoban(20, size=8, num_boxes=(1, 1), seed=1),
    )
    write_levels(tmp_path / "both.xsb", [small, large], style="xsb")
    back = read_levels(tmp_path / "both.xsb")
    drawn, again = (
        [
            level_to_text(board, int(player))
            for level in sets
            for board, player in zip(level.boards, level.players, strict=True)
        ]
        for sets in ((small, large), back)
    )
    # outer walls two thick stay two thick: a board comes back square by square
    assert again == drawn
    assert [len(level_set) for level_set in back] == [20, 20]


def test_boxoban_style_is_boxobans_and_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    (levels,) = levels_from_text("#####\n#@$.#\n#####", "a.txt")
    write_levels(tmp_path / "a.txt", levels, style="boxoban")
    assert (tmp_path / "a.txt").read_text() == "; 0\n#####\n#@$.#\n#####\n\n"
    (on_target,) = levels_from_text("######\n#@$.*#\n######", "a.txt")
    with pytest.raises(LevelFormatError, match=r"level 0 .*\n.*style 'xsb'"):
        write_levels(tmp_path / "a.txt", on_target, style="boxoban")
    assert (tmp_path / "a.txt").read_text().startswith("; 0\n#####\n#@$.#"), "the old file stays"
    with pytest.raises(LevelFormatError, match="not one of"):
        write_levels(tmp_path / "a.txt", levels, style="rle")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = generate_sokoban(2, seed=0)
    with pytest.raises(OutputError, match="nothing was written"):
        write_levels(tmp_path / "missing" / "a.txt", levels)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="No space left"):
        write_levels(tmp_path / "a.txt", levels, style="boxoban")
    assert list(tmp_path.iterdir()) == []


def test_rendering_shows_the_player_on_a_target() -> None:
    board = torch.tensor([[1, 1, 1, 1], [1, 2, 6, 1], [1, 1, 1, 1]], dtype=torch.uint8)
    assert render_text(board, 5) == "####\n#+*#\n####"
    assert board[1, 1] == TARGET, "the board itself is not drawn on"
    assert all(f"'{symbol}'" in LEGEND for symbol in "#@+$*. -_")


def make_boxoban(root: Path, folders: dict[str, LevelSet]) -> None:
    for folder, levels in folders.items():
        (root / folder).mkdir(parents=True)
        write_levels(root / folder / "000.txt", levels, style="boxoban")


@pytest.fixture(scope="module")
def four_boxes() -> LevelSet:
    """Sixty boards of Boxoban's shape; nobody asks whether they can be solved."""
    rng = np.random.default_rng(0)
    boards = np.ones((60, 10, 10), dtype=np.uint8)
    boards[:, 1:-1, 1:-1] = rng.random((60, 8, 8)) < 0.4
    players = []
    for cells in boards.reshape(60, 100):
        squares = rng.permutation(np.flatnonzero(cells == 0))
        cells[squares[:4]], cells[squares[4:8]] = BOX, TARGET
        players.append(int(squares[8]))
    return LevelSet(torch.from_numpy(boards), torch.tensor(players))


def test_leaked_levels_are_dropped_from_train_whatever_their_turn_and_start(
    four_boxes: LevelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANPROBE_BOXOBAN", str(tmp_path))
    leaked = torch.cat([four_boxes.boards[3].rot90(1)[None], four_boxes.boards[7].flip(0)[None]])
    starts = torch.stack([(board == 0).flatten().nonzero()[-1, 0] for board in leaked])
    valid = LevelSet(torch.cat([leaked, four_boxes.boards[40:]]), torch.cat([starts, four_boxes.players[40:]]))
    make_boxoban(tmp_path, {"unfiltered/train": four_boxes[:40], "unfiltered/valid": valid, "hard": four_boxes[30:32]})
    train = boxoban_levels("unfiltered", "train")
    kept = [n for n in range(40) if n not in (3, 7, 30, 31)]
    assert torch.equal(train.boards, four_boxes.boards[kept])
    assert torch.equal(train.players, four_boxes.players[kept])
    assert train.name == "boxoban/unfiltered/train"
    assert len(boxoban_levels("unfiltered", "valid")) == 22
    assert torch.equal(boxoban_levels("hard", "test").boards, four_boxes.boards[30:32])
    assert len(boxoban_levels("unfiltered", "train", num_files=5)) == 36


def test_a_missing_or_malformed_boxoban_folder_says_what_to_do(
    four_boxes: LevelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLANPROBE_BOXOBAN", raising=False)
    assert boxoban_root() is None
    with pytest.raises(LevelFormatError, match="PLANPROBE_BOXOBAN is not set"):
        boxoban_levels("unfiltered", "test")
    monkeypatch.setenv("PLANPROBE_BOXOBAN", str(tmp_path))
    with pytest.raises(LevelFormatError, match="no level files"):
        boxoban_levels("unfiltered", "test")
    make_boxoban(tmp_path, {"medium/valid": four_boxes[:5]})
    with pytest.raises(LevelFormatError, match="It has: medium/valid"):
        boxoban_levels("hard", "test")
    with pytest.raises(LevelFormatError, match="ask for 1 or more"):
        boxoban_levels("medium", "valid", num_files=0)
    file = tmp_path / "medium/valid/000.txt"
    whole = file.read_text()
    file.write_text(whole.replace("@", " ", 1))
    with pytest.raises(LevelFormatError, match="line 2: this level has no player"):
        boxoban_levels("medium", "valid")
    file.write_text(whole.replace("\n", "\r\n"))
    assert torch.equal(boxoban_levels("medium", "valid").boards, four_boxes.boards[:5]), "the slow parser takes over"
    write_levels(file, generate_sokoban(2, size=7, seed=0))
    with pytest.raises(LevelFormatError, match="not all boards are 10 x 10"):
        boxoban_levels("medium", "valid")


@pytest.mark.skipif(not os.environ.get("PLANPROBE_BOXOBAN"), reason="PLANPROBE_BOXOBAN is not set")
def test_published_boxoban_files() -> None:
    levels = boxoban_levels("unfiltered", "test")
    assert len(levels) == 1000
    assert (levels.boards & BOX != 0).sum((1, 2)).eq(4).all()
    file = boxoban_root() / "unfiltered/test/000.txt"
    text = "\n\n".join(file.read_text().split("\n\n")[:60])
    (slow,) = levels_from_text(text, "000.txt")
    assert np.array_equal(slow.boards, levels.boards[:60])
    assert np.array_equal(slow.players, levels.players[:60])
    train = boxoban_levels("unfiltered", "train", num_files=1)
    assert 0 < len(train) <= 1000
