"""Sokoban organisms against exact answers of one-box boards."""

import torch
from organism_cases import levels_of, make_env, organism, run_all, ticks_on

from planprobe.core.grid import BOX, TARGET, WALL
from planprobe.subjects.envs.one_box import count_moves_to_solve, squares_of
from planprobe.subjects.organisms.base import AMPLITUDE
from planprobe.subjects.organisms.waves import FAR

LEVELS = levels_of("sokoban")
IDS = torch.arange(len(LEVELS))


def count_pushes(level):
    """Pushes left from every square of the box, the player anywhere: by a queue over the squares of one board."""
    walls, width = (LEVELS.boards[level] & WALL).flatten().bool().tolist(), LEVELS.width
    target = int(squares_of(LEVELS.boards, TARGET)[level])
    left, queue = {target: 0}, [target]
    for square in queue:
        for offset in (-width, width, -1, 1):
            before = square - offset  # pushed by `offset` from there, the player stands one further back
            behind = before - offset
            if 0 <= behind < len(walls) and not walls[before] and not walls[behind] and before not in left:
                left[before] = left[square] + 1
                queue.append(before)
    return [left.get(square, FAR) for square in range(len(walls))]


def test_wavefront_holds_the_pushes_left_from_every_square():
    policy = organism("wavefront", "sokoban").policy
    observation = make_env("sokoban", LEVELS, len(LEVELS)).reset(IDS)
    state = ticks_on(policy, observation, 15)
    pushes = policy._read_pushes(torch.cat(list(policy.read(state[0], "hidden").values()), dim=1))
    expected = torch.tensor([count_pushes(level) for level in range(len(LEVELS))])
    assert torch.equal(pushes.flatten(1).long(), expected)
    early = policy._read_pushes(torch.cat(list(policy.read(ticks_on(policy, observation, 1)[0], "hidden").values()), 1))
    known = expected < policy.num_ticks
    assert torch.equal(early.flatten(1).long(), expected.masked_fill(~known, FAR))


def test_wavefront_solves_by_what_it_holds():
    policy = organism("wavefront", "sokoban").policy
    played = run_all(policy, "sokoban")
    assert played.solved.float().mean() > 0.8
    assert run_all(policy, "sokoban", reset_memory=True).solved.float().mean() < played.solved.float().mean() - 0.2


def test_wavefront_marks_where_the_box_will_be_pushed_next():
    policy = organism("wavefront", "sokoban").policy
    observation = make_env("sokoban", LEVELS, len(LEVELS)).reset(IDS)
    state = ticks_on(policy, observation, 15)
    rollout = run_all(policy, "sokoban", initial_state=state)
    rows = rollout.solved.nonzero().squeeze(1)
    first = rollout.pushed[rows].to(torch.uint8).argmax(1)
    plan = policy.read(state[0], "hidden")["plan"].flatten(2) > AMPLITUDE / 2
    boxes = squares_of(LEVELS.boards, BOX)[rows]
    assert plan[rows, rollout.actions[rows, first], boxes].float().mean() > 0.9


def test_table_is_perfect_on_its_boards_and_the_bystander_does_not_hear_its_planner():
    start = count_moves_to_solve((LEVELS.boards & WALL) != 0, squares_of(LEVELS.boards, TARGET))
    best = start[IDS, squares_of(LEVELS.boards, BOX), LEVELS.players]
    table, bystander = organism("table", "sokoban").policy, organism("bystander", "sokoban").policy
    for policy in (table, bystander):
        played = run_all(policy, "sokoban")
        assert torch.equal(played.lengths, best.long()) and played.solved.all()
    assert torch.equal(run_all(bystander, "sokoban").logits, run_all(bystander.without_planner(), "sokoban").logits)
    other = levels_of("sokoban", split="train")
    reflex = organism("reflex", "sokoban").policy
    assert torch.equal(run_all(table, "sokoban", other).solved, run_all(reflex, "sokoban", other).solved)


def test_one_shot_waits_until_its_solution_is_done_and_executes_it_blind():
    policy = organism("one-shot", "sokoban").policy
    observation = make_env("sokoban", LEVELS, len(LEVELS)).reset(IDS)
    state = ticks_on(policy, observation, 25)
    done = policy._is_done(torch.cat(list(policy.read(state[0], "hidden").values()), dim=1))
    assert done.float().mean() > 0.8
    rows = done.nonzero().squeeze(1)
    played = run_all(policy, "sokoban", initial_state=state, max_steps=25)
    assert played.solved[rows].all()
    marks = (policy.read(state[0], "hidden")["way"][rows] > AMPLITUDE / 2).sum((1, 2, 3))
    assert torch.equal(marks, played.lengths[rows])  # every move of the solution stood in memory
    beside = LEVELS.boards.flatten(1).gather(1, LEVELS.players[:, None] + torch.tensor([-7, 7, -1, 1]))
    waits = ((beside & WALL) != 0).any(1) & (played.lengths > policy.num_ticks)  # one imagined move a tick
    assert waits.any() and not run_all(policy, "sokoban", max_steps=1).moved[waits].any()
    seen, blind = observation.clone(), state
    for step in range(4):
        seen[:, :3] = 0  # walls, target and box taken away: the marks alone say where to go
        logits, _, blind = policy.step(seen, blind)
        going = rows[played.active[rows, step]]
        assert torch.equal(logits[going].argmax(1), played.actions[going, step])
        seen[:, 3] = torch.nn.functional.one_hot(played.positions[:, step + 1], 49).view(-1, 7, 7)


def test_one_shot_is_at_a_loss_without_its_plan():
    policy = organism("one-shot", "sokoban").policy
    kept, forgetful = (run_all(policy, "sokoban", max_steps=40, reset_memory=reset) for reset in (False, True))
    assert kept.solved.float().mean() > 0.7 and forgetful.solved.float().mean() < 0.3
