"""Files: atomic, pickle-free, strict."""

import os

import pytest
import torch
from torch import nn

from planprobe.core.errors import CheckpointError, OutputError
from planprobe.core.store import load_strictly, load_tensors, save_tensors, write_atomic, write_json


def test_tensors_and_metadata_come_back(tmp_path):
    tensors = {"a": torch.arange(6).view(2, 3), "b": torch.tensor(1.5)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"frames": 3})
    loaded, metadata = load_tensors(tmp_path / "x.safetensors")
    assert metadata == {"frames": 3}
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = write_atomic(tmp_path / "x", "old")

    def fail(temporary):
        with open(temporary, "w") as file:
            file.write("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_unwritable_output_is_a_typed_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_json(tmp_path / "file" / "below" / "x.json", {})


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04\x95pickle", (2**40).to_bytes(8, "little")])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_tensors(path)


def test_truncation_is_noticed_at_every_length(tmp_path):
    path = save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(64)}, {"frames": 1})
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_tensors(path)


def test_file_of_another_program_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(CheckpointError, match="not written by planprobe"):
        load_tensors(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="no file"):
        load_tensors(tmp_path / "none.safetensors")


def test_partial_weights_are_refused_whole_and_the_difference_is_named():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    tensors = {key: value + 1 for key, value in before.items()}
    tensors["0.weight"] = torch.zeros(5, 2)
    tensors["extra"] = tensors.pop("1.bias")
    with pytest.raises(CheckpointError) as error:
        load_strictly(net, tensors, where="'x'")
    assert "missing: 1.bias" in str(error.value)
    assert "unexpected: extra" in str(error.value)
    assert "0.weight: file (5, 2), net (3, 2)" in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
