"""`planprobe eval`: how well does an agent solve levels it has never seen?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from planprobe.cli.arguments import (
    AgentSpec,
    ArgumentError,
    AsJson,
    Flag,
    TaskName,
    Threads,
    find_levels,
    open_agent,
    optional,
    parse,
    use_threads,
)
from planprobe.cli.output import progress, show, with_interval
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent


@dataclass(frozen=True)
class Eval:
    """Solve rates and lengths on held-out levels, or returns in held-out trials, with 95 % intervals.

    Unless told how to play, or on what: the agent's whole scorecard, every condition on every held-out set, as in its
    metrics.json. Else one set of levels, or a file of them (.xsb, Boxoban), a row for each board size in it. Of an
    agent that plays trials: one way of playing them.

    Examples:
      planprobe eval drc12-rl-maze11-s0
      planprobe eval drc13-rl-sokoban7-s0 --levels medium --thinking-steps 0 4 16
      planprobe eval runs/mine --levels my_levels.xsb --json
    """

    agent: AgentSpec
    levels: Annotated[str | None, optional("FILE|NAME", "test")] = None
    """Level file, or a level set of the agent's task: train, valid, test, far (mazes), medium (Sokoban)."""
    num_levels: Annotated[int | None, optional("INT", "1000 of a set, all of a file")] = None
    """Levels of a set, or the first ones of each size in a file; trials of an agent that plays trials."""
    thinking_steps: Annotated[tuple[int, ...], optional("INT ...", "0")] = ()
    """Steps on the frozen first observation before the first action; several give a row each."""
    sampled: Flag = False
    """Sample actions from the policy in place of taking the likeliest."""
    reset_memory: Flag = False
    """Start every step from initial memory: the control for whatever memory does."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, evaluate, print."""
    options = parse(Eval, arguments, verb="eval")
    _check(options)
    use_threads(options.threads)
    agent = open_agent(options.agent, task=options.task)
    if agent.recipe.plays_trials:
        _check_trials(options)
    if options.levels is None and not (options.thinking_steps or options.sampled or options.reset_memory):
        return _show_scorecard(agent, options)
    rows = _score_trials(agent, options) if agent.recipe.plays_trials else _score(agent, options)
    table = map(with_interval, rows)
    show({"agent": agent.name, "frames": agent.frames, "rows": rows}, table, as_json=options.json, title=agent.name)
    return 0


def _check(options: Eval) -> None:
    if options.num_levels is not None and options.num_levels < 1:
        raise ArgumentError(f"--num-levels {options.num_levels}: needs at least one.")
    if any(steps < 0 for steps in options.thinking_steps):
        raise ArgumentError(f"--thinking-steps {min(options.thinking_steps)}: needs 0 or more.")


def _check_trials(options: Eval) -> None:
    for name, given in (("--levels", options.levels is not None), ("--thinking-steps", bool(options.thinking_steps))):
        if given:
            raise ArgumentError(
                f"{name}: {options.agent} plays trials, which are drawn and give no time to think.\n"
                "  Next: --num-levels, --sampled, --reset-memory, or no option for its whole scorecard."
            )


def _score_trials(agent: Agent, options: Eval) -> list[Row]:
    from planprobe.subjects.envs.trial_catalog import held_out
    from planprobe.subjects.trial_scores import NUM_TRIALS, TrialCondition, play_condition, score_trials

    condition = TrialCondition(
        "sampled" if options.sampled else "greedy", "reset each step" if options.reset_memory else "kept"
    )
    task, inputs = held_out(agent.trial_task), agent.recipe.inputs
    rollout = play_condition(agent.net, task, inputs, options.num_levels or NUM_TRIALS, condition)
    return score_trials(rollout, condition)


def _show_scorecard(agent: Agent, options: Eval) -> int:
    from planprobe.subjects.scorecard import NUM_LEVELS
    from planprobe.subjects.zoo import compute_metrics

    with progress(f"playing with {agent.name}") as on_progress:
        metrics = compute_metrics(agent, num_levels=options.num_levels or NUM_LEVELS, on_progress=on_progress)
    show(metrics, map(with_interval, metrics["rows"]), as_json=options.json, title=agent.name)
    return 0


def _score(agent: Agent, options: Eval) -> list[Row]:
    from planprobe.subjects.scorecard import Condition, score_levels

    policy = "sampled" if options.sampled else "greedy"
    memory = "reset each step" if options.reset_memory else "kept"
    conditions = [Condition(policy, memory, steps) for steps in options.thinking_steps or (0,)]
    sets = find_levels(agent, options.levels or "test", options.num_levels)
    with progress(f"playing with {agent.name}") as on_progress:
        rows: list[Row] = []
        for done, (levels, condition) in enumerate([(s, c) for s in sets for c in conditions], start=1):
            board = {"board": f"{levels.height}x{levels.width}"}
            rows += [board | row for row in score_levels(agent.net, agent.task, levels, condition)]
            on_progress(done, len(sets) * len(conditions))
    return rows
