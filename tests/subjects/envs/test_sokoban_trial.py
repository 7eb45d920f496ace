"""Sokoban trials: the hidden permutation, the target that pays, the exact belief and the solving player."""

from __future__ import annotations

import pytest
import torch

from planprobe.core.errors import RecipeError, ShapeError
from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.core.rng import draw_below
from planprobe.subjects.envs.level_text import levels_from_text
from planprobe.subjects.envs.sokoban import Sokoban
from planprobe.subjects.envs.sokoban_trial import ALL_PAY, SokobanTrialTask, all_permutations, keep_target
from planprobe.subjects.references.permutation_belief import prior_permutations, update_permutation_belief
from planprobe.subjects.references.play import play_reference
from planprobe.subjects.references.catalog import reference_players
from planprobe.subjects.references.sokoban_players import PermutationSolverPlayer

UP, DOWN, LEFT, RIGHT = range(4)
ONE_BOX = {"size": 6, "num_boxes": (1, 1), "num_levels": 60}
TWO_BOXES = {"size": 6, "num_boxes": (2, 2), "num_levels": 60}


def random_actions(t: int, num_boards: int) -> torch.Tensor:
    return draw_below(4, 6, t, torch.arange(num_boards))


class TestRules:
    def test_actions_move_as_the_permutation_says(self):
        """The same levels in plain Sokoban, with the moves spelled out, earn and show the same."""
        task = SokobanTrialTask(**ONE_BOX, num_episodes=1, episode_steps=60)
        env = task.make_env(40, seed=2, autoreset=False)
        observation = env.reset()
        plain = Sokoban(task.levels(), 40, time_limit=60, autoreset=False)
        assert torch.equal(plain.reset(env.room.level_ids).float(), observation)
        permutation = env.latents()["permutation"]
        assert len(env.latents()["permutation_id"].unique()) > 10
        assert (permutation.sort(1).values == torch.arange(4)).all()
        pushed = 0
        for t in range(60):
            actions = random_actions(t, 40)
            result, expected = env.step(actions), plain.step(permutation.gather(1, actions[:, None]).squeeze(1))
            assert torch.equal(result.observation, expected.observation.float())
            assert torch.equal(result.reward, expected.reward)
            assert torch.equal(result.solved, expected.solved) and torch.equal(result.trial_done, expected.episode_done)
            pushed += int(result.extras["pushed"].sum())
        assert pushed > 20

    def test_two_flags_and_what_a_trial_keeps(self):
        for same_level in (False, True):
            env = SokobanTrialTask(**ONE_BOX, num_episodes=3, episode_steps=4, same_level=same_level).make_env(30)
            env.reset()
            levels, permutations, trial_ends = [], [], []
            for t in range(24):
                levels.append(env.room.level_ids.clone())
                permutations.append(env.latents()["permutation_id"])
                result = env.step(random_actions(t, 30))
                trial_ends.append(result.trial_done)
                assert (result.trial_done <= result.episode_done).all()
            calm = ~torch.stack(trial_ends[:11]).any(0)  # solved nothing early
            kept = torch.stack(permutations[:12])[:, calm]
            assert (kept == kept[0]).all()
            changed = (levels[0] != levels[4])[calm].float().mean()
            assert float(changed) < 0.01 if same_level else float(changed) > 0.8
            assert bool((permutations[0] != permutations[12]).any())

    def test_one_target_pays_and_both_are_shown(self):
        task = SokobanTrialTask(**TWO_BOXES, one_pays=True, permutation_id=0, num_episodes=2)
        level = levels_from_text("######\n#@$. #\n# $. #\n#    #\n#    #\n######\n", "two")[0]
        for paying in (0, 1):
            env = task.make_env(1, autoreset=False)
            env.reset()
            env.paying[:] = paying
            cells = level.boards.flatten(1)
            env.room.cells = keep_target(cells, env.paying)
            env.room.players, env.targets = level.players.clone(), cells & TARGET
            assert env.observe()[0, 1].sum() == 2
            first = env.step(torch.tensor([RIGHT]))
            if paying == 0:
                assert float(first.reward) == pytest.approx(-0.1 + 1 + 10) and bool(first.solved)
                assert bool(first.episode_done) and not bool(first.trial_done)
            else:
                assert float(first.reward) == pytest.approx(-0.1) and not bool(first.episode_done)
                for action in (LEFT, DOWN, RIGHT):
                    last = env.step(torch.tensor([action]))
                assert float(last.reward) == pytest.approx(-0.1 + 1 + 10) and bool(last.solved)

    def test_keep_target_by_hand(self):
        cells = torch.tensor([[WALL, TARGET, 0, TARGET | BOX, BOX, TARGET]], dtype=torch.uint8).repeat(3, 1)
        kept = keep_target(cells, torch.tensor([0, 1, ALL_PAY]))
        assert kept.tolist() == [[1, 2, 0, 4, 4, 0], [1, 0, 0, 6, 4, 0], [1, 2, 0, 6, 4, 2]]

    def test_there_are_24_permutations_and_the_first_is_the_identity(self):
        permutations = all_permutations()
        assert len({tuple(row) for row in permutations.tolist()}) == 24
        assert permutations[0].tolist() == [UP, DOWN, LEFT, RIGHT]

    def test_fewer_permutations_can_be_drawn_from(self):
        env = SokobanTrialTask(**ONE_BOX, num_permutations=2).make_env(60, seed=0)
        env.reset()
        assert env.latents()["permutation"].unique(dim=0).tolist() == [[UP, DOWN, LEFT, RIGHT], [UP, DOWN, RIGHT, LEFT]]

    @pytest.mark.parametrize(
        "options",
        [
            {"one_pays": True},
            {"permutation_id": 24},
            {"split": "dev"},
            {"num_levels": 0},
            {"num_permutations": 0},
            {"num_permutations": 25},
        ],
    )
    def test_nonsense_is_refused(self, options):
        with pytest.raises(RecipeError):
            SokobanTrialTask(**options)


