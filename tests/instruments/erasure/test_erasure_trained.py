"""Erasure in a trained agent: a fresh probe is at the majority floor, and little is left on other levels."""

import pytest
import torch

from planprobe.core.play import play
from planprobe.instruments.concepts.catalog import sample_states
from planprobe.instruments.erasure.erasure import check_erasure, fit_erasure
from planprobe.instruments.erasure.targets import concept_target
from planprobe.instruments.hooks import capture, intervene, open_policy
from planprobe.instruments.probes.softmax_regression import solve_softmax
from planprobe.subjects.zoo import load_agent

SITE, STEPS = "ticks.{-1}.0.hook_h", 10
CONCEPT = concept_target("agent-approach-direction")


@pytest.fixture(scope="module")
def agent():
    return load_agent("drc12-rl-maze11-s0")


@pytest.fixture(scope="module")
def opened(agent):
    return open_policy(agent.net, name=agent.name)


@pytest.fixture(scope="module")
def levels(agent):
    return agent.levels("valid", 60)


@pytest.fixture(scope="module")
def erasure(agent, opened, levels):
    sites = ("ticks.*.0.hook_c", "ticks.*.0.hook_h")
    return fit_erasure(opened, agent.make_env, levels, CONCEPT, sites=sites, per_level=3, max_steps=STEPS)


def probe_rows(opened, agent, levels, edits):
    """What the last tick holds on clean trajectories, and the classes: (N, C), (N,)."""
    ids = torch.arange(len(levels))
    rollout = play(opened, agent.make_env(levels, len(ids)), ids, keep_observations=True, max_steps=STEPS)
    states = sample_states(rollout, per_level=3, seed=0)
    z = CONCEPT(rollout, states, levels)
    memory = opened.initial_state(len(ids), (levels.height, levels.width))
    with torch.no_grad(), intervene(opened, edits), capture(opened, SITE) as cache:
        for step in range(int(states.steps.max()) + 1):
            _, _, memory = opened.step(rollout.observations[:, step], memory)
    (held,) = cache.values()
    rows = held[states.board_ids, states.steps].movedim(1, -1)
    known = ~z.isnan().any(-1)
    return rows[known], z[known].argmax(-1)


def fit_fresh(x, labels):
    """Log loss and predictions of a new probe on its own rows."""
    x = (x - x.mean(0)) / x.std()
    l2, variants = torch.tensor([1e-6], dtype=torch.float64), torch.tensor([0])
    probe = solve_softmax(x, labels[None], l2, variants, num_classes=5)
    return float(probe.losses[0]), (x.double() @ probe.weights[0].T + probe.biases[0]).argmax(1)


def test_a_fresh_probe_finds_nothing_in_the_erased_run(agent, opened, levels, erasure):
    walls = levels.boards != 1
    x, labels = probe_rows(opened, agent, levels, [])
    erased, same = probe_rows(opened, agent, levels, erasure.edits(walls))
    assert torch.equal(labels, same)
    shares = torch.bincount(labels, minlength=5).double() / len(labels)
    floor = float(-(shares * shares.clamp(min=1e-9).log()).sum())
    before, predicted = fit_fresh(x, labels)
    after, answers = fit_fresh(erased, labels)
    assert before < floor - 0.1 and (predicted != 0).any()
    assert after > floor - 0.01
    assert float((answers != 0).double().mean()) < 0.01  # it says 'never' everywhere


def test_what_is_left_on_other_levels(agent, opened, erasure):
    rows = check_erasure(
        opened, agent.make_env, agent.levels("test", 40), CONCEPT, erasure, per_level=3, max_steps=STEPS
    )
    assert [row["site"] for row in rows] == [f"ticks.{tick}.0.hook_{kind}" for tick in (0, 1) for kind in "ch"]
    assert all(row["rank"] == 4 and row["explained_before"] > 0.1 for row in rows)
    assert all(row["explained_after"] < 0.25 * row["explained_before"] for row in rows)
