"""D13: what was planted is fitted and found, and nothing is said where readings cannot be told apart."""

from __future__ import annotations

import pytest
import torch

from planprobe.core.errors import ShapeError, UnknownNameError
from planprobe.instruments.detectors import mixture as m
from planprobe.instruments.detectors.search_order import Search, fit_search_order, score_in_order, score_strictly

NUM = 400


@pytest.fixture(scope="module")
def readings() -> dict[str, torch.Tensor]:
    """Two readings that disagree: log chances, and values that rank actions otherwise."""
    generator = torch.Generator().manual_seed(0)
    chances = torch.rand(NUM, 3, generator=generator, dtype=torch.float64)
    values = torch.rand(NUM, 3, generator=generator, dtype=torch.float64)
    return {m.MIXTURE: (chances / chances.sum(1, keepdim=True)).log(), "values": values}


def test_softening_by_hand():
    found = m.soften(torch.tensor([[0.0, 1.0]]), 0.5, 0.2)
    odds = torch.tensor(2.0, dtype=torch.float64).exp()
    assert found[0, 1] == pytest.approx(float(0.8 * odds / (1 + odds) + 0.1))


def test_an_action_of_no_chance_is_taken_by_lapse_alone():
    found = m.soften(torch.tensor([[-torch.inf, 0.0]]), 1.0, 0.1)
    torch.testing.assert_close(found, torch.tensor([[0.05, 0.95]], dtype=torch.float64))


@pytest.mark.parametrize(("temperature", "lapse"), [(0.3, 0.1), (1.0, 0.0), (0.05, 0.3)])
def test_planted_temperature_and_lapse_are_found(readings, temperature, lapse):
    fit = m.fit_softening(readings["values"], m.soften(readings["values"], temperature, lapse))
    assert fit.temperature == pytest.approx(temperature, rel=0.02)
    assert fit.lapse == pytest.approx(lapse, abs=0.01)


def test_histories_with_equal_scores_may_be_taken_together(readings):
    scores, choices = readings["values"][:50], m.soften(readings["values"][:50], 0.2, 0.1)
    one = m.fit_softening(scores, 3 * choices)
    three = m.fit_softening(scores.repeat(3, 1), choices.repeat(3, 1))
    assert one.log_likelihood == pytest.approx(three.log_likelihood, rel=1e-6)
    assert one.bic == pytest.approx(three.bic, rel=1e-6)


def test_a_fixed_temperature_costs_one_parameter_less(readings):
    choices = m.soften(readings[m.MIXTURE], 1.0, 0.0)
    free, fixed = m.fit_softening(readings[m.MIXTURE], choices), m.fit_softening(
        readings[m.MIXTURE], choices, temperature=1.0
    )  # fmt: skip
    assert fixed.temperature == 1.0
    assert free.bic - fixed.bic == pytest.approx(float(torch.tensor(float(NUM)).log()), abs=0.1)


def test_one_who_matches_is_found_out(readings):
    found = m.run(readings, m.soften(readings[m.MIXTURE], 1.0, 0.02), min_share=0.5, num_repeats=3)
    assert found.outcome == "supported"
    assert found.beyond_controls.low > 0


def test_one_who_maximises_is_no_mixture(readings):
    found = m.run(readings, m.soften(readings["values"], 0.1, 0.02), min_share=0.5, num_repeats=3)
    assert found.outcome == "refuted"
    assert found.controls["values"].value > found.effect.value


def test_the_likeliest_action_alone_is_no_matching(readings):
    found = m.run(readings, m.soften(readings[m.MIXTURE], 0.05, 0.02), min_share=0.5, num_repeats=3)
    assert found.outcome == "inconclusive"
    assert "does not match" in found.notes[-1]


def test_readings_that_say_the_same_are_not_told_apart(readings):
    twins = {m.MIXTURE: readings["values"], "values": readings["values"] + 1e-3 * readings[m.MIXTURE]}
    found = m.run(twins, m.soften(readings["values"], 0.3, 0.1), min_share=0.5, num_repeats=4)
    assert found.outcome == "inconclusive"


