"""Error rates are counted from judged organisms, kept with version and budget, and a verdict rests on no others."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from verdict_sample import SOLVES, evidence

from planprobe.core.errors import OutputError, RecipeError
from planprobe.subjects.organisms import FAMILIES, TRAINED
from planprobe.subjects.organisms.families import BOARDS
from planprobe.verdict import calibrate as calibration
from planprobe.verdict.calibrate import (
    Case,
    JudgedCase,
    calibrate,
    calibration_cases,
    case_rows,
    find_rates,
)
from planprobe.verdict.figures.calibration import calibration as draw
from planprobe.verdict.judge import NOT_CALIBRATED, headline, judge
from planprobe.verdict.rates import BOARD_BATTERY, TRIAL_BATTERY, battery_version, load_rates, save_rates
from planprobe.verdict.truths import SILENT_ABOUT, TRUE_OF, TRUE_OF_TRIALS, claim_holds

DETECTORS = ("D1", "D2", "D3", "D4", "D7", "D10")


def judged(family: str, seed: int, supported: tuple[str, ...], reading: str, planning_type: str = "not determined"):
    signs = {each: "supported" if each in supported else "refuted" for each in DETECTORS}
    rows = [{"detector": each, "outcome": sign, "low": 0.01, "power": 0.9} for each, sign in signs.items()]
    about = FAMILIES[family]
    return JudgedCase(
        Case(family, "maze", 9, seed), about.answer, about.kind, reading, planning_type, 0.9, 1.0, rows
    )  # fmt: skip


CASES = [
    judged("wavefront", 0, ("D1", "D2", "D4", "D7", "D10"), "plans", "parallel sweep"),
    judged("wavefront", 1, ("D1", "D4"), "cannot say"),
    judged("rollout", 0, DETECTORS, "plans", "parallel sweep"),
    judged("reflex", 0, (), "does not plan"),
    judged("reflex", 1, ("D7",), "cannot say"),
    judged("bystander", 0, ("D4",), "plan present but unused"),
    judged("table", 0, ("D1", "D2", "D7", "D10"), "plans"),
]


def test_rates_counted_by_hand():
    rates = find_rates(CASES, "quick")
    d7, d4, d3 = (rates.detectors[name] for name in ("D7", "D4", "D3"))
    assert (d7.false_positives.value, d7.false_positives.n) == (pytest.approx(2 / 4), 4)
    assert (d7.true_positives.value, d7.true_positives.n) == (pytest.approx(2 / 3), 3)
    assert (d4.false_positives.value, d4.true_positives.value) == (0.0, 1.0)  # a bystander carries a plan
    assert (d3.false_positives.n, d3.true_positives.n) == (6, 1)
    assert rates.verdict_right.value == pytest.approx(4 / 7)
    assert (rates.given_right.value, rates.given_right.n) == (pytest.approx(4 / 5), 5)
    assert (rates.called_planner.value, rates.called_planner.n) == (pytest.approx(1 / 4), 4)
    assert (rates.planner_denied.value, rates.planner_denied.n) == (0.0, 3)  # 'cannot say' denies nothing
    denied = find_rates([*CASES, judged("wavefront", 2, (), "adapts without planning")], "quick")
    assert (denied.planner_denied.value, denied.planner_denied.n) == (pytest.approx(1 / 4), 4)
    assert (rates.type_right.value, rates.type_right.n) == (0.5, 2)  # the rollout was taken for a sweep
    no_ladder = replace(CASES[0], rows=[row for row in CASES[0].rows if row["detector"] != "D3"], planning_type="")
    assert find_rates([*CASES, no_ladder], "quick").type_right.n == 2  # where no type can be told, none is wrong
    assert (rates.account_denied.value, rates.account_denied.n) == (0.4, 5)  # the second wavefront's and reflex's
    assert rates.open_about(["D1", "D7"]) == ["D1", "D7"]  # too few organisms each
    enough = find_rates(5 * CASES, "quick")
    assert enough.open_about(["D1", "D7", "D99"]) == ["D99"]
    assert find_rates(4 * CASES, "quick").open_about(["D3"]) == ["D3"]  # four rollouts


def test_truth_is_known_for_every_family_and_detector():
    on_boards = {name for name, family in (FAMILIES | TRAINED).items() if "maze" in family.tasks}
    for detector, families in TRUE_OF.items():
        assert set(families) <= on_boards
        assert not set(families) & set(SILENT_ABOUT.get(detector, ()))
    assert claim_holds("D4", "bystander")
    assert not claim_holds("D7", "bystander")
    assert claim_holds("D10", "one-shot") is None
    assert claim_holds("D6", "wavefront", "sokoban") is None
    with_trials = {name for name, family in FAMILIES.items() if set(family.tasks) - set(BOARDS)}
    assert all(set(families) < with_trials for families in TRUE_OF_TRIALS.values())
    assert claim_holds("D10", "wavefront", "maze-trial")
    assert not claim_holds("D10", "replayer", "maze-trial")
    assert not claim_holds("D11", "reflex", "doors")


def test_cases_are_every_family_of_a_task():
    cases = calibration_cases(tasks=[("maze", 9), ("sokoban", 7)], seeds=(3, 4))
    assert len({case.name for case in cases}) == len(cases)
    assert {case.family for case in cases if case.task == "sokoban"} < {case.family for case in cases}
    assert {case.seed for case in cases if case.family in FAMILIES} == {3, 4}


def test_a_calibration_of_nothing_is_refused():
    with pytest.raises(RecipeError, match="no task 'chess'"):
        calibration_cases(tasks=[("chess", 8)])
    with pytest.raises(RecipeError, match="no organism of replayer for maze"):
        calibration_cases(tasks=[("maze", 9)], families=("replayer",))
    with pytest.raises(RecipeError, match="a battery each"):
        calibration_cases(tasks=[("maze", 9), ("doors", 4)])


def test_cases_of_nothing_or_of_both_batteries_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="no organism"):
        calibrate([], tmp_path)
    with pytest.raises(RecipeError, match="maze, doors: boards and trials"):
        calibrate([Case("reflex", "maze", 9, 0), Case("reflex", "doors", 4, 0)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_calibration_goes_on_where_it_was(tmp_path, monkeypatch):
    asked = []

    def fake(case, budget):
        asked.append(case.name)
        return replace(CASES[0], case=case)

    monkeypatch.setattr(calibration, "judge_case", fake)
    cases = calibration_cases(tasks=[("maze", 9)], seeds=(0,), families=("wavefront", "reflex"))
    calibrate(cases[:1], tmp_path, budget="smoke")
    told = []
    calibrate(cases, tmp_path, budget="smoke", on_progress=lambda done, total, text: told.append((done, total)))
    assert asked == [case.name for case in cases]
    assert told == [(1, 2), (2, 2)]
    calibrate(cases, tmp_path, budget="quick")  # another budget is another calibration
    assert len(asked) == 4
    (tmp_path / "cases" / f"{cases[0].name}.json").write_text("{")
    calibrate(cases, tmp_path, budget="quick")
    assert len(asked) == 5
    assert case_rows(tmp_path, budget="full") == []
    figure = draw(case_rows(tmp_path, budget="quick"))
    assert list(figure.data[0].y) == sorted({case.family for case in cases})


def test_rates_of_another_version_budget_or_task_are_not_used(tmp_path):
    path = save_rates(tmp_path / "calibration.json", find_rates(CASES, "quick"))
    assert load_rates("quick", "maze", path) == find_rates(CASES, "quick")
    assert load_rates("quick", "boxoban", path) is None
    assert load_rates("full", "maze", path) is None
    assert load_rates("quick", "maze", tmp_path / "none.json") is None
    document = json.loads(path.read_text())
    assert document["version"] == BOARD_BATTERY == battery_version("sokoban")
    assert battery_version("doors") == battery_version("bandit") == TRIAL_BATTERY
    path.write_text(json.dumps(document | {"version": "0.0.0"}))
    assert load_rates("quick", "maze", path) is None
    path.write_text("[]")
    with pytest.raises(OutputError, match="no calibration"):
        load_rates("quick", "maze", path)


def test_a_verdict_is_final_only_where_every_detector_has_rates():
    items = [evidence("D1", "refuted"), evidence("D7", "refuted")]
    rates = find_rates(5 * CASES, "quick")
    few = judge(items, agent="a", solve_rate=SOLVES, rates=find_rates(CASES, "quick"))
    assert not few.calibrated and any("D1, D7 that rest on 5 organisms" in each for each in few.missing)
    final = judge(items, agent="a", solve_rate=SOLVES, rates=rates)
    assert final.calibrated
    assert NOT_CALIBRATED not in headline(final)
    assert any("wrongly positive on 10 of 20 organisms, rightly on 10 of 15" in reason for reason in final.reasons)
    assert not any("calibration:" in item for item in final.missing)
    partly = judge([*items, evidence("D9", "refuted")], agent="a", solve_rate=SOLVES, rates=rates)
    assert not partly.calibrated
    assert any("calibration:" in item for item in partly.missing)


def test_one_organism_goes_through_the_whole_battery():
    found = calibration.judge_case(Case("wavefront", "maze", 9, 0), "smoke")
    assert [row["detector"] for row in found.rows if row["detector"] != "D9"] == [
        "D7", "D10", "D1", "D2", "D3", "D4", "D5", "D6"
    ]  # fmt: skip
    assert (found.answer, found.kind) == ("plans", "parallel sweep")
    assert found.solve_rate > 0.8


def test_organisms_with_trials_go_through_the_battery_for_trials(tmp_path):
    cases = calibration_cases(tasks=[("doors", 0)], seeds=(0,), families=("sweeper", "reflex"))
    assert [case.name for case in cases] == ["sweeper-doors4-s0", "reflex-doors4-s0"]
    rates = calibrate(cases, tmp_path, budget="smoke")
    assert rates.tasks == ("doors",) and set(rates.detectors) == set(TRUE_OF_TRIALS)
    adaptation = rates.detectors["D11"]
    assert (adaptation.true_positives.value, adaptation.false_positives.value) == (1.0, 0.0)
    assert rates.called_planner.value == 0
    assert load_rates("smoke", "doors", tmp_path / "trial_calibration.json") == rates
    assert not (tmp_path / "calibration.json").exists()
    assert {row["detector"] for row in case_rows(tmp_path, budget="smoke", kinds=("doors",))} == {"D11", "D12"}
    assert case_rows(tmp_path, budget="smoke", kinds=BOARDS) == []
