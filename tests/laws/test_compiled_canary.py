"""The canary: does an edit still reach the output, and does torch still pass hooks by once it has compiled?

If the second test fails, torch has begun to look for hooks in compiled code, and the refusal can be thought over.
"""

import pytest
import torch

from planprobe.core.errors import CompiledPolicyError
from planprobe.instruments.hooks import Address, ablate, intervene, open_policy
from planprobe.subjects.nets import make_net
from planprobe.subjects.recipe import NetRecipe


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    recipe = NetRecipe(num_ticks=1, channels=4, hidden=8, pool_and_inject=False)
    return make_net(recipe, planes=3, board=(7, 7), num_actions=4)


@pytest.fixture(scope="module")
def observation():
    return torch.randint(0, 2, (2, 3, 7, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_zero_patch_changes_the_output_of_an_opened_policy(net, observation):
    opened = open_policy(net)
    plain = opened.step(observation, opened.initial_state(2))[0]
    with intervene(opened, ablate(Address("ticks.0.0.hook_h"))):
        patched = opened.step(observation, opened.initial_state(2))[0]
    assert not torch.equal(plain, patched)
    assert torch.equal(plain, opened.step(observation, opened.initial_state(2))[0])


@torch.no_grad()
def test_a_compiled_policy_would_silently_ignore_it(net, observation):
    policy = open_policy(net)._policy
    # backend "eager" is Dynamo alone: the part that passes hooks by, without the need for a C++ compiler
    compiled = torch.compile(policy, backend="eager")
    state = policy.initial_state(2)
    try:
        plain = compiled(observation, state)[0]
    except RuntimeError as error:
        pytest.skip(f"torch.compile does not run here: {error}")
    fired = []

    def zero(module, args, value):
        fired.append(value)
        return torch.zeros_like(value)

    handle = policy.ticks[0][0].hook_h.register_forward_hook(zero)
    try:
        assert torch.equal(compiled(observation, state)[0], plain)
        assert not fired
        assert not torch.equal(policy.step(observation, state)[0], plain)
        assert fired
    finally:
        handle.remove()
        torch._dynamo.reset()
    with pytest.raises(CompiledPolicyError, match=r"silently ignored"):
        open_policy(compiled)
