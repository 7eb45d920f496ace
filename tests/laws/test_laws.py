"""What must hold exactly, whatever the weights: capturing, patching and stepping change nothing they do not name."""

from functools import partial

import pytest
import torch

from planprobe.core.play import play
from planprobe.core.play_trials import play_trials
from planprobe.instruments.hooks import (
    Address,
    ablate,
    capture,
    intervene,
    open_policy,
    patch_from,
    select_sites,
    steer,
)
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.nets.base import reset_state
from planprobe.subjects.recipe import NetRecipe

BOARDS, STEPS = 6, 5
IDS, OTHERS = torch.arange(BOARDS), torch.arange(BOARDS, 2 * BOARDS)


class Case:
    """A net with random weights, opened and as it was, and the observations of two runs of random play."""

    def __init__(self, recipe, make_env, play_one):
        self.make_env, self.play_one = make_env, play_one
        torch.manual_seed(1)
        self.net = make_net_for(recipe, make_env())
        with torch.no_grad():  # as built, the ResNet's blocks are the identity and every policy is uniform
            for parameter in self.net.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        self.opened = open_policy(self.net)
        self.seen, self.seen_by_others = (
            self.play(self.net, run, greedy=False, keep_observations=True).observations for run in range(2)
        )

    def play(self, policy, run=0, **options):
        return self.play_one(policy, self.make_env(), run, **options)

    def run(self, policy, observations, state=None):
        """(logits (T, B, A), values (T, B), memory after each step)."""
        state = policy.initial_state(len(observations)) if state is None else state
        logits, values, states = [], [], []
        for step in range(observations.shape[1]):
            logit, value, state = policy.step(observations[:, step], state)
            logits.append(logit), values.append(value), states.append(state)
        return torch.stack(logits), torch.stack(values), states


small = partial(NetRecipe, channels=8, hidden=16)
CASES = {
    "drc12": (small(num_ticks=2, pool_and_inject=False), Maze, (generate_mazes, 9)),
    "drc23": (small(num_layers=2, num_ticks=3, boundary=True), Sokoban, (generate_sokoban, 7)),
    "drc12-size-free": (small(num_ticks=2, head="pool"), Maze, (generate_mazes, 9)),
    "drc13-inside-the-wall": (small(num_ticks=3, head="pool", crop_border=True), Sokoban, (generate_sokoban, 7)),
    "resnet": (small(kind="resnet", num_blocks=3), Maze, (generate_mazes, 9)),
    "resnet-inside-the-wall": (small(kind="resnet", num_blocks=3, crop_border=True), Sokoban, (generate_sokoban, 7)),
}


BANDIT, INPUTS = BanditTask(num_arms=3, num_pulls=STEPS), Inputs(step_index=True)
VECTOR_CASES = {
    "gru": small(kind="gru"),
    "lstm-of-a-vector": small(kind="lstm"),
    "transformer": small(kind="transformer", num_layers=2, num_heads=2),
    "mlp": small(kind="mlp", num_blocks=2),
    "drc12-of-a-vector": small(num_ticks=2),
}


@pytest.fixture(scope="module", params=[*CASES, *VECTOR_CASES])
def case(request):
    if request.param in CASES:
        recipe, make_env, (generate, size) = CASES[request.param]
        levels = generate(2 * BOARDS, size=size, seed=0)
        make_env = partial(make_env, levels, BOARDS, autoreset=False, time_limit=STEPS)
        return Case(recipe, make_env, lambda policy, env, run, **o: play(policy, env, (IDS, OTHERS)[run], **o))
    make_env = partial(make_trial_env, BANDIT, INPUTS, BOARDS)
    recipe = VECTOR_CASES[request.param]
    return Case(recipe, make_env, lambda policy, env, run, **o: play_trials(policy, env, seed=run, **o))


def inner_sites(case):
    """All but the outputs."""
    return [site for site in select_sites(case.opened, "*") if site not in ("hook_policy", "hook_value")]


def square_sites(case):
    """Sites with a value on every square."""
    return [site for site in inner_sites(case) if case.opened.sites()[site][1:] == case.net.board]


def assert_same_run(got, expected):
    for one, other in zip(got[:2], expected[:2], strict=True):
        assert torch.equal(one, other)
    for state, other_state in zip(got[2], expected[2], strict=True):
        assert all(torch.equal(part, other) for part, other in zip(state, other_state, strict=True))


@torch.no_grad()
def test_opening_changes_no_output_bit(case):
    assert_same_run(case.run(case.opened, case.seen), case.run(case.net, case.seen))


@torch.no_grad()
def test_capturing_changes_no_output_bit(case):
    expected = case.run(case.net, case.seen)
    for options in ({}, {"dtype": torch.float16, "steps": slice(1, 3)}):
        with capture(case.opened, "*", **options):
            got = case.run(case.opened, case.seen)
        assert_same_run(got, expected)


def test_capturing_changes_no_action(case):
    played = case.play(case.net, greedy=True)
    with capture(case.opened, "*") as cache:
        watched = case.play(case.opened, greedy=True)
    assert torch.equal(watched.actions, played.actions)
    assert torch.equal(watched.logits, played.logits)
    assert torch.equal(cache["hook_policy"], played.logits)


