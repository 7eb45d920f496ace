"""What is read from disk is what a capture held, row by row; a stopped capture goes on."""

import pytest
import torch

from planprobe.core.errors import CheckpointError, ShapeError, UnknownNameError, UnknownSiteError
from planprobe.core.play import play
from planprobe.instruments import activation_store
from planprobe.instruments.activation_store import open_activations, write_activations
from planprobe.instruments.hooks import capture, open_policy
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.nets.drc import DRC

SITES = "ticks.*.0.hook_h"
HIDDEN = ["ticks.0.0.hook_h", "ticks.1.0.hook_h"]


def make_env(levels, num_boards):
    return Maze(levels, num_boards, time_limit=6, autoreset=False)


@pytest.fixture(scope="module")
def agent():
    torch.manual_seed(0)
    return open_policy(
        DRC(planes=3, board=(7, 7), num_actions=4, num_layers=1, num_ticks=2, channels=4, head="pool", hidden=8)
    )


@pytest.fixture(scope="module")
def levels():
    return generate_mazes(10, size=7, braid=(0.0, 0.5), seed=0, distinct_layouts=False)


@pytest.fixture(scope="module")
def store(agent, levels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("acts")
    return write_activations(folder, agent, make_env, levels, SITES, name="tiny", shard_levels=4, thinking_steps=1)


def test_rows_are_those_of_a_capture(agent, levels, store):
    assert store.sites == {site: (4, 7, 7) for site in HIDDEN}
    assert len(store.shards) == 3
    assert store.num_missing == 0
    for ids in torch.arange(10).split(4):  # as the store plays: in another batch a convolution may round differently
        with capture(agent, SITES, dtype=torch.float16) as cache:
            rollout = play(agent, make_env(levels, len(ids)), ids, thinking_steps=1)
        for board, level in enumerate(ids.tolist()):
            rows = store.where(level=level, thinking=0)
            length = int(rollout.lengths[board])
            assert store.index["step"][rows].tolist() == list(range(length))
            assert store.index["action"][rows].tolist() == rollout.actions[board, :length].tolist()
            assert store.index["square"][rows].tolist() == rollout.positions[board, :length].tolist()
            assert store.index["steps_left"][rows].tolist() == list(range(length, 0, -1))
            for site in HIDDEN:
                assert torch.equal(store.read(site, rows), cache[site][board, 1 : length + 1])
            first = store.where(level=level, thinking=1)
            assert store.index["action"][first].tolist() == [-1]
            assert torch.equal(store.read(HIDDEN[0], first)[0], cache[HIDDEN[0]][board, 0])


def test_any_rows_in_any_order(store):
    whole = store.read(HIDDEN[1])
    assert whole.dtype == torch.float16
    rows = torch.tensor([len(store) - 1, 0, 17, 17, 5])
    assert torch.equal(store.read(HIDDEN[1], rows), whole[rows])
    assert torch.equal(store.read(HIDDEN[1], slice(3, 30, 4)), whole[3:30:4])
    seen = [(rows, values[HIDDEN[1]]) for rows, values in store.batches([HIDDEN[1]], 7)]
    assert max(len(rows) for rows, _ in seen) <= 7
    assert torch.equal(torch.cat([rows for rows, _ in seen]), torch.arange(len(store)))
    assert torch.equal(torch.cat([values for _, values in seen]), whole)


def test_axes_and_ticks_have_names(store):
    assert store.axes(HIDDEN[0]) == ("N", "C", "H", "W")
    assert store.ticks("hook_h", layer=0) == HIDDEN
    assert store.ticks("hook_h", layer=1) == []


def test_a_stopped_capture_goes_on_and_ends_the_same(agent, levels, store, tmp_path, monkeypatch):
    written = []
    real = activation_store._write_shard

    def fail_at_second(path, *arguments):
        if path.stem.endswith("1") and "stopped" not in written:
            written.append("stopped")
            raise KeyboardInterrupt
        written.append(path.name)
        real(path, *arguments)

    monkeypatch.setattr(activation_store, "_write_shard", fail_at_second)
    options = {"name": "tiny", "shard_levels": 4, "thinking_steps": 1}
    with pytest.raises(KeyboardInterrupt):
        write_activations(tmp_path, agent, make_env, levels, SITES, **options)
    part = open_activations(tmp_path)
    assert part.num_missing == 2
    assert torch.equal(part.read(HIDDEN[0]), store.read(HIDDEN[0], slice(0, len(part))))
    done = write_activations(tmp_path, agent, make_env, levels, SITES, **options)
    assert written == ["shard-00000.safetensors", "stopped", "shard-00001.safetensors", "shard-00002.safetensors"]
    assert torch.equal(done.read(HIDDEN[0]), store.read(HIDDEN[0]))
    assert all(torch.equal(done.index[name], store.index[name]) for name in store.index)


def test_another_request_does_not_mix_with_what_is_there(agent, levels, store):
    before = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    with pytest.raises(CheckpointError, match="num_levels: 10 there, 5 asked"):
        write_activations(store.folder, agent, make_env, levels[:5], SITES, name="tiny", shard_levels=4)
    assert {path: path.stat().st_mtime_ns for path in store.folder.iterdir()} == before


def test_a_net_that_trained_on_does_not_mix_with_what_it_was(agent, levels, store):
    later = open_policy(agent)
    with torch.no_grad():
        next(later.parameters()).add_(1)
    with pytest.raises(CheckpointError, match="weights_hash"):
        write_activations(store.folder, later, make_env, levels, SITES, name="tiny", shard_levels=4, thinking_steps=1)


def test_what_is_not_there_is_refused(agent, levels, store, tmp_path):
    with pytest.raises(UnknownSiteError, match=r"Did you mean 'ticks.0.0.hook_h'"):
        store.read("ticks.0.0.hook_x")
    with pytest.raises(ShapeError, match="rows"):
        store.read(HIDDEN[0], torch.tensor([len(store)]))
    with pytest.raises(UnknownNameError, match="level"):
        store.where(levels=3)
    with pytest.raises(CheckpointError, match="no activation store"):
        open_activations(tmp_path)
    with pytest.raises(UnknownSiteError):
        write_activations(tmp_path / "none", agent, make_env, levels, "hook_nothing")
    assert not (tmp_path / "none").exists()


def test_a_damaged_shard_is_named(agent, levels, tmp_path):
    write_activations(tmp_path, agent, make_env, levels[:3], "hook_policy", shard_levels=2)
    store = open_activations(tmp_path)
    assert store.axes("hook_policy") == ("N", "C")
    shard = tmp_path / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:40])
    assert len(store.read("hook_policy", store.where(level=[0, 1]))) > 0  # the other one is still good
    with pytest.raises(CheckpointError, match="shard-00001"):
        store.read("hook_policy")
