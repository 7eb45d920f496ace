"""Experiments that train small nets: the trainer learns, arms differ in what they say, tables hold together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from planprobe.core.play_trials import play_trials
from planprobe.core.rng import draw_below
from planprobe.experiments import environment_memory, ingredients, one_maze
from planprobe.experiments.intervals import over_seeds
from planprobe.experiments.random_memory import NoisyStart, StartedGRU
from planprobe.experiments.small_nets import fresh_net, train_net, train_on
from planprobe.instruments.detectors import environment_memory as d15
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask
from planprobe.subjects.envs.timing import TimingTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.recipe import NetRecipe, TrainingRecipe


def pick(rows, **wanted):
    return [row for row in rows if wanted.items() <= row.items()]


# training ------------------------------------------------------------------------------------------------------------
def test_a_net_learns_what_never_changes():
    """One goal for ever, on the square below the start's neighbour: a few updates find it."""
    task, seen = HiddenGoalTask(size=3, num_episodes=1, episode_steps=4, goal=2), []
    training = replace(ingredients.TRAINING, frames=10_000, num_boards=64, unroll=8)
    net = train_on(
        task, Inputs(), NetRecipe(kind="gru", channels=16, hidden=16), training, seed=0,
        progress=lambda share, text: seen.append(share),
    )  # fmt: skip
    greedy = play_trials(net, make_trial_env(task, Inputs(), 4), greedy=True)
    assert float(greedy.returns.mean()) > 2.5  # of 2.9: one step there, three on it
    assert seen[-1] == 1.0
    assert seen == sorted(seen)


def test_training_is_the_same_every_time_and_leaves_torch_alone():
    state, training = torch.get_rng_state(), TrainingRecipe(frames=200, num_boards=10, unroll=10)
    nets = [
        train_on(BanditTask(), Inputs(), NetRecipe(kind="gru", channels=4, hidden=4), training, seed=seed)
        for seed in (3, 3, 4)
    ]
    weights = [torch.cat([part.flatten() for part in net.parameters()]) for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)


# ingredients ---------------------------------------------------------------------------------------------------------
def test_each_arm_lacks_one_ingredient():
    arms = ingredients.ARMS
    env = {name: make_trial_env(arm.task, arm.inputs, 2) for name, arm in arms.items()}
    assert env[ingredients.ALL].num_planes == 9 + 5 + 1 + 1
    assert env["no reward input"].num_planes == 9 + 5 + 1
    assert env["no action history"].num_planes == 1 + 1
    assert [name for name, arm in arms.items() if arm.reset_memory] == ["no memory"]
    env["one task"].reset()
    assert env["one task"].latents()["goal"].tolist() == [8, 8]


def test_ingredients_run_and_say_so():
    found = ingredients.run_ingredients(budget="smoke")
    names = [*ingredients.ARMS, ingredients.UNTRAINED]
    index = pick(found.tables["arms"], measure=ingredients.INDEX)
    assert [row["arm"] for row in index] == names
    for row in index:
        each = [net["value"] for net in pick(found.tables["nets"], arm=row["arm"], measure=ingredients.INDEX)]
        assert row["value"] == pytest.approx(sum(each) / 2)
        assert row["low"] <= row["value"] <= row["high"]
    (untrained,) = pick(index, arm=ingredients.UNTRAINED)
    assert abs(untrained["value"]) < 0.5
    assert {row["player"] for row in found.tables["players"]} >= {"Bayes-optimal", "PSRL", "oracle"}
    assert ingredients.FIGURES["index"](found.tables) is not None


# one maze ------------------------------------------------------------------------------------------------------------
def test_what_varies_is_what_the_source_says():
    start, memory, both = (
        one_maze.make_maze(50, one_maze.Source(start=start, memory=memory))
        for start, memory in ((True, False), (False, True), (True, True))
    )
    for env, starts, memories in ((start, True, False), (memory, False, True), (both, True, True)):
        drawn = env.reset()[:, -one_maze.CHANNELS :, 0, 0]
        assert (len(env.env.starts.unique()) > 5) == starts
        assert bool(drawn.any()) == memories
        assert (len(drawn.unique(dim=0)) == 50) == memories
        assert len(env.latents()["goal"].unique()) == 1
        assert len(env.latents()["level"].unique()) == 1
    task = one_maze.make_maze(1, one_maze.Source()).env
    task.reset()
    distance = distance_maps(task.walls, task.goals).flatten(1)[0, task.starts[0]]
    assert int(distance) >= 4


