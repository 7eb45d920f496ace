"""What holds of every organism: the interface of trained agents, and the laws of instruments."""

import itertools

import pytest
import torch
from organism_cases import BOARDS, CASES, levels_of, make_env, organism

from planprobe.core.errors import RecipeError, ShapeError, UnknownAgentError
from planprobe.core.play import play
from planprobe.core.protocols import Policy
from planprobe.instruments.hooks import Address, ablate, capture, intervene, open_policy, patch_from, steer
from planprobe.instruments.thinking import match_noise
from planprobe.subjects import organisms
from planprobe.subjects.agent import load_factory
from planprobe.subjects.organisms import FAMILIES, families, make_organism, untrained_like
from planprobe.subjects.organisms.base import AMPLITUDE, draw_rotation, draw_style
from planprobe.subjects.organisms.families import named_task
from planprobe.subjects.recipe import TaskRecipe
from planprobe.verdict.judge import READINGS
from planprobe.verdict.material import untrained_nets

STEPS = 3


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request):
    return Case(*request.param)


class Case:
    def __init__(self, family, kind):
        self.family, self.kind = family, kind
        self.policy = organism(family, kind).policy
        self.opened = open_policy(self.policy)
        levels = levels_of(kind)
        self.seen, self.seen_by_others = (
            play(
                self.policy, make_env(kind, levels, BOARDS, STEPS), ids, greedy=False, keep_observations=True
            ).observations
            for ids in (torch.arange(BOARDS), torch.arange(BOARDS, 2 * BOARDS))
        )  # fmt: skip

    def run(self, policy, observations, state=None):
        """Logits (T, B, A), values (T, B), last memory."""
        state = policy.initial_state(len(observations), tuple(observations.shape[3:])) if state is None else state
        logits, values = [], []
        with torch.no_grad():
            for step in range(observations.shape[1]):
                logit, value, state = policy.step(observations[:, step], state)
                logits.append(logit), values.append(value)
        return torch.stack(logits), torch.stack(values), state


def assert_same(got, expected):
    for one, other in zip((*got[:2], *got[2]), (*expected[:2], *expected[2]), strict=True):
        assert torch.equal(one, other)


def test_interface_of_trained_agents(case):
    assert isinstance(case.policy, Policy)
    sites = case.opened.sites()
    ticks = [f"ticks.{tick}.0.hook_{name}" for tick in range(case.policy.num_ticks) for name in ("c", "h")]
    assert {*ticks, "hook_encode", "hook_policy", "hook_value"} <= set(sites)
    assert all(sites[site] == (case.policy.channels, *case.policy.board) for site in ticks)
    logits, values, state = case.run(case.policy, case.seen)
    assert logits.shape == (case.seen.shape[1], BOARDS, 4) and values.shape == logits.shape[:2]
    assert all(len(part) == BOARDS for part in state)


def test_opening_and_capturing_change_no_output_bit(case):
    expected = case.run(case.policy, case.seen)
    assert_same(case.run(case.opened, case.seen), expected)
    with capture(case.opened, "*") as cache:
        assert_same(case.run(case.opened, case.seen), expected)
    with intervene(case.opened, patch_from(cache, Address("*"))):
        assert_same(case.run(case.opened, case.seen), expected)


def test_patching_every_site_gives_the_other_run(case):
    expected = case.run(case.opened, case.seen_by_others)
    assert not torch.equal(case.run(case.opened, case.seen)[0], expected[0])
    with capture(case.opened, "*") as cache:
        case.run(case.opened, case.seen_by_others)
    inside = [patch_from(cache, Address(pattern)) for pattern in ("hook_encode", "ticks.*")]
    with intervene(case.opened, inside):
        got = case.run(case.opened, case.seen)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_one_board_alone_is_the_same_board_in_a_batch(case):
    logits, values, _ = case.run(case.policy, case.seen)
    alone = case.run(case.policy, case.seen[3:4])
    torch.testing.assert_close(alone[0][:, 0], logits[:, 3], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone[1][:, 0], values[:, 3], atol=1e-4, rtol=1e-4)
    assert torch.equal(alone[0][:, 0].argmax(-1), logits[:, 3].argmax(-1))


def test_memory_is_all_that_a_run_carries_on(case):
    logits, _, _ = case.run(case.policy, case.seen)
    _, _, state = case.run(case.policy, case.seen[:, :2])
    ids = torch.tensor([4, 1])
    got = case.run(open_policy(case.policy), case.seen[ids, 2:], tuple(part[ids].clone() for part in state))
    torch.testing.assert_close(got[0], logits[2:, ids], atol=1e-4, rtol=1e-4)


def test_the_policy_hears_its_memory_unless_it_is_a_bystander(case):
    """Nothing that an organism acts on goes past the sites; a bystander acts on none of the ticks."""
    expected = case.run(case.opened, case.seen)[0]
    with intervene(case.opened, ablate(Address("ticks.*"))):
        heard = not torch.equal(case.run(case.opened, case.seen)[0], expected)
    assert heard == (case.family != "bystander")
    with intervene(case.opened, ablate(Address("hook_encode"))):
        assert not torch.equal(case.run(case.opened, case.seen)[0], expected)


