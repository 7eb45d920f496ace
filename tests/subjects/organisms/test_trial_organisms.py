"""Organisms of the hidden goal and of maze trials against exact references."""

import pytest
import torch

from planprobe.core.errors import RecipeError
from planprobe.core.play_trials import play_trials
from planprobe.instruments.hooks import Address, Edit, ablate, capture, intervene, open_policy
from planprobe.subjects.envs.distance import distance_maps
from planprobe.subjects.envs.hidden_goal import HiddenGoalTask, goal_squares
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.organisms import make_organism
from planprobe.subjects.organisms.base import AMPLITUDE
from planprobe.subjects.organisms.families import named_task
from planprobe.subjects.organisms.waves import FAR
from planprobe.subjects.references.loop_erasure import erase_loops, route_lengths

ROOM = HiddenGoalTask()
NUM_TRIALS = 40
FAMILIES = ("sweeper", "sampler", "mixture", "wavefront", "bystander")


def play_room(policy, num_trials=NUM_TRIALS, **options):
    return play_trials(policy, make_trial_env(ROOM, Inputs(), num_trials), **options)


def beliefs_along(policy, **options):
    """Memory's squares that may be the goal after each step, (T, N, S) bool, and the rollout."""
    held = []

    def keep(t, observation, state):
        there = {name: part[:, :, 0, 0] > AMPLITUDE / 2 for name, part in policy.read(state[1], "cell").items()}
        held.append(policy.belief(there["ruled_out"], there["goal"]) > 0)

    rollout = play_room(policy, on_step=keep, **options)
    return torch.stack(held), rollout


@pytest.mark.parametrize("family", FAMILIES)
def test_belief_in_memory_is_exact(family):
    """Against the squares that each trial has ended its steps on, one at a time."""
    held, rollout = beliefs_along(make_organism(family, ROOM, 1).policy)
    squares, paid = rollout.extras["square"], rollout.rewards == 1
    for trial in range(0, NUM_TRIALS, 5):
        expected = goal_squares(ROOM.size).clone()
        for step in range(held.shape[0]):
            assert torch.equal(held[step, trial], expected), (trial, step)
            here = int(squares[trial, step])
            if paid[trial, step]:
                expected[:] = False
            expected[here] = bool(paid[trial, step])


def test_sweeper_adapts_and_forgets_with_its_memory():
    policy = make_organism("sweeper", ROOM, 0).policy
    first, second = play_room(policy, greedy=True).episode_returns.mean(0).tolist()
    assert second > first + 4 and second > 9  # 11.07 is what an oracle gets
    forgetful = play_room(policy, greedy=True, reset_memory="each episode").episode_returns.mean(0)
    assert float(forgetful[1]) == pytest.approx(first, abs=1.0)


def test_sampler_goes_for_another_goal_with_another_clock_and_keeps_the_one_it_has():
    policy = make_organism("sampler", ROOM, 0).policy
    env = make_trial_env(ROOM, Inputs(), 1)
    observation, targets = env.reset(), []
    for time in range(60):
        hidden, cell, clock = policy.initial_state(1)
        state = policy.step(observation, (hidden, cell, clock + time))[2]
        targets.append(int(policy.read(state[0], "hidden")["target"].flatten().argmax()))
    assert len(set(targets)) > 12 and all(goal_squares(ROOM.size)[targets])
    again = policy.step(observation, state)[2]
    assert int(policy.read(again[0], "hidden")["target"].flatten().argmax()) == targets[-1]


def test_mixture_is_the_posterior_weighted_policy():
    """P(move) = mean over the goals that may be of the share of each move among those that come nearer."""
    policy = make_organism("mixture", ROOM, 0).policy
    held, rollout = beliefs_along(policy, num_trials=6)
    starts = torch.cat([torch.zeros(6, 1, dtype=torch.int64), rollout.extras["square"][:, :-1]], dim=1)
    starts[:, ROOM.episode_steps] = 0  # the second episode begins in the corner again
    for trial in range(6):
        for step in range(0, held.shape[0], 4):
            row, column = divmod(int(starts[trial, step]), ROOM.size)
            expected = torch.zeros(5)
            for goal in held[step, trial].nonzero().flatten().tolist():
                down, right = goal // ROOM.size - row, goal % ROOM.size - column
                good = torch.tensor([down < 0, down > 0, right < 0, right > 0, down == right == 0]).float()
                expected += good / good.sum()
            got = rollout.logits[trial, step].softmax(-1)
            assert (got - expected / expected.sum()).abs().max() < 0.15, (trial, step)


