"""What several verbs share: a folder is tried before the work begins, and threads are counted on every system."""

from __future__ import annotations

import os
import tempfile

import pytest

from planprobe.cli import arguments
from planprobe.core.errors import OutputError


def test_a_folder_is_tried_and_nothing_is_left_there(tmp_path):
    arguments.check_folder(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_in_the_way(tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="not a folder one may write to"):
        arguments.check_folder(tmp_path / where)


def test_a_full_disk_is_found_out(tmp_path, monkeypatch):
    """Permissions say nothing about it."""

    def fill(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", fill)
    with pytest.raises(OutputError, match="cannot write to"):
        arguments.check_folder(tmp_path)


def test_cores_are_counted_where_the_system_knows_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert arguments._num_cores() == 6