def test_steering_by_zero_is_the_identity(case):
    expected = case.run(case.opened, case.seen)[0]
    direction = torch.nn.functional.normalize(torch.ones(case.policy.channels), dim=0)
    with intervene(case.opened, steer(Address("ticks.*"), direction, 0.0)):
        assert torch.equal(case.run(case.opened, case.seen)[0], expected)


def test_memories_of_nothing_and_of_noise_are_survived(case):
    """What controls of thinking time begin with."""
    blank = torch.zeros_like(case.seen[:, :2])
    _, _, state = case.run(case.policy, blank)
    noise = match_noise(case.run(case.policy, case.seen)[2], torch.arange(BOARDS), seed=0)
    for memory in (state, noise):
        logits, values, _ = case.run(case.policy, case.seen, memory)
        assert logits.isfinite().all() and values.isfinite().all()


def test_seeds_differ_in_everything_that_should_not_matter():
    styles = [draw_style(seed, ticks=(2, 4)) for seed in range(40)]
    assert {style.num_ticks for style in styles} == {2, 3, 4}
    assert len({style.num_padding for style in styles}) > 6
    assert max(s.temperature for s in styles) > 1.8 * min(s.temperature for s in styles)
    assert max(s.noise for s in styles) > 2.5 * min(s.noise for s in styles)
    first, second = organism("wavefront", seed=0).policy, organism("wavefront", seed=1).policy
    assert first.channels != second.channels or not torch.allclose(first.mix_cell, second.mix_cell)
    again = make_organism("wavefront", named_task("maze", 9), 0).policy
    assert torch.equal(again.mix_cell, first.mix_cell) and torch.equal(again.patterns, first.patterns)


def test_the_code_is_a_rotation_of_the_features():
    rotation = draw_rotation(12, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(12), atol=1e-5, rtol=0)
    policy = organism("reflex").policy
    walls = (levels_of("maze").boards[:BOARDS] & 1).float()
    observation = make_env("maze", levels_of("maze"), BOARDS).reset(torch.arange(BOARDS))
    with torch.no_grad():
        hidden, cell = policy.step(observation, policy.initial_state(BOARDS))[2]
    for values, site in ((cell, "cell"), (hidden, "hidden")):
        got = policy.read(values, site)["wall"].squeeze(1)
        assert (got - AMPLITUDE * walls).abs().max() < AMPLITUDE / 2
        shares = policy.get_buffer(f"mix_{site}")[:, 0].square()  # of the feature in each channel
        assert shares.max() < 0.8
    assert not torch.allclose(policy.mix_cell, policy.mix_hidden)


def test_an_organism_can_be_named_as_a_factory():
    agent = load_factory("planprobe.subjects.organisms", "short_sighted_maze9_s2")
    assert agent.task == TaskRecipe(size=9)
    assert type(agent.net).__name__ == "ShortSighted" and agent.net.style.seed == 2
    with pytest.raises(AttributeError, match="wavefront_maze9_s3"):
        _ = organisms.wavefrnt_maze9_s0


@pytest.mark.parametrize("family", ["wavefront", "untrained"])
def test_an_untrained_net_of_the_same_wiring(family):
    policy = organism(family).policy
    net = untrained_like(policy, seed=3)
    ours, theirs = open_policy(policy).sites(), open_policy(net).sites()
    ticks = [site for site in ours if site.startswith("ticks.")]
    assert ticks and all(theirs[site] == ours[site] for site in ticks)


def test_an_untrained_organism_has_untrained_nets_beside_it_none_of_them_itself():
    agent = load_factory("planprobe.subjects.organisms", "untrained_maze9_s1")
    nets = untrained_nets(agent, None)
    weights = [net.encoder.weight.flatten() for net in (agent.net, *nets)]
    assert len(nets) >= 5
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(weights, 2))


def test_answers_are_readings_of_the_verdict():
    assert {family.answer for family in FAMILIES.values()} <= set(READINGS)
    without_plan = ("does not plan", "adapts without planning")
    assert all((family.kind == "none") == (family.answer in without_plan) for family in FAMILIES.values())


def test_every_family_is_built_for_the_tasks_that_it_names():
    named = {(name, kind) for name, family in FAMILIES.items() for kind in family.tasks}
    assert named == set(families._PLACES) | {("untrained", kind) for kind in families.TASK_KINDS}


def test_errors_say_what_there_is():
    with pytest.raises(UnknownAgentError, match="Did you mean 'wavefront'"):
        make_organism("wave-front", TaskRecipe())
    with pytest.raises(RecipeError, match="it can be made for maze"):
        make_organism("rollout", TaskRecipe(kind="boxoban"))
    with pytest.raises(RecipeError, match="planes"):
        make_organism("reflex", TaskRecipe(observation="rgb"))
    with pytest.raises(ShapeError, match="reads \\(B, 3, H, W\\)"):
        organism("reflex").policy.step(torch.zeros(1, 4, 9, 9, dtype=torch.uint8), ())