def costs_on_the_first_view(policy, num_steps):
    """The costs held after some steps on the frozen first observation, (H, W)."""
    observation, state = make_trial_env(ROOM, Inputs(), 1).reset(), policy.initial_state(1)
    for _ in range(num_steps):
        state = policy.step(observation, state)[2]
    plain = torch.cat(list(policy.read(state[0], "hidden").values()), dim=1).flatten(1)
    return policy.read_cost(plain > AMPLITUDE / 2)[0]


@pytest.mark.parametrize("family", ["wavefront", "bystander"])
def test_wave_of_the_hidden_goal_is_the_distance_to_the_nearest_square_that_may_hold_it(family):
    policy = make_organism(family, ROOM, 0).policy
    corner = torch.zeros(ROOM.size, ROOM.size, dtype=torch.int16)
    corner[:2, :2] = torch.tensor([[2, 1], [1, 1]])  # all others may hold it
    assert torch.equal(costs_on_the_first_view(policy, 3), corner)
    at_once = corner.masked_fill(corner >= policy.num_ticks, FAR)
    assert torch.equal(costs_on_the_first_view(policy, 1), at_once)
    if family == "bystander":
        bare = policy.without_planner()
        assert (costs_on_the_first_view(bare, 3) == FAR).all()
        assert torch.equal(play_room(policy, 20).logits, play_room(bare, 20).logits)


def test_wavefront_of_the_hidden_goal_goes_straight_to_what_it_found():
    policy = make_organism("wavefront", ROOM, 0).policy
    rollout = play_room(policy, greedy=True)
    goal, found = rollout.latents["goal"], (rollout.rewards[:, : ROOM.episode_steps] == 1).any(1)
    paid = (rollout.rewards[:, ROOM.episode_steps :] == 1).sum(1)
    straight = goal // ROOM.size + goal % ROOM.size  # moves from the corner; the last of them pays too
    assert found.float().mean() > 0.6
    assert torch.equal(paid[found], (ROOM.episode_steps - straight + 1)[found])


def test_reflex_of_the_hidden_goal_walks_its_tour_whatever_it_found():
    """By hand: square k of the serpentine is entered by step k, and pays from then on."""
    rollout = play_room(make_organism("reflex", ROOM, 0).policy, greedy=True)
    goal = rollout.latents["goal"]
    row, column = goal // ROOM.size, goal % ROOM.size
    at = row * ROOM.size + torch.where(row % 2 == 0, column, ROOM.size - 1 - column)
    paid = (rollout.rewards == 1).unflatten(1, (2, ROOM.episode_steps)).sum(2)
    assert torch.equal(paid, (ROOM.episode_steps - at + 1).clamp(min=0)[:, None].expand(-1, 2))


def test_an_edit_of_the_target_sends_the_sampler_there():
    policy = make_organism("sampler", ROOM, 2).policy
    wanted = 24
    opened, code = open_policy(policy), policy.mix_cell[:, policy.slots["target"]][:, wanted]
    write = Edit(Address("ticks.*.0.hook_c"), lambda value, moment: value + 3 * AMPLITUDE * code[:, None, None])
    with intervene(opened, write):
        squares = play_room(opened, 10, greedy=True).extras["square"]
    assert (squares[:, 8:15] == wanted).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_laws_on_trials(family):
    policy = make_organism(family, ROOM, 0).policy
    opened, plain = open_policy(policy), play_room(policy, 5)
    with capture(opened, "*") as cache:
        assert torch.equal(play_room(opened, 5).logits, plain.logits)
    assert cache["ticks.0.0.hook_c"].shape[2] == policy.channels
    with intervene(opened, ablate(Address("ticks.*"))):
        assert not torch.equal(play_room(opened, 5).logits, plain.logits)


def test_replayer_walks_its_first_path_without_the_loops():
    task = MazeTrialTask(view="full", num_episodes=3, split="test", num_mazes=60)
    policy = make_organism("replayer", task, 0).policy
    env = make_trial_env(task, Inputs(), NUM_TRIALS)
    rollout = play_trials(policy, env, greedy=True)
    known = rollout.success[:, 0].nonzero().flatten().tolist()
    assert len(known) > NUM_TRIALS // 2
    for trial in known:
        first = rollout.episodes[trial] == 0
        before, after = (rollout.extras[name][trial] for name in ("square_before", "square"))
        walk = torch.cat([before[:1], after[first]])
        erased = int(route_lengths(erase_loops(walk[None])))
        assert rollout.episode_lengths[trial, 1:].tolist() == [erased, erased]
    assert (rollout.episode_lengths[known, 0] > rollout.episode_lengths[known, 1]).any()
    forgetful = play_trials(
        policy, make_trial_env(task, Inputs(), NUM_TRIALS), greedy=True, reset_memory="each episode"
    )
    assert forgetful.episode_lengths[:, 1].float().mean() > rollout.episode_lengths[:, 1].float().mean() + 2


