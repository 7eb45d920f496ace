"""D13: what was planted is fitted and found, and nothing is said where readings cannot be told apart."""

from __future__ import annotations

import pytest
import torch

from planprobe.core.errors import ShapeError, UnknownNameError
from planprobe.instruments.detectors import mixture as m

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
