"""D1 on policies whose answer is known by construction."""

from functools import partial

import numpy as np
import pytest
import torch
from hand_built_policies import Memoryless, NeedsWarmUp, Reflex, Wavefront

from planprobe.core.errors import AddressError, ShapeError, TooFewLevelsError
from planprobe.core.play import play
from planprobe.core.records import Effect
from planprobe.instruments.detectors import thinking_gain
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.thinking import LevelBank, match_noise
from planprobe.subjects.envs.distance import distance_maps, optimal_action_mask
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.stimuli import distance_ladder
from planprobe.subjects.nets import make_net
from planprobe.subjects.recipe import NetRecipe

DISTANCE, LIMIT = 8, 10
make_maze = partial(Maze, time_limit=LIMIT, autoreset=False)


@pytest.fixture(scope="module")
def mazes():
    return distance_ladder([DISTANCE], 120, seed=0).levels


@pytest.fixture(scope="module")
def first_moves(mazes):
    return best_first_moves(mazes)


def best_first_moves(levels):
    goals = (levels.boards == 2).flatten(1).int().argmax(1)
    optimal = optimal_action_mask(distance_maps(levels.boards == 1, goals)).flatten(2)
    return optimal.gather(2, levels.players[:, None, None].expand(-1, 4, 1)).squeeze(2)


def run(policy, levels, **options):
    options = {"thinking_steps": (0, 2, 4, 8), "min_effect": 0.1} | options
    return thinking_gain.run(policy, make_maze, levels, **options)


def rows_of(evidence, variant, subset="all"):
    rows = [row for row in evidence.rows if row["variant"] == variant and row["levels"] == subset]
    return {row["thinking_steps"]: row for row in rows}


def test_a_wave_that_needs_its_ticks_gains(mazes, first_moves):
    evidence = run(Wavefront(), mazes, optimal_first_moves=first_moves)
    thinking = rows_of(evidence, "thinking")
    assert thinking[8]["solved_rate"] == 1 and thinking[8]["first_move_rate"] == 1
    assert thinking[0]["solved_rate"] < 0.5
    assert thinking[0]["solved_rate"] <= thinking[2]["solved_rate"] < thinking[8]["solved_rate"]
    # the wave reaches the neighbour at distance 7 in the seventh step: six of thinking, one of acting
    exact = run(Wavefront(), mazes, optimal_first_moves=first_moves, thinking_steps=(5, 6), judged_steps=6)
    assert rows_of(exact, "thinking")[6]["first_move_rate"] == 1 > rows_of(exact, "thinking")[5]["first_move_rate"]
    assert evidence.outcome == "supported"
    assert evidence.effect.value == pytest.approx(1 - thinking[0]["solved_rate"])
    assert evidence.effect.p < 1e-6
    assert set(evidence.controls) == set(thinking_gain.CONTROLS)
    assert evidence.controls["memory reset"].value == 0
    assert evidence.controls["blank frame"].value == 0  # no goal, no wave
    assert evidence.beyond_controls.value <= evidence.effect.value
    assert evidence.beyond_controls.low > 0.3


def test_the_first_move_can_be_judged(mazes, first_moves):
    evidence = run(Wavefront(), mazes, optimal_first_moves=first_moves, measure="first_move")
    assert evidence.outcome == "supported" and "first moves" in evidence.effect.unit
    assert evidence.effect.value == pytest.approx(rows_of(evidence, "thinking")[8]["first_move_gain"])


def test_a_reflex_is_flat_and_refutes_with_power(mazes, first_moves):
    evidence = run(Reflex(), mazes, optimal_first_moves=first_moves)
    assert evidence.effect.value == 0 and evidence.effect.p == 1
    assert evidence.power > 0.8 and evidence.outcome == "refuted"
    few = run(Reflex(), mazes[:30])
    assert few.effect.value == 0 and few.power < 0.8 and few.outcome == "inconclusive"


def test_a_feed_forward_net_is_no_evidence(mazes):
    evidence = run(Memoryless(), mazes)
    assert evidence.outcome == "inconclusive" and evidence.effect.value == 0
    assert any("flat by construction" in note for note in evidence.notes)
    assert list(evidence.controls) == ["memory reset"]


def test_warming_up_is_not_thinking(mazes):
    evidence = thinking_gain.run(
        NeedsWarmUp(), partial(Maze, time_limit=DISTANCE, autoreset=False), mazes, thinking_steps=(0, 8), min_effect=0.1
    )
    assert evidence.effect.value > 0.9  # it does gain
    for name in ("blank frame", "noise state", "another level"):
        assert evidence.controls[name].value == evidence.effect.value  # and so does it without having seen the level
    assert evidence.beyond_controls.value == 0 and evidence.outcome == "refuted"


