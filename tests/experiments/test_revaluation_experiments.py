"""Revaluation within trials and goal patching as experiments: their tables, notes and figures."""

from dataclasses import replace

import pytest
import torch
from trial_walkers import Walker

from planprobe.core.records import Effect, Evidence
from planprobe.experiments import goal_patching, revaluation
from planprobe.experiments.catalog import get_entry
from planprobe.experiments.writing import load_findings, rebuild_experiment_figures, write_findings
from planprobe.subjects.agent import Agent
from planprobe.subjects.envs.maze_trial import MazeTrialTask
from planprobe.subjects.envs.two_step import TwoStepTask
from planprobe.subjects.recipe import Recipe, TaskRecipe
from planprobe.subjects.trial_changes import CLOSED, OPENED, SHORTCUT

MAZE = MazeTrialTask(view="full", num_mazes=40, episode_steps=24)


class Repeats:
    """Chooses what it last chose, mostly, whatever it led to."""

    def initial_state(self, num_boards, board=None):
        return (torch.zeros(num_boards, 1),)

    def step(self, observation, state):
        chosen = observation[:, 3:5].flatten(1)
        return 3.0 * chosen, chosen[:, 0], state


@pytest.fixture(scope="module")
def found():
    agents = [
        Agent("replayer", Walker(plans=False), Recipe("replayer", task=MAZE)),
        Agent("repeater", Repeats(), Recipe("repeater", task=TwoStepTask(num_rounds=20))),
    ]
    return revaluation.run_revaluation(agents, budget="smoke")


def test_changes_are_judged_or_named_as_not_measured(found):
    judged = {str(item.rows[0]["change"]): item for item in found.evidence}
    assert judged[CLOSED].effect.value == 0.0
    for name in (SHORTCUT, OPENED, CLOSED):
        assert (name in judged) != any(f"replayer, {name}: not measured" in note for note in found.notes)
    assert any("repeater: 'two-step' allows no change" in note for note in found.notes)


def test_the_stay_table_stands_beside_players_and_is_called_no_evidence(found):
    rows = {row["player"]: row for row in found.tables["stays"]}
    assert list(rows) == ["repeater", "model free", "model based", "exact bayes", "thompson", "one back table"]
    assert rows["one back table"]["value"] == 2.0
    assert rows["repeater"]["low"] < 0 < rows["repeater"]["high"]
    assert all("no evidence" in row["measure"] for row in rows.values())
    assert revaluation.STAY_NOTE in found.notes


def test_what_is_written_is_drawn(found, tmp_path):
    write_findings(tmp_path, found)
    assert load_findings(tmp_path).notes == found.notes
    assert all(check.same for check in rebuild_experiment_figures(tmp_path, check=True))
    assert (tmp_path / "figures" / "stays.json").exists()


def test_both_are_in_the_catalog_under_their_own_question():
    for module, name in ((goal_patching, "goal-patching"), (revaluation, "revaluation")):
        assert get_entry(name).question == module.QUESTION


def test_goal_patching_names_every_way_of_patching(monkeypatch):
    effect = Effect(0.5, 0.4, 0.6, 12, "")
    shares = {
        f"{name}{end}": 0.5 for name in ("shortest_to_donor", "first_move_to_donor") for end in ("", "_low", "_high")
    }
    rows = [
        {"donor": donor, "where": where, "radius": radius, "held_steps": held, "num_levels": 12, "reached_donor": 0.5,
         "reached_own": 0.5, **shares}
        for donor, where, radius, held in (
            ("none", "nothing", None, None), ("none", "board", None, None), ("donor", "memory", 2, None),
            ("wrong donor", "memory", 2, None), ("donor", "encoding", 1, 4),
        )
    ]  # fmt: skip
    item = Evidence("D8", "goal_patching", "", effect, {}, effect, 0.2, 0.9, "supported", "", rows)
    given = {}

    def run_everywhere(opened, make_env, swaps, show_goal, **options):
        given.update(options, num_levels=len(swaps))
        return {"encoding": item, "memory": replace(item, outcome="refuted")}

    monkeypatch.setattr(goal_patching.detector, "run_everywhere", run_everywhere)
    monkeypatch.setattr(goal_patching, "open_policy", lambda net, name: net)
    agent = Agent("a net", Repeats(), Recipe("a net", task=TaskRecipe(kind="maze", size=9)))
    found = goal_patching.run_goal_patching([agent], budget="smoke")
    assert [row["patched"] for row in found.tables["walks"]] == [
        "nothing", "goal moved on the board", "memory, radius 2", "memory, radius 2, wrong donor",
        "encoding, radius 1, 4 steps",
    ]  # fmt: skip
    assert [row["held"] for row in found.tables["walks"]][-1] == "4 steps"
    assert (given["num_levels"], given["held_steps"]) == (12, (2,))
    assert found.notes[1].startswith("a net, memory: refuted; a shortest way to the donor's goal on 0.50 of 12 levels")
