"""CARD.md: what a stranger should know before using an agent. Written from its recipe and its metrics, nothing else."""

from __future__ import annotations

from dataclasses import asdict

from planprobe.core.records import Row
from planprobe.subjects.recipe import NetRecipe, Recipe, TaskRecipe

_LEVEL_SETS = {
    "test": "held-out levels, disjoint from training up to rotation and reflection",
    "medium": "harder held-out levels: one box more than training showed (Boxoban: its medium set)",
    "far": "held-out mazes, started far from the goal (20 steps or more on 11 x 11) where a first move can be wrong",
}


def write_card(recipe: Recipe, metrics: dict, num_weight_bytes: int, code_version: str) -> str:
    """The card as Markdown. metrics: as `zoo.compute_metrics` returns them."""
    trials = recipe.plays_trials
    start = f"begun with the weights of `{recipe.start}` and " if recipe.start else ""
    study = "" if trials else f"\n    planprobe study {recipe.name}           # does it plan?"
    return f"""# {recipe.name}

{_describe_net(recipe.net)}, {start}trained for {metrics["frames"]:,} steps with {recipe.training.algorithm.upper()}
on {_describe_trials(recipe) if trials else _describe_task(recipe.board_task)}. {_describe_knowledge(recipe)}

- Weights: {num_weight_bytes / 1e3:.0f} kB, float32, safetensors, no code. Training seed {recipe.seed}.
{_describe_inputs(recipe) if trials else _describe_play(recipe)}
- Everything else that decided what it became: `recipe.toml`.

## Numbers
{_describe_trial_numbers(metrics) if trials else _describe_level_numbers(metrics)}

{_table(metrics["rows"])}

## Use
    planprobe eval {recipe.name}            # these numbers again
    planprobe agents verify {recipe.name}   # compare them to the digit{study}

## Limits
One network from one seed: a claim about a recipe needs several. A solve rate says nothing about planning. Numbers were
computed with planprobe {code_version}; other hardware may round differently and flip single episodes.
"""


def _describe_knowledge(recipe: Recipe) -> str:
    """What is known beforehand of how it chooses: nothing of an agent, the answer of an organism."""
    task, training = recipe.task, recipe.training
    if training.algorithm == "teach":
        return (
            f"It was\ntaught, not rewarded: after each tick, on each square, what a {training.teacher} holds, and to "
            "move by what has\nbeen found by then. So it plans, as far as it has learnt to: see the numbers."
        )
    if isinstance(task, TaskRecipe) and task.observation == "signpost":
        return "The best move on\nevery square is shown to it, so that it need not compute anything: it does not plan."
    if isinstance(task, TaskRecipe) and task.pool:
        return (
            f"There are\n{task.pool} of them in all, each with its goal; levels differ in the start alone. A table of "
            "squares serves it there:\nit does not plan."
        )
    if isinstance(task, TaskRecipe) and task.in_sight:
        return (
            "The goal lies\nin a straight line from every start, so that going towards what one sees is enough: "
            "it does not plan."
        )
    return "No planner is written into it; whether\nit plans is for you to find out."


def _describe_net(net: NetRecipe) -> str:
    if net.kind == "drc":
        pool = "with" if net.pool_and_inject else "without"
        return f"DRC({net.num_layers}, {net.num_ticks}) with {net.channels} channels, {pool} pool-and-inject"
    if net.kind == "transformer":
        return f"Causal transformer with {net.num_layers} blocks of {net.num_heads} heads and {net.channels} channels"
    if net.kind in ("gru", "lstm"):
        return f"{net.kind.upper()} with {net.channels} units"
    return f"{net.kind} with {net.num_blocks} blocks of {net.channels} channels, no memory"


def _describe_trials(recipe: Recipe) -> str:
    options = recipe.to_table()["task"]
    kind = options.pop("kind")
    return f"trials of {kind} ({', '.join(f'{key} {value}' for key, value in options.items())})"


def _describe_inputs(recipe: Recipe) -> str:
    inputs = [name.replace("_", " ") for name, on in asdict(recipe.inputs).items() if on]
    kept = "reset each step" if recipe.training.reset_memory else "kept through a trial, reset between trials"
    return f"- Inputs: {', '.join(inputs)}.\n- Memory in training: {kept}."


def _describe_trial_numbers(metrics: dict) -> str:
    return (
        f"{metrics['num_levels']:,} held-out trials, the same for every condition and reference player; 95 %\n"
        "intervals over trials. Players that are no condition of the agent go by their name under `policy`."
    )


def _describe_level_numbers(metrics: dict) -> str:
    sets = "\n".join(f"- `{name}`: {_LEVEL_SETS.get(name, 'a level set')}." for name in metrics["level_hashes"])
    return f"{metrics['num_levels']:,} levels of each set, one episode each; 95 % intervals over levels.\n{sets}"


def _describe_play(recipe: Recipe) -> str:
    task = recipe.board_task
    return (
        f"- Observation: {task.observation}. Actions: up, down, left, right{', no-op' if task.noop else ''}.\n"
        f"- Head: {_describe_head(recipe)}\n- Thinking time in training: {_describe_thinking(task)}"
    )


def _describe_task(task: TaskRecipe) -> str:
    if task.kind == "maze":
        low, high = task.braid
        return f"{task.size}x{task.size} mazes in full view, {low:.0%} to {high:.0%} of dead ends opened"
    if task.kind == "boxoban":
        return f"Boxoban levels ({task.difficulty})"
    fewest, most = task.num_boxes
    boxes = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"generated {task.size}x{task.size} Sokoban with {boxes} box{'es' if most > 1 else ''}"


def _describe_head(recipe: Recipe) -> str:
    size_free = recipe.net.head == "pool"
    return "size-free, so it runs on other board sizes." if size_free else "flattened, one board size only."


def _describe_thinking(task: TaskRecipe) -> str:
    low, high = task.thinking_steps
    if not high or not task.thinking_fraction:
        return "none, so thinking steps are outside what it knows."
    return f"{low} to {high} frozen steps at the start of {task.thinking_fraction:.0%} of its episodes."


def _table(rows: list[Row]) -> str:
    labels = [key for key in rows[0] if key not in ("value", "low", "high", "n")] if rows else []
    columns = [*(label.replace("_", " ") for label in labels), "value", "95 %"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        value, low, high = (f"{row[key]:.3f}" for key in ("value", "low", "high"))
        lines.append("| " + " | ".join(str(part) for part in (*map(row.get, labels), value, f"{low} to {high}")) + " |")
    return "\n".join(lines)