def test_choosing_at_random_is_attributed_to_chance(readings):
    fits = m.fit_readings(readings, torch.full((NUM, 3), 1 / 3, dtype=torch.float64))
    assert m.best_reading(fits) == m.RANDOM


def test_there_must_be_a_mixture_and_equal_shapes(readings):
    with pytest.raises(UnknownNameError, match="mixture"):
        m.run({"values": readings["values"]}, readings["values"], min_share=0.5)
    with pytest.raises(ShapeError):
        m.fit_softening(readings["values"], readings["values"][:3])


def walks(num, *, seed=0):
    """Histories of four values, of which some are ruled out, and five actions; each value has one of its own."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.rand(num, 4, generator=generator) < 0.6
    left[torch.arange(num), torch.randint(4, (num,), generator=generator)] = True
    belief = left.double() * (0.2 + torch.rand(num, 4, generator=generator, dtype=torch.float64))
    belief = belief / belief.sum(1, keepdim=True)
    ways = torch.eye(5, dtype=torch.float64)[:4].expand(num, 4, 5)
    return Search(belief, ways, torch.arange(num) // 4)


def searched(search):
    sampled = torch.einsum("hg,hga->ha", search.belief, search.ways)
    return {m.MIXTURE: sampled.log(), "values": torch.rand(sampled.shape, generator=torch.Generator().manual_seed(5))}


def test_a_planted_order_is_fitted_to_the_other_half_and_found():
    search = walks(NUM)
    weights = torch.tensor([1.0, 4.0, 0.25, 2.0], dtype=torch.float64)
    tilted = search.belief * weights
    chances = torch.einsum("hg,hga->ha", tilted / tilted.sum(1, keepdim=True), search.ways)
    fitted = fit_search_order(search, chances, torch.ones(NUM, dtype=torch.bool))
    torch.testing.assert_close(fitted, weights / 4, rtol=0.2, atol=0.0)
    torch.testing.assert_close(score_in_order(search, chances).exp(), chances, rtol=0.0, atol=0.04)


def test_who_samples_has_no_order():
    search = walks(NUM)
    chances = searched(search)[m.MIXTURE].exp()
    fitted = fit_search_order(search, chances, torch.ones(NUM, dtype=torch.bool))
    torch.testing.assert_close(fitted, torch.ones(4, dtype=torch.float64), rtol=0.0, atol=0.01)
    found = m.run(searched(search), chances, history_ids=search.ids, search=search, min_share=0.5, num_repeats=3)
    assert found.outcome == "supported"
    shares = [row for row in found.rows if row["table"] == "recovery"]
    recovered = {row["simulated"]: row["value"] for row in shares if row["attributed"] == row["simulated"]}
    assert recovered == {m.MIXTURE: 1.0, "values": 1.0, m.ORDERED: 1.0}


def test_who_prefers_some_values_whatever_it_believes_is_no_sampler():
    """Its choices are nearer to the mixture than to any other reading, yet an order explains them better."""
    search = walks(NUM)
    tilted = search.belief * torch.tensor([1.0, 5.0, 0.2, 1.0], dtype=torch.float64)
    chances = torch.einsum("hg,hga->ha", tilted / tilted.sum(1, keepdim=True), search.ways)
    options = {"history_ids": search.ids, "min_share": 0.1, "num_repeats": 3}
    assert m.run(searched(search), chances, **options).outcome == "supported"
    found = m.run(searched(search), chances, search=search, **options)
    assert found.outcome == "refuted"
    assert "follow that order" in found.notes[-1]


def test_who_is_strict_about_its_order_is_attributed_to_it():
    search = walks(NUM)
    order = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    strict = score_strictly(search, order).exp()
    assert bool((strict.argmax(1) == (search.belief > 0).double().argmax(1)).all())
    fits = m.fit_readings(searched(search), m.soften(strict.log(), 1.0, 0.05), search=search)
    assert m.best_reading(fits) == m.ORDERED
    assert fits[m.ORDERED].num_parameters == 2 + 3


def test_an_order_is_of_the_same_histories():
    search = walks(8)
    with pytest.raises(ShapeError, match="belief"):
        Search(search.belief[:5], search.ways, search.ids)