def test_chance_finds_the_goal_often_enough_to_begin_learning():
    """Without random starts nothing else does; and not so often that there is nothing to learn."""
    env, found = one_maze.make_maze(1000, one_maze.Source()), torch.zeros(1000, dtype=torch.bool)
    env.reset()
    for step in range(one_maze.TASK.episode_steps):
        found |= env.step(draw_below(4, 0, torch.arange(1000), step)).solved
    assert 0.1 < float(found.double().mean()) < 0.4


def test_memory_begins_at_the_draw_and_only_there():
    env = one_maze.make_maze(3, one_maze.Source(memory=True))
    net = StartedGRU(planes=env.num_planes, board=(1, 1), num_actions=4, channels=one_maze.CHANNELS)
    first = env.reset()
    second = env.step(torch.zeros(3, dtype=torch.int64)).observation
    assert not bool(second[:, -one_maze.CHANNELS :].any())
    seen, drawn = first[:, : -one_maze.CHANNELS], first[:, -one_maze.CHANNELS :]
    without = torch.cat([seen, torch.zeros_like(drawn)], dim=1)
    given = net.step(without, (drawn,))
    assert all(torch.allclose(a, b) for a, b in zip(net.step(first, net.initial_state(3))[:2], given[:2], strict=True))
    assert not torch.allclose(net.step(without, net.initial_state(3))[0], given[0])


def test_memory_is_drawn_anew_in_every_trial_of_a_board():
    env = NoisyStart(BanditTask(num_pulls=2).make_env(2, autoreset=True), Inputs(), channels=3, random=True)
    drawn = [env.reset()[:, -3:]]
    drawn += [env.step(torch.zeros(2, dtype=torch.int64)).observation[:, -3:] for _ in range(4)]
    assert [bool(part.any()) for part in drawn] == [True, False, True, False, True]
    assert not torch.equal(drawn[0], drawn[2])


def test_a_list_of_moves_is_played_without_looking():
    rollout = play_trials(
        StartedGRU(planes=one_maze.make_maze(1, one_maze.Source()).num_planes, board=(1, 1), num_actions=4,
                   channels=one_maze.CHANNELS),
        one_maze.make_maze(1, one_maze.Source()), greedy=True,
    )  # fmt: skip
    shake = one_maze._shake(5, 0)
    moves = one_maze._list_of_moves(rollout, shake, 5)
    steps = one_maze.TASK.episode_steps
    assert moves.shape == (5, steps)
    assert torch.equal(moves[:, : one_maze.NUM_SHAKEN], shake)
    own = rollout.actions[0][rollout.active[0]]
    assert torch.equal(moves[2, one_maze.NUM_SHAKEN :], own.repeat(steps)[: steps - one_maze.NUM_SHAKEN])


def test_histories_are_counted_by_their_entropy():
    class Walks:
        active = torch.ones(4, 2, dtype=torch.bool)
        extras = {"square_before": torch.tensor([[1, 2], [1, 2], [1, 3], [1, 3]])}  # noqa: RUF012

    assert one_maze._histories(Walks())["value"] == pytest.approx(2)  # type: ignore[arg-type]


def test_one_maze_runs_and_says_so(monkeypatch):
    some = (one_maze.NOTHING, "random start", "all three")
    monkeypatch.setattr(one_maze, "SOURCES", {name: one_maze.SOURCES[name] for name in some})
    found = one_maze.run_one_maze(budget="smoke")
    rows = pick(found.tables["tests"], measure="solved")
    assert {row["trained_with"] for row in rows} == set(one_maze.SOURCES)
    assert {row["change"] for row in rows} == set(one_maze.CHANGES)
    assert {row["player"] for row in rows} == {one_maze.AGENT, one_maze.NO_MEMORY, one_maze.LIST}
    assert len(found.notes) == len(one_maze.SOURCES) + 2
    (chance,) = pick(found.tables["tests"], trained_with="random start", measure="histories")
    assert chance["value"] > 10
    assert set(one_maze.FIGURES["solved"](found.tables)) == set(one_maze.CHANGES)  # one seed has no whisker