@torch.no_grad()
def test_patching_a_run_with_its_own_activations_changes_nothing(case):
    expected = case.run(case.opened, case.seen)
    with capture(case.opened, "*") as cache:
        case.run(case.opened, case.seen)
    squares = torch.rand(BOARDS, *case.net.board, generator=torch.Generator().manual_seed(0)) < 0.5
    for addresses in (
        [Address("*")],
        [Address(site, squares=squares, channels=[0, 3]) for site in square_sites(case)],
    ):
        with intervene(case.opened, [patch_from(cache, address) for address in addresses]):
            assert_same_run(case.run(case.opened, case.seen), expected)


@torch.no_grad()
def test_patching_every_site_gives_the_other_run(case):
    expected = case.run(case.opened, case.seen_by_others)
    assert not torch.equal(case.run(case.opened, case.seen)[0], expected[0])
    with capture(case.opened, "*") as cache:
        case.run(case.opened, case.seen_by_others)
    inside = [patch_from(cache, Address(site)) for site in inner_sites(case)]
    with intervene(case.opened, inside):  # the outputs follow by themselves
        assert_same_run(case.run(case.opened, case.seen), expected)


@torch.no_grad()
def test_patching_some_boards_leaves_the_others(case):
    """What is put into one board never reaches another one of the batch."""
    expected, other = case.run(case.opened, case.seen), case.run(case.opened, case.seen_by_others)
    with capture(case.opened, square_sites(case)) as cache:
        case.run(case.opened, case.seen_by_others)
    squares = torch.zeros(BOARDS, *case.net.board, dtype=torch.bool)
    squares[2] = True
    with intervene(case.opened, [patch_from(cache, Address(site, squares=squares)) for site in cache]):
        got = case.run(case.opened, case.seen)
    untouched = IDS != 2
    assert torch.equal(got[0][:, untouched], expected[0][:, untouched])
    torch.testing.assert_close(got[0][0, 2], other[0][0, 2], atol=1e-5, rtol=0)


@torch.no_grad()
def test_steering_by_zero_is_the_identity(case):
    expected = case.run(case.opened, case.seen)
    direction = torch.nn.functional.normalize(torch.randn(8, generator=torch.Generator().manual_seed(0)), dim=0)
    sites = [site for site, shape in case.opened.sites().items() if len(shape) == 3 and shape[0] == 8]
    for alpha, same in ((0.0, True), (3.0, False)):
        with intervene(case.opened, [steer(Address(site), direction, alpha) for site in sites]):
            assert torch.equal(case.run(case.opened, case.seen)[0], expected[0]) == same


@torch.no_grad()
def test_every_site_is_heard(case):
    """An edit at any site changes the outputs: no tap is beside the path."""
    expected = case.run(case.opened, case.seen)
    for site in select_sites(case.opened, "*"):
        with intervene(case.opened, ablate(Address(site))):
            got = case.run(case.opened, case.seen)
        assert not (torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])), site


def test_ticks_unrolled_are_ticks_fused(case):
    """The training path and stepping through taps agree in outputs, memory and every gradient."""
    starts = torch.zeros(STEPS, BOARDS, dtype=torch.bool)
    starts[0], starts[3, ::2] = True, True
    observations = case.seen.transpose(0, 1)
    case.net.zero_grad(), case.opened.zero_grad()
    logits, values, state = case.net.unroll(observations, case.net.initial_state(BOARDS), starts)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    ((logits * weights).sum() + values.square().sum()).backward()
    memory, stepped_logits, stepped_values = case.opened.initial_state(BOARDS), [], []
    for observation, start in zip(observations, starts, strict=True):
        logit, value, memory = case.opened.step(observation, reset_state(memory, start))
        stepped_logits.append(logit), stepped_values.append(value)
    stepped_logits, stepped_values = torch.stack(stepped_logits), torch.stack(stepped_values)
    ((stepped_logits * weights).sum() + stepped_values.square().sum()).backward()
    close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
    close(stepped_logits, logits)
    close(stepped_values, values)
    for part, other in zip(memory, state, strict=True):
        close(part, other)
    gradients = {name: parameter.grad for name, parameter in case.net.named_parameters()}
    for name, parameter in case.opened.named_parameters():
        scale = float(gradients[name].abs().max())
        close(parameter.grad / scale, gradients[name] / scale)


@torch.no_grad()
def test_one_board_alone_is_the_same_board_in_a_batch(case):
    logits, values, _ = case.run(case.opened, case.seen)
    for board in (0, 4):
        alone = case.run(case.opened, case.seen[board : board + 1])
        torch.testing.assert_close(alone[0][:, 0], logits[:, board], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone[1][:, 0], values[:, board], atol=1e-5, rtol=1e-5)
        assert torch.equal(alone[0][:, 0].argmax(-1), logits[:, board].argmax(-1))


@torch.no_grad()
def test_memory_cut_out_and_transplanted_reproduces_the_run(case):
    """Memory is all that a run carries on: other boards, in another order, in another net object."""
    logits, values, states = case.run(case.opened, case.seen)
    ids, cut = torch.tensor([4, 1, 3]), 2
    transplant = tuple(part[ids].clone() for part in states[cut - 1])
    elsewhere = open_policy(case.net)
    got = case.run(elsewhere, case.seen[ids, cut:], transplant)
    torch.testing.assert_close(got[0], logits[cut:, ids], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[1], values[cut:, ids], atol=1e-5, rtol=1e-5)
    assert torch.equal(got[0].argmax(-1), logits[cut:, ids].argmax(-1))
    if states[0]:
        blank = case.run(elsewhere, case.seen[ids, cut:])
        assert not torch.allclose(blank[0], logits[cut:, ids], atol=1e-3)
