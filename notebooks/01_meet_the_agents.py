# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Meet the agents
# The agents in the zoo were trained by reinforcement learning on boards that one sees whole: walk to the goal of a maze, or
# push boxes onto targets. Nothing in their code searches, simulates or plans. This notebook shows what they can do. Why
# they can is the question of the others.
#
# How much is played is set here, once: `smoke` takes seconds, `quick` a minute or two, `full` longer.

# %%
import os

from planprobe.verdict.budgets import get_budget

BUDGET = get_budget(os.environ.get("PLANPROBE_BUDGET", "quick"))
AGENT = os.environ.get("PLANPROBE_AGENT", "drc12-rl-maze11-s0")

# %% [markdown]
# ## Who is there
# An agent is a folder with a recipe, weights, a scorecard and a card; this table reads the scorecards. The shell line for
# it is `planprobe agents list`.

# %%
from planprobe.cli.output import print_table, with_interval
from planprobe.subjects.scorecard import RESET, SAMPLED, Condition, find_score, score_levels
from planprobe.subjects.zoo import list_agents, load_agent

zoo = [agent for agent in map(load_agent, list_agents()) if not agent.recipe.plays_trials]
print_table(
    {"agent": a.name, "task": f"{a.task.kind} {a.task.size}x{a.task.size}", "net": a.recipe.net.kind, "frames": a.frames,
     "solved": (find_score(a.metrics) or {}).get("value")}
    for a in zoo
)

# %% [markdown]
# ## A level
# Levels are held out: no rotation or reflection of this board was ever trained on. `#` is wall, `@` the agent, `.` where
# it, or a box `$`, has to go.

# %%
from planprobe.subjects.envs.catalog import level_set_names
from planprobe.subjects.envs.level_text import render_text

agent = load_agent(AGENT)
harder = level_set_names(agent.task)[-1]
levels = {name: agent.levels(name, BUDGET.num_levels) for name in dict.fromkeys(["test", harder])}
board, player = levels[harder].boards[0], levels[harder].players[0]
print(render_text(board, player))

# %% [markdown]
# ## An episode
# Of the harder levels that it solves, here is the one that takes longest, at four moments. Look at the first move: on a
# board that is seen whole, the end of the way decides about its beginning.

# %%
from planprobe.core.grid import ACTION_NAMES
from planprobe.subjects.envs.plans import boards_from_observations
from planprobe.subjects.training.evaluate import evaluate

rollout = evaluate(agent.net, agent.task, levels[harder], keep_observations=True)
longest = int(rollout.lengths.masked_fill(~rollout.solved, 0).argmax())
length = int(rollout.lengths[longest])
seen = boards_from_observations(rollout.observations[longest, :length], observation=agent.task.observation)
frames = [render_text(seen[0][t], int(seen[1][t])).split("\n") for t in (0, length // 3, 2 * length // 3, length - 1)]
print("\n".join("     ".join(lines) for lines in zip(*frames, strict=True)))
print(f"\n{length} steps:", " ".join(ACTION_NAMES[action] for action in rollout.actions[longest, :length].tolist()))

# %% [markdown]
# ## How often it gets there
# Three ways to play the same held-out levels: its likeliest action, a sampled one, and its likeliest action with memory
# reset before every step. What the last one loses is what the agent carries in its memory.

# %%
ways = (Condition(), SAMPLED, RESET)
scores = [row for way in ways for row in score_levels(agent.net, agent.task, levels["test"], way, name="test")]
print_table(map(with_interval, scores))

# %% [markdown]
# ## Time to think
# The agent may now look at the frozen first observation for some steps before it acts; its memory runs, the world does
# not. The control is the same net with its memory reset each step, for which looking longer cannot matter.

# %%
from planprobe.verdict.figures import theme

counts = BUDGET.thinking_steps
ways = {"the agent": "kept", "memory reset each step": "reset each step"}
scores = {
    name: [score_levels(agent.net, agent.task, levels[harder], Condition(memory=memory, thinking_steps=n))[0] for n in counts]
    for name, memory in ways.items()
}
figure = theme.make_figure(
    x_title="thinking steps before the first action", y_title=f"{harder} levels solved (fraction)", right_labels=list(ways)
)
for name, rows in scores.items():
    columns = {key: [row[key] for row in rows] for key in ("value", "low", "high")}
    control = name != "the agent"
    colour = theme.CONTROL if control else theme.AGENT
    theme.add_line(figure, x=list(range(len(counts))), **columns, name=name, colour=colour, subdued=control)
theme.finish(figure, tick_text=[str(n) for n in counts])

# %% [markdown]
# The figure shows the share of harder levels solved, with 95 % intervals over levels. On a handful of levels the bands are
# wide: a rise inside them is no finding. A study asks the same of many more levels, pairs them, adds controls whose
# memory is full of something else, and fixes beforehand how much would matter: `planprobe study` does that.
