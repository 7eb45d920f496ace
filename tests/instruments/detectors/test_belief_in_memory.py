"""D12: a player that keeps counts holds its belief and can be run on it; one that keeps the last pulls cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact_bandit_policies import CountingPolicy, LastPullPolicy, UniformPolicy

from planprobe.core.errors import ShapeError, TooFewLevelsError
from planprobe.core.play_trials import play_trials
from planprobe.instruments.detectors import belief, belief_simulation
from planprobe.instruments.probes.mlp import fit_mlp
from planprobe.instruments.probes.splits import split_by_level
from planprobe.instruments.statistics.metrics import count_moments, r_squared
from planprobe.instruments.statistics.stats import cluster_bootstrap
from planprobe.subjects.envs.bandit import BanditTask
from planprobe.subjects.envs.trial_catalog import make_trial_env
from planprobe.subjects.envs.trial_inputs import Inputs
from planprobe.subjects.references.bandit_policies import thompson_policy
from planprobe.subjects.references.belief_numbers import exact_belief

TASK = BanditTask(num_arms=2, num_pulls=10)
OPTIONS = {"num_updates": 100, "most_steps": 2}


@pytest.fixture(scope="module")
def trials() -> belief.BeliefTrials:
    rollout = play_trials(UniformPolicy(2), make_trial_env(TASK, Inputs(), 150), keep_observations=True)
    exact = exact_belief(TASK, rollout)
    return belief.BeliefTrials(
        rollout.observations, rollout.active, exact.numbers, exact.update, exact.psi, exact.psi_chances
    )


def test_counts_hold_the_belief(trials):
    found = belief.run(CountingPolicy(thompson_policy), trials, untrained=[LastPullPolicy()], min_effect=0.5, **OPTIONS)
    assert found.outcome == "supported"
    assert found.effect.value > 2  # bits: under a sixteenth of the variance is left
    maps = {(row["source"], row["map"]): row["value"] for row in found.rows if row["table"] == "maps"}
    assert maps["another trial", belief.MLP] < 0.6 < maps["memory", belief.MLP]  # what time tells, every trial tells
    psi = {(row["step"], row["source"]): row["value"] for row in found.rows if row["table"] == "psi"}
    last = max(step for step, _ in psi)
    assert psi[last, "exact posterior"] < psi[0, "exact posterior"] == pytest.approx(0.693, abs=1e-3)
    assert psi[last, "probe of memory"] == pytest.approx(psi[last, "exact posterior"], abs=0.15)


def test_the_last_pulls_hold_no_belief(trials):
    found = belief.run(LastPullPolicy(), trials, min_effect=0.5, **OPTIONS)
    assert found.outcome == "refuted"
    assert found.effect.value < 1


class Padded(LastPullPolicy):
    """The same with forty more numbers in memory, which hold nothing."""

    def initial_state(self, num_boards, board=None):
        return (*super().initial_state(num_boards, board), torch.zeros(num_boards, 40))

    def step(self, observation, state):
        logits, value, after = super().step(observation, state[:-1])
        return logits, value, (*after, state[-1])


def test_maps_with_more_weights_than_trials_refute_nothing(trials):
    found = belief.run(Padded(), trials, min_effect=0.5, **OPTIONS)
    assert found.outcome == "inconclusive"
    assert "were fitted on 90 trials" in found.notes[-1]


def test_without_an_untrained_net_nothing_is_supported(trials):
    found = belief.run(CountingPolicy(thompson_policy), trials, min_effect=0.5, **OPTIONS)
    assert found.outcome == "inconclusive"


def test_counts_are_run_on_the_belief(trials):
    found = belief_simulation.run(
        CountingPolicy(thompson_policy), trials, untrained=[LastPullPolicy()], min_effect=0.1, ahead=(1, 2), **OPTIONS
    )
    assert found.outcome == "supported"
    assert found.effect.value > 0.8
    assert found.controls["irrelevant latent"].value < 0.7  # it carries the same history, in another form
    back = {
        row["steps_ahead"]: row["value"]
        for row in found.rows
        if (row["direction"], row["source"], row["map"]) == (belief_simulation.TO_BELIEF, "belief", belief.MLP)
    }
    assert min(back.values()) > 0.8
    assert set(back) == {0, 1, 2}


def test_one_of_another_memory_is_not(trials):
    """What it does follows from the last pull alone, which every start is shown: there is nothing to remove."""
    found = belief_simulation.run(
        LastPullPolicy(), trials, untrained=[CountingPolicy(thompson_policy)], min_effect=0.1, ahead=(1,), **OPTIONS
    )
    assert found.outcome != "supported"


def test_an_irrelevant_latent_is_a_posterior_of_what_was_seen(trials):
    first, again = (belief.irrelevant_numbers(trials.observations, 4, seed=3) for _ in range(2))
    torch.testing.assert_close(first.sum(2), torch.ones(first.shape[:2]))
    assert torch.equal(first, again)
    # trials that were shown the same hold the same, and one other step makes a difference
    changed = trials.observations.clone()
    changed[:, 4, 1] += 1
    other = belief.irrelevant_numbers(changed, 4, seed=3)
    assert torch.equal(other[:, :4], first[:, :4])
    assert not torch.allclose(other[:, 4:], first[:, 4:])


def test_a_partner_is_another_trial_of_the_same_part(trials):
    rows = belief.pick_rows(trials.active, [2, 5], seed=0)
    numbers = torch.arange(150.0)[:, None, None].expand(150, 10, 1)
    partner = belief._of_partner(numbers, torch.randperm(150), rows).squeeze(1).long()
    assert not bool((partner == rows.trials).any())
    for part in rows.split:
        assert set(partner[part].tolist()) == set(rows.trials[part].tolist())


def test_memory_and_trials_are_checked(trials):
    with pytest.raises(ShapeError, match="has no belief"):
        belief.run(UniformPolicy(2), trials, min_effect=0.5, **OPTIONS)
    with pytest.raises(TooFewLevelsError):
        belief.BeliefTrials(trials.observations[:5], trials.active[:5], trials.numbers[:5], trials.update)
    with pytest.raises(ShapeError):
        belief.BeliefTrials(trials.observations[:, 1:], trials.active, trials.numbers, trials.update)


CHANCES, STEPS = 24, 8


def draw_read_outs(num_trials, generator):
    """Chances that settle on one of 24 at a step of chance, and a read-out that some trials make harder than others."""
    truth = torch.randint(CHANCES, (num_trials,), generator=generator)
    left = torch.rand(num_trials, CHANCES, generator=generator)
    left[torch.arange(num_trials), truth] = 2
    rank = left.argsort(1, descending=True).argsort(1)
    when = torch.randint(1, STEPS + 4, (num_trials, 1), generator=generator)
    steps = torch.arange(STEPS)
    number = torch.where(steps >= when, 1, torch.where(steps >= when - 2, 6, CHANCES))[:, :, None]
    exact = (rank[:, None] < number) / number
    hard = torch.rand(num_trials, 1, 1, generator=generator) * 0.16
    noise = torch.randn(exact.shape, generator=generator)
    return exact, 1 / CHANCES + 0.8 * (exact - 1 / CHANCES) + hard * noise


def moments_of(exact, read, mean):
    ids = torch.arange(len(exact)).repeat_interleave(STEPS)
    parts = ((part - mean).flatten(0, 1) for part in (exact, read))
    return count_moments(*parts, level_index=ids, num_levels=len(exact))


def test_intervals_hold_the_bits_of_a_read_out_as_often_as_they_say():
    """A mean of 24 R², each about its mean on the test trials, has an interval that never holds what it estimates."""
    generator = torch.Generator().manual_seed(0)
    everything = draw_read_outs(20_000, generator)
    mean = everything[0].mean((0, 1))
    bits = float(belief.information(moments_of(*everything, mean).sum(0)))
    holds = {name: 0 for name in ("its own value", "the truth", "mean of R²")}
    for repeat in range(100):
        exact, read = draw_read_outs(400, generator)
        moments = moments_of(exact[:80], read[:80], exact[80:].mean((0, 1)))
        found = cluster_bootstrap(moments, belief.information, num_resamples=500, seed=repeat)
        single = cluster_bootstrap(moments, r_squared, num_resamples=500, seed=repeat)
        holds["its own value"] += found.low <= found.value <= found.high
        holds["the truth"] += found.low <= bits <= found.high
        holds["mean of R²"] += single.low <= 1 - 4**-bits <= single.high
    assert holds["its own value"] == 100
    assert holds["the truth"] >= 88  # of 95, less three standard errors
    assert holds["mean of R²"] <= 50


def test_numbers_of_other_scales_count_alike_and_chances_as_they_are():
    split = split_by_level(torch.arange(200))
    generator = torch.Generator().manual_seed(0)
    mixed = torch.rand(200, 3, generator=generator) * torch.tensor([1.0, 100.0, 0.0]) + torch.tensor([0.0, 7.0, 5.0])
    found = belief.to_one_scale(mixed, split)
    torch.testing.assert_close(found[split.train].std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))
    chances = mixed[:, :2] / mixed[:, :2].sum(1, keepdim=True)
    torch.testing.assert_close(belief.to_one_scale(chances, split), chances - chances[split.train].mean(0))


def test_explained_share_by_hand():
    true, read = torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert belief.explained_share(count_moments(true, read)[0]) == pytest.approx(1 - 1 / 6)
    assert belief.information(count_moments(true, true)[0]) == pytest.approx(-0.5 * np.log2(belief.LEAST_ERROR))


def test_a_hidden_layer_reads_what_no_linear_map_can():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(600, 2, generator=generator) - 0.5
    target = (features[:, :1] * features[:, 1:]).sign()
    ids = torch.arange(600)
    options = {"level_ids": ids, "split": split_by_level(ids), "num_updates": 300}
    found = fit_mlp(features, target, **options)
    assert found.valid_loss < 0.3
    assert torch.equal(found.predict(features), fit_mlp(features, target, **options).predict(features))
