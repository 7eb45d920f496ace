"""Each control's inputs, and the lock-step replay that puts a control net on the agent's trajectories."""

import pytest
import torch
from sklearn.decomposition import PCA

from planprobe.core.errors import ShapeError
from planprobe.core.play import play
from planprobe.instruments.concepts.catalog import States, sample_states
from planprobe.instruments.hooks import capture, open_policy
from planprobe.instruments.probes.controls import (
    control_task_labels,
    fit_window_pca,
    majority_class,
    shuffle_label_maps,
    stack_history,
)
from planprobe.instruments.probes.replay import replay
from planprobe.instruments.probes.square_rows import gather_windows, list_rows
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.nets.drc import DRC
from planprobe.subjects.nets.feedforward import ResNet

SITE = "ticks.{k}.0.hook_h"


def make_net(kind=DRC, seed=0, **options):
    torch.manual_seed(seed)
    options |= {"num_layers": 1, "num_ticks": 2} if kind is DRC else {"num_blocks": 2}
    return open_policy(kind(planes=3, board=(7, 7), num_actions=4, channels=4, hidden=8, **options))


@pytest.fixture(scope="module")
def episodes():
    levels = generate_mazes(12, size=7, braid=(0.0, 0.5), seed=0, split="test", distinct_layouts=False)
    agent = make_net()
    with capture(agent, SITE) as cache:
        rollout = play(
            agent, Maze(levels, 12, time_limit=9, autoreset=False), torch.arange(12), keep_observations=True,
            greedy=False, seed=3,
        )  # fmt: skip
    return agent, rollout, cache


# replay -----------------------------------------------------------------------------------------------------------
def test_replay_gives_what_the_agent_had(episodes):
    agent, rollout, cache = episodes
    states = sample_states(rollout, per_level=3, seed=0)
    values = replay(agent, rollout.observations, states, SITE, dtype=torch.float32)
    assert list(values) == ["ticks.0.0.hook_h", "ticks.1.0.hook_h"]
    for site, value in values.items():
        assert torch.allclose(value, cache[site][states.board_ids, states.steps], atol=1e-5)


def test_replay_of_another_net_follows_the_same_observations(episodes):
    _, rollout, _ = episodes
    other = make_net(seed=5)
    states = States(torch.tensor([2, 7]), torch.tensor([3, 0]))
    values = replay(other, rollout.observations, states, SITE, dtype=torch.float32)["ticks.1.0.hook_h"]
    memory = other.initial_state(12)
    with capture(other, SITE) as cache:
        for step in range(4):
            _, _, memory = other.step(rollout.observations[:, step], memory)
    assert torch.allclose(values, cache["ticks.1.0.hook_h"][states.board_ids, states.steps], atol=1e-5)


def test_replay_of_a_memoryless_net(episodes):
    _, rollout, _ = episodes
    twin = make_net(ResNet, head="pool")
    states = sample_states(rollout, per_level=2, seed=1)
    values = replay(twin, rollout.observations, states, "ticks.0.1.hook_h", dtype=torch.float32)
    with capture(twin, "ticks.0.1.hook_h") as cache:
        twin.step(rollout.observations[states.board_ids, states.steps], ())
    assert torch.allclose(values["ticks.0.1.hook_h"], cache["ticks.0.1.hook_h"][:, 0], atol=1e-5)


def test_replay_refuses_a_site_without_squares(episodes):
    agent, rollout, _ = episodes
    with pytest.raises(ShapeError, match="no squares"):
        replay(agent, rollout.observations, sample_states(rollout, per_level=1, seed=0), "hook_policy")