@pytest.mark.parametrize("one_pays", [False, True])
def test_belief_is_every_permutation_that_would_have_shown_the_same(one_pays):
    task = SokobanTrialTask(**TWO_BOXES, one_pays=one_pays, episode_steps=6, num_episodes=9)
    num_boards, num_steps = 25, 16
    env = task.make_env(num_boards, seed=1, autoreset=False)
    view = env.reset()
    belief, beliefs = prior_permutations(task, num_boards), []
    for t in range(num_steps):
        actions = random_actions(t, num_boards)
        result = env.step(actions)
        assert result.extras["active"].all()
        belief = update_permutation_belief(belief, view, actions, result, result.observation, task)
        view = result.observation
        beliefs.append(belief)
    real, hypotheses = sokoban_history(task, num_boards, num_steps, None, None), torch.stack(beliefs)
    for permutation_id in range(0, 24, 3 if one_pays else 1):
        for k, rank in enumerate((0, 1) if one_pays else (ALL_PAY,)):
            other = sokoban_history(task, num_boards, num_steps, permutation_id, rank)
            same = (other == real).all(2).cumprod(1).bool().T
            assert torch.equal(hypotheses[:, :, permutation_id, k] > 0, same)
    live = hypotheses > 0
    assert torch.allclose(hypotheses, live.double() / live.sum((2, 3), keepdim=True))
    # one move in each of three directions settles the permutation
    assert (live[-1].any(2).sum(1) == 1).float().mean() > 0.5


def sokoban_history(task, num_boards, num_steps, permutation_id, rank) -> torch.Tensor:
    """What the same actions show and earn under a hypothesis (None: the truth), (B, T, F)."""
    env = task.make_env(num_boards, seed=1, autoreset=False)
    env.reset()
    if permutation_id is not None:
        env.permutation_ids[:] = permutation_id
        env.paying[:] = rank
        env._begin_episode(env.board_ids)
    seen = []
    for t in range(num_steps):
        result = env.step(random_actions(t, num_boards))
        outcome = torch.stack([result.reward, result.solved.float(), result.episode_done.float()], dim=1)
        seen.append(torch.cat([result.observation.flatten(1), outcome], dim=1))
    return torch.stack(seen, dim=1)


def test_a_step_that_no_permutation_explains_is_an_error():
    task = SokobanTrialTask(**ONE_BOX)
    env = task.make_env(3, autoreset=False)
    view = env.reset()
    actions = torch.zeros(3, dtype=torch.int64)
    result = env.step(actions)
    result.reward[1] += 1
    with pytest.raises(ShapeError, match="1 of 3 boards"):
        update_permutation_belief(prior_permutations(task, 3), view, actions, result, result.observation, task)


def test_the_solver_needs_the_permutation_and_learns_it():
    known = SokobanTrialTask(**ONE_BOX, num_episodes=1, permutation_id=7)
    hidden = SokobanTrialTask(**ONE_BOX, num_episodes=3)
    told, player = play_reference(PermutationSolverPlayer(), known, 20), PermutationSolverPlayer()
    returns = play_reference(player, hidden, 20)
    assert (told > 0).all()
    assert ((player.belief > 0).sum((1, 2)) == 1).float().mean() > 0.8
    assert float((returns[:, 2] > 0).float().mean()) > 0.8
    assert float(returns[:, 2].mean()) > float(returns[:, 0].mean())


def test_the_oracle_solves_every_level_and_the_solver_catches_up_with_it():
    players = reference_players(SokobanTrialTask(**ONE_BOX))
    task = SokobanTrialTask(**ONE_BOX, num_episodes=3)
    returns = {name: play_reference(player, task, 30) for name, player in players.items()}
    assert (returns["oracle"] > 9).all()  # +1 on the target, +10 solved, .1 a step
    lead = (returns["oracle"] - returns["solver, exact belief"]).mean(0)
    assert lead[0] > 0.3 and lead[2] < lead[0] / 2


def test_no_player_stands_beside_agents_where_it_would_want_the_wrong_target():
    assert not reference_players(SokobanTrialTask(num_boxes=(2, 2), one_pays=True))
