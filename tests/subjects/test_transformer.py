"""The transformer's memory: what it holds, when it is emptied, and where it ends."""

import pytest
import torch

from planprobe.core.errors import RecipeError, ShapeError
from planprobe.instruments.hooks import capture, open_policy
from planprobe.subjects.nets.base import reset_state
from planprobe.subjects.nets.transformer import Transformer

CONTEXT, BOARDS, PLANES = 6, 3, 5


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = Transformer(planes=PLANES, board=(1, 1), num_actions=2, context=CONTEXT, channels=8, num_heads=2, hidden=8)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def observations(num_steps, seed=0):
    return torch.randn(num_steps, BOARDS, PLANES, 1, 1, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def stepped(net, seen, starts, state):
    outputs = []
    for observation, start in zip(seen, starts, strict=True):
        logits, value, state = net.step(observation, reset_state(state, start))
        outputs.append(torch.cat([logits, value[:, None]], dim=1))
    return torch.stack(outputs) if outputs else None, state


@torch.no_grad()
@pytest.mark.parametrize("before", [0, 3])
def test_an_unroll_across_trial_starts_is_the_steps_it_stands_for(net, before):
    """Several starts on one board, one on the first step, one on the last, none at all; with and without a past."""
    seen = observations(before + 8)
    starts = torch.zeros(before + 8, BOARDS, dtype=torch.bool)
    later = starts[before:]
    later[[0, 2, 3], 0], later[[3, 7], 1], later[2, 2] = True, True, True
    _, state = stepped(net, seen[:before], starts[:before], net.initial_state(BOARDS))
    expected, last = stepped(net, seen[before:], later, state)
    logits, values, unrolled = net.unroll(seen[before:], state, later)
    torch.testing.assert_close(torch.cat([logits, values[..., None]], dim=-1), expected, atol=1e-5, rtol=1e-5)
    for part, other in zip(unrolled, last, strict=True):
        torch.testing.assert_close(part, other, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_trial_knows_nothing_of_the_one_before(net):
    """What was seen before a start changes no later output, what was seen after it does."""
    starts = torch.zeros(6, BOARDS, dtype=torch.bool)
    starts[3] = True
    seen, other = observations(6), observations(6, seed=1)
    expected, *_ = net.unroll(seen, net.initial_state(BOARDS), starts)
    another_past = torch.cat([other[:3], seen[3:]])
    got, *_ = net.unroll(another_past, net.initial_state(BOARDS), starts)
    torch.testing.assert_close(got[3:], expected[3:])
    assert not torch.allclose(got[:3], expected[:3])
    another_present = torch.cat([seen[:3], other[3:4], seen[4:]])
    got, *_ = net.unroll(another_present, net.initial_state(BOARDS), starts)
    assert not torch.allclose(got[5], expected[5])


@torch.no_grad()
def test_patterns_are_causal_distributions_over_the_steps_so_far(net):
    opened = open_policy(net)
    seen = observations(4)
    with capture(opened, "blocks.*.attn.hook_pattern") as cache:
        stepped(opened, seen, torch.zeros(4, BOARDS, dtype=torch.bool), opened.initial_state(BOARDS))
    for site in ("blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"):
        pattern = cache[site]  # (B, T, heads, keys)
        assert pattern.shape == (BOARDS, 4, 2, CONTEXT)
        torch.testing.assert_close(pattern.sum(-1), torch.ones(BOARDS, 4, 2))
        future = torch.ones(4, CONTEXT).triu(1).bool()
        assert bool((pattern.transpose(1, 2)[:, :, future] == 0).all())
        assert bool((pattern.transpose(1, 2)[:, :, ~future] > 0).all())


@torch.no_grad()
def test_sites_have_the_names_of_transformer_lens(net):
    sites = open_policy(net).sites()
    for name, shape in {
        "hook_pos_embed": (8, 1, 1), "blocks.0.hook_resid_pre": (8, 1, 1), "blocks.1.hook_resid_post": (8, 1, 1),
        "blocks.0.attn.hook_q": (2, 4), "blocks.0.attn.hook_z": (2, 4), "blocks.0.attn.hook_attn_scores": (2, CONTEXT),
        "blocks.0.mlp.hook_post": (32, 1, 1), "blocks.0.hook_attn_out": (8, 1, 1), "blocks.0.hook_mlp_out": (8, 1, 1),
    }.items():  # fmt: skip
        assert sites[name] == shape


def test_a_trial_longer_than_the_context_is_refused(net):
    never = torch.zeros(CONTEXT + 1, BOARDS, dtype=torch.bool)
    with pytest.raises(ShapeError, match="remembers 6"):
        stepped(net, observations(CONTEXT + 1), never, net.initial_state(BOARDS))
    with pytest.raises(ShapeError, match="remembers 6"):
        net.unroll(observations(CONTEXT + 1), net.initial_state(BOARDS), never)
    with pytest.raises(RecipeError, match="cannot be shared evenly"):
        Transformer(planes=1, board=(1, 1), num_actions=2, context=3, channels=9, num_heads=2)
    with pytest.raises(RecipeError, match="set context"):
        Transformer(planes=1, board=(1, 1), num_actions=2, context=0)