# what was seen ----------------------------------------------------------------------------------------------------
def test_history_keeps_what_moves():
    recent = torch.zeros(2, 3, 2, 4, 4, dtype=torch.uint8)
    recent[:, :, 0, 0] = 1  # a wall plane, the same in every frame
    for frame in range(3):
        recent[:, frame, 1, 2, frame] = 1  # a player
    seen = torch.tensor([[True, True, True], [True, True, False]])
    stacked = stack_history(recent, seen)
    assert stacked.shape == (2, 4, 4, 4)  # wall and player now, player one and two steps ago
    assert torch.equal(stacked[0], torch.stack([recent[0, 0, 0], *recent[0, :, 1]]))
    assert int(stacked[1, 3].sum()) == 0  # before the episode


def test_window_pca_is_pca_of_explicit_windows():
    generator = torch.Generator().manual_seed(0)
    planes = (torch.rand(60, 2, 4, 5, generator=generator) < 0.4).to(torch.uint8)
    floor = torch.rand(60, 4, 5, generator=generator) < 0.6
    rows = list_rows(floor, torch.arange(60))
    train = rows.states < 40
    padded = torch.nn.functional.pad(planes.float(), (4, 4, 3, 3))
    windows = torch.stack(
        [
            padded[state, :, square // 5 : square // 5 + 7, square % 5 : square % 5 + 9].flatten()
            for state, square in zip(rows.states.tolist(), rows.squares.tolist(), strict=True)
        ]
    )
    oracle = PCA(n_components=6).fit(windows[train].numpy())
    ours = fit_window_pca(planes, rows, train, num_components=6, seed=0)
    components = ours.components.flatten(1)
    assert torch.allclose(components @ components.T, torch.eye(6), atol=1e-4)
    alignment = (components @ torch.tensor(oracle.components_).T).abs()
    assert float(alignment.diagonal()[:3].min()) > 0.99
    explained = torch.var(windows[train] @ components.T, dim=0)
    assert torch.allclose(explained, torch.tensor(oracle.explained_variance_), rtol=0.02)
    projected = ours.project(planes, rows, 4)
    assert torch.allclose(projected, windows @ components[:4].T, atol=1e-4)


# other labels -----------------------------------------------------------------------------------------------------
def test_shuffled_maps_come_from_another_level_of_the_same_part():
    level_ids = torch.arange(20).repeat_interleave(3)
    values = level_ids.view(-1, 1, 1).expand(60, 2, 2).to(torch.int8)
    parts = (level_ids < 12, (level_ids >= 12) & (level_ids < 16), level_ids >= 16)
    shuffled = shuffle_label_maps(values, level_ids, parts, seed=0)[:, 0, 0].to(torch.int64)
    assert bool((shuffled != level_ids).all())
    for part in parts:
        assert torch.equal(shuffled[part].sort().values, level_ids[part])
    assert torch.equal(shuffled, shuffle_label_maps(values, level_ids, parts, seed=0)[:, 0, 0].to(torch.int64))
    assert not torch.equal(shuffled, shuffle_label_maps(values, level_ids, parts, seed=1)[:, 0, 0].to(torch.int64))


def test_control_task_depends_on_square_and_content_alone():
    generator = torch.Generator().manual_seed(0)
    observations = (torch.rand(300, 3, 6, 6, generator=generator) < 0.3).to(torch.uint8)
    rows = list_rows(torch.ones(300, 6, 6, dtype=torch.bool), torch.arange(300))
    labels = control_task_labels(rows, observations, torch.tensor([700, 100, 100, 100]), seed=0)
    contents = gather_windows(observations, rows, 1).to(torch.int64)
    identity = rows.squares * 8 + contents @ torch.tensor([4, 2, 1])
    for value in identity.unique().tolist():
        assert len(labels[identity == value].unique()) == 1
    of_identity = torch.stack([labels[identity == value][0] for value in identity.unique()])
    assert float((of_identity == 0).float().mean()) == pytest.approx(0.7, abs=0.1)
    assert not torch.equal(labels, control_task_labels(rows, observations, torch.tensor([7, 1, 1, 1]), seed=1))


def test_majority_leaves_out_what_is_no_row():
    assert majority_class(torch.tensor([-1, -1, -1, 2, 2, 0]), 5) == 2