def test_the_number_of_steps_is_chosen_on_other_levels(mazes):
    with pytest.raises(TooFewLevelsError, match="another split"):
        run(Wavefront(), mazes, choice_levels=mazes)
    turned = type(mazes)(mazes.boards.rot90(1, (1, 2)).contiguous(), mazes.players.clone(), "turned")
    turned.players.copy_((10 - mazes.players % 11) * 11 + mazes.players // 11)
    with pytest.raises(TooFewLevelsError, match="0 of 120"):
        run(Wavefront(), mazes, choice_levels=turned)
    evidence = run(Wavefront(), mazes[60:], choice_levels=mazes[:80], thinking_steps=(0, 2, 8, 16))
    assert evidence.notes[0].startswith("Judged at 8")  # 16 is no better: the smallest of equals
    assert evidence.effect.n == 60


def test_rows_for_far_levels(mazes):
    far = torch.arange(120) < 40
    evidence = run(Wavefront(), mazes, far=far)
    near, all_of_them = (rows_of(evidence, "thinking", subset)[8] for subset in ("near", "all"))
    far_row = rows_of(evidence, "thinking", "far")[8]
    assert (far_row["num_levels"], near["num_levels"]) == (40, 80)
    mean = (40 * far_row["solved_gain"] + 80 * near["solved_gain"]) / 120
    assert all_of_them["solved_gain"] == pytest.approx(mean)


def test_an_untrained_drc(mazes, first_moves):
    torch.manual_seed(0)
    net = make_net(NetRecipe(num_ticks=2, channels=8), planes=3, board=(11, 11), num_actions=4)
    evidence = run(net, mazes[:20], optimal_first_moves=first_moves[:20], judged_steps=2, thinking_steps=(0, 2))
    assert evidence.controls["memory reset"].value == 0
    assert net.num_ticks == 2 and rows_of(evidence, "4 ticks a step")
    again = run(net, mazes[:20], optimal_first_moves=first_moves[:20], judged_steps=2, thinking_steps=(0, 2))
    assert again == evidence
    assert not any("outside its state" in note for note in evidence.notes)


def test_memory_hidden_outside_the_state_is_noticed(mazes):
    class Hoarder(Wavefront):
        def initial_state(self, num_boards, board=None):
            self.hidden = super().initial_state(num_boards, board)
            return self.hidden

        def step(self, observation, state):
            *result, self.hidden = super().step(observation, self.hidden)
            return *result, state

    evidence = run(Hoarder(), mazes)
    assert any("outside its state" in note for note in evidence.notes)
    assert evidence.outcome != "supported"


def test_play_can_begin_from_another_memory(mazes):
    policy, ids = Wavefront(), torch.arange(4)
    thought = []
    env = make_maze(mazes, 4)
    long = play(policy, env, ids, thinking_steps=8, on_step=lambda t, seen, state: thought.append(state))
    resumed = play(policy, make_maze(mazes, 4), ids, initial_state=thought[7])
    assert torch.equal(long.actions, resumed.actions)


def test_noise_matches_each_boards_own_memory():
    torch.manual_seed(0)
    scale = torch.tensor([0.1, 1, 10]).view(3, 1, 1, 1)
    memory = (scale * torch.randn(3, 4, 20, 20) + 5, torch.randn(3, 500))
    noise = match_noise(memory, torch.tensor([7, 8, 9]), seed=1)
    assert [part.shape for part in noise] == [part.shape for part in memory]
    assert torch.allclose(noise[0].std((2, 3)), memory[0].std((2, 3)), rtol=0.15)
    assert torch.allclose(noise[0].mean((2, 3)), memory[0].mean((2, 3)), atol=1.5, rtol=0.1)
    assert abs(np.corrcoef(noise[0][1, 0].flatten(), memory[0][1, 0].flatten())[0, 1]) < 0.2
    alone = match_noise(tuple(part[1:2] for part in memory), torch.tensor([8]), seed=1)
    assert torch.equal(alone[0], noise[0][1:2]) and torch.equal(alone[1], noise[1][1:2])


def test_noise_is_no_copy_of_memory_that_stands_on_one_square():
    """Nets of vectors keep (B, D, 1, 1): over the one square nothing varies, and noise would be the memory itself."""
    torch.manual_seed(0)
    flat, ids = 3 * torch.randn(3, 500) + 2, torch.tensor([7, 8, 9])
    steps, clock = torch.tensor([4.0, 5, 6]), torch.tensor([[4], [5], [6]])
    square, alike, kept, ticked = match_noise((flat[:, :, None, None], flat, steps, clock), ids, seed=1)
    assert square.shape == (3, 500, 1, 1) and torch.equal(kept, steps) and torch.equal(ticked, clock)
    for noise in (square[:, :, 0, 0], alike):
        assert torch.allclose(noise.mean(1), flat.mean(1), atol=0.5) and torch.allclose(
            noise.std(1), flat.std(1), rtol=0.1
        )
        assert abs(np.corrcoef(noise[1], flat[1])[0, 1]) < 0.2


def test_first_moves_without_an_answer_are_left_out(mazes, first_moves):
    partly = first_moves.clone()
    partly[::2] = False
    played = LevelBank(make_maze, mazes, partly).play(Reflex())
    assert np.isnan(played.first_move[::2]).all() and (played.first_move[1::2] == 1).all()


def test_outcomes():
    def effect(value, low, high, p):
        return Effect(value, low, high, 100, "", p)

    options = {"min_effect": 0.02, "power": 0.9}
    assert decide(effect(0.05, 0.01, 0.09, 0.01), **options) == "supported"
    assert decide(effect(0.05, 0.01, 0.09, 0.2), **options) == "inconclusive"
    assert decide(effect(0.01, 0.005, 0.015, 0.001), **options) == "refuted"  # real, and too small to matter
    assert decide(effect(0.0, -0.01, 0.01, 1.0), **options) == "refuted"
    assert decide(effect(0.0, -0.01, 0.01, 1.0), min_effect=0.02, power=0.5) == "inconclusive"


def test_wrong_requests(mazes, first_moves):
    with pytest.raises(TooFewLevelsError):
        run(Reflex(), mazes[:9])
    with pytest.raises(AddressError, match="speed"):
        run(Reflex(), mazes, measure="speed")
    with pytest.raises(AddressError, match="optimal_first_moves"):
        run(Reflex(), mazes, measure="first_move")
    with pytest.raises(ShapeError, match="far"):
        run(Reflex(), mazes, far=torch.ones(3, dtype=torch.bool))
    with pytest.raises(AddressError, match="judged_steps 0"):
        run(Reflex(), mazes, judged_steps=0)