# environment as memory -----------------------------------------------------------------------------------------------
def test_the_best_without_memory_is_exact():
    """Intervals 1 and 2: p (1 - p) and p (1 - p)^2, half each; p = (3 - sqrt 3) / 3 is best by calculus."""
    p = (3 - 3**0.5) / 3
    exact = (p * (1 - p) + p * (1 - p) ** 2) / 2
    assert environment_memory.best_without_trace(TimingTask(shortest=1, longest=2)) == pytest.approx(exact, abs=1e-6)


def test_a_feed_forward_net_that_is_carried_at_first_learns_to_walk_out_and_home():
    """Intervals 1 and 2: who walks is always right, who counts from the end of the interval alone every second time."""
    track = TimingTask(shortest=1, longest=2, track_length=3)
    training = replace(environment_memory.TRAINING, frames=40_000)
    lessons = [
        make_trial_env(task, environment_memory.INPUTS, training.num_boards, seed=1, autoreset=True)
        for task in (replace(track, carried=True), track)
    ]
    net = fresh_net(environment_memory.NETS["feed-forward"], lessons[0], seed=0)
    train_net(net, lessons, training, seed=0)
    played = play_trials(net, make_trial_env(track, environment_memory.INPUTS, 200))
    assert float(played.returns.mean()) > 0.9


def test_lessons_share_the_frames():
    task, training = (
        TimingTask(shortest=1, longest=1, track_length=2),
        TrainingRecipe(frames=80, num_boards=4, unroll=5),
    )
    lessons = [make_trial_env(task, Inputs(), 4, autoreset=True) for _ in range(2)]
    counts = [0, 0]
    for number, env in enumerate(lessons):
        env.step = partial(_count_steps, counts, number, env.step)
    train_net(fresh_net(NetRecipe(kind="mlp", channels=4, hidden=4), lessons[0], seed=0), lessons, training, seed=0)
    assert counts == [10, 10]


def _count_steps(counts, number, step, actions):
    counts[number] += 1
    return step(actions)


def test_environment_memory_runs_and_says_so(monkeypatch):
    some = ("a track, carried out at first", "no track")
    monkeypatch.setattr(environment_memory, "LESSONS", {name: environment_memory.LESSONS[name] for name in some})
    found = environment_memory.run_environment_memory(budget="smoke")
    arms = {row["arm"] for row in found.tables["conditions"]}
    assert len(arms) == 4
    assert len(found.evidence) == 8
    forward = pick(found.tables["conditions"], net="feed-forward", task="no track")
    values = {row["condition"]: row["value"] for row in forward}
    assert values[d15.INTACT] == values[d15.SCRAMBLED] == values[d15.MEMORY]  # nothing to scramble, nothing to reset
    walking = pick(found.tables["references"], player="walking, without memory")
    assert [row["value"] == 1 for row in walking] == [True, False]


def test_nets_are_counted_in_their_own_arm():
    """One arm's name is how another's begins."""
    conditions = (d15.INTACT, d15.SCRAMBLED, d15.MEMORY)
    arms = {"GRU, a track": "refuted", "GRU, a track, carried": "supported"}
    rows = [{"arm": arm, "condition": name, "value": 0.5} for arm in arms for name in conditions]
    evidence = [
        SimpleNamespace(outcome=outcome, rows=[{"agent": f"{arm}, seed {seed}"}])
        for arm, outcome in arms.items() for seed in range(2)
    ]  # fmt: skip
    notes = environment_memory._notes({"conditions": rows}, evidence)  # type: ignore[arg-type]
    counts = [note for note in notes if "(D15)" in note]
    assert [note.split("(D15): ")[1] for note in counts] == ["2 refuted, of 2 nets.", "2 supported, of 2 nets."]


# intervals -----------------------------------------------------------------------------------------------------------
def test_intervals_over_seeds_by_hand():
    """1, 2, 3: mean 2, standard error 1 / sqrt 3, t of 2 degrees of freedom 4.3027."""
    assert over_seeds([1.0, 2.0, 3.0]) == {
        "value": 2.0, "low": pytest.approx(2 - 2.48414, abs=1e-4), "high": pytest.approx(2 + 2.48414, abs=1e-4), "n": 3,
    }  # fmt: skip
    assert over_seeds([4.0]) == {"value": 4.0, "low": None, "high": None, "n": 1}