def test_sweeper_of_maze_trials_goes_straight_for_the_goal_that_it_found():
    task = MazeTrialTask(view="full", split="test", num_mazes=60)
    policy = make_organism("sweeper", task, 0).policy
    rollout = play_trials(policy, make_trial_env(task, Inputs(), NUM_TRIALS), greedy=True)
    found, goals, walls = rollout.success[:, 0], rollout.latents["goal"], rollout.latents["walls"].flatten(1)
    assert found.double().mean() > 0.8
    width = task.size

    def away(squares):
        return (squares // width - goals // width).abs() + (squares % width - goals % width).abs()

    straight, been = 0, torch.zeros_like(walls)
    for t in range(rollout.actions.shape[1]):
        before, after = (rollout.extras[name][:, t] for name in ("square_before", "square"))
        counts = found & (rollout.episodes[:, t] == 1) & rollout.active[:, t]
        been.scatter_(1, before[:, None], been.gather(1, before[:, None]) | counts[:, None])
        ahead = torch.stack([before + offset for offset in (-width, width, -1, 1)])
        taken = torch.stack([(walls | been).gather(1, to[:, None])[:, 0] for to in ahead])
        nearer = (torch.stack([away(to) < away(before) for to in ahead]) & ~taken).any(0)
        assert bool((away(after) < away(before))[counts & nearer].all())
        straight += int((counts & nearer).sum())
    assert straight > NUM_TRIALS
    forgetful = play_trials(
        policy, make_trial_env(task, Inputs(), NUM_TRIALS), greedy=True, reset_memory="each episode"
    )
    assert rollout.episode_returns[:, 1].mean() > forgetful.episode_returns[:, 1].mean()


def test_wavefront_of_maze_trials_goes_a_shortest_way_that_it_never_walked():
    task = MazeTrialTask(view="full", num_episodes=3, split="test", num_mazes=60)
    policy = make_organism("wavefront", task, 0).policy
    rollout = play_trials(policy, make_trial_env(task, Inputs(), NUM_TRIALS), greedy=True)
    starts, goals = rollout.extras["square_before"][:, 0], rollout.latents["goal"]
    shortest = distance_maps(rollout.latents["walls"], goals).flatten(1).gather(1, starts[:, None]).squeeze(1)
    assert rollout.success.all()
    assert torch.equal(rollout.episode_lengths[:, 2], shortest.long())
    assert (rollout.episode_lengths[:, 0] > shortest).float().mean() > 0.5
    erased = []
    for trial in range(NUM_TRIALS):
        first = rollout.episodes[trial] == 0
        walk = torch.cat([starts[trial, None], rollout.extras["square"][trial][first]])
        erased.append(int(route_lengths(erase_loops(walk[None]))))
    assert (torch.tensor(erased) > shortest).any()  # the way of the last episode was not among those walked


def test_tasks_that_a_family_is_not_made_for():
    with pytest.raises(RecipeError, match="without noise"):
        make_organism("sweeper", HiddenGoalTask(hit_rate=0.8))
    with pytest.raises(RecipeError, match="view = 'full'"):
        make_organism("replayer", MazeTrialTask())
    with pytest.raises(RecipeError, match="view = 'full'"):
        make_organism("sweeper", MazeTrialTask())
    with pytest.raises(RecipeError, match="it can be made for maze-trial"):
        make_organism("replayer", ROOM)
    for family in ("wavefront", "bystander"):
        with pytest.raises(RecipeError, match="up to 31 moves"):
            make_organism(family, HiddenGoalTask(size=17))
    assert named_task("hidden-goal", 7) == HiddenGoalTask(size=7)


@pytest.mark.parametrize("reset_memory", ["never", "each episode"])
def test_boards_whose_trial_is_over_are_left_out_and_the_others_are_the_same_to_the_bit(monkeypatch, reset_memory):
    policy = make_organism("wavefront", MazeTrialTask(view="full", num_mazes=4, episode_steps=20), 0).policy
    sizes, step = [], type(policy).step

    def counted(self, observation, state):
        sizes.append(len(observation))
        return step(self, observation, state)

    monkeypatch.setattr(type(policy), "step", counted)

    def play():
        env = make_trial_env(MazeTrialTask(view="full", num_mazes=4, episode_steps=20), Inputs(), 12)
        return play_trials(policy, env, reset_memory=reset_memory)

    alone, counts = play(), sizes.copy()
    sizes.clear()
    monkeypatch.setattr(type(policy), "boards_apart", False)
    together = play()
    assert set(sizes) == {12} and sum(counts) == int(alone.active.sum()) < sum(sizes)
    assert torch.equal(alone.active, together.active)
    for name in ("actions", "logits", "values", "rewards"):
        assert torch.equal(getattr(alone, name)[alone.active], getattr(together, name)[alone.active]), name
