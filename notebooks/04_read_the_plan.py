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
# # 4. Read the plan
# If an agent plans, then somewhere inside it should be written where it will go. This notebook opens an agent, reads from
# each square's activations the direction in which the agent will enter it, and asks how much of that could be read without
# any plan.
#
# How much is played is set here, once: `smoke` takes seconds, `quick` a few minutes, `full` longer.

# %%
import os

from planprobe.verdict.budgets import get_budget

BUDGET = get_budget(os.environ.get("PLANPROBE_BUDGET", "quick"))
AGENT = os.environ.get("PLANPROBE_AGENT", "drc12-rl-maze11-s0")
CONCEPT = "agent-approach-direction"

# %% [markdown]
# ## Inside
# Opening an agent makes a copy in which every tick of every layer is a place of its own. These are its sites, with their
# shapes on one board.

# %%
from planprobe.cli.output import print_table
from planprobe.instruments.hooks import capture, open_policy
from planprobe.subjects.zoo import load_agent

agent = load_agent(AGENT)
opened = open_policy(agent.net, name=agent.name)
print_table({"site": site, "shape": str(shape)} for site, shape in opened.sites().items())

# %% [markdown]
# ## A capture
# What a site held, for every board and step of a run: (boards, steps, channels, rows, columns). Capturing changes nothing,
# to the bit.

# %%
from planprobe.core.play import play_levels

levels = agent.levels("valid", BUDGET.num_probe_levels)
with capture(opened, "ticks.*.*.hook_h") as cache:
    play_levels(opened, agent.make_env, levels[:8], max_steps=5)
print(cache)

# %% [markdown]
# ## The probe table
# One linear read-out a site, fitted on three fifths of the levels, tuned on a fifth, scored once on the last fifth, which it
# has never seen. Beside each stands its best control, and the difference between the two, with a 95 % interval over
# levels and a p-value corrected for the size of the table. The shell line for it is `planprobe probe`.

# %%
from planprobe.instruments.probes.table import probe_table
from planprobe.subjects.zoo import find_twin
from planprobe.verdict.material import untrained_net

untrained = [untrained_net(agent.recipe, agent.make_env, levels, number) for number in range(5)]
twin = find_twin(agent)  # a memoryless agent of the same task, where the zoo has one
table = probe_table(
    opened, agent.make_env, levels, CONCEPT, random_policies=untrained, twin=load_agent(twin).net if twin else None,
    kernels=(1,), per_level=BUDGET.states_per_level,
)
columns = ("site", "macro_f1", "macro_f1_low", "macro_f1_high", "best_control", "delta", "delta_low", "delta_high", "p_holm")
print_table({name: row[name] for name in columns} for row in table.rows)
print("\n".join(table.notes))

# %% [markdown]
# ## What the controls got
# The same read-out from other things: from the observation through windows of growing size, from what was seen lately, from
# nets that were never trained, from a memoryless twin; and the same activations with labels that mean nothing. A score is
# worth what it has beyond the best of these.

# %%
best = table.best()
controls = {key.removeprefix("control_"): value for key, value in best.items() if key.startswith("control_")}
controls = {name: value for name, value in controls.items() if not name.endswith(("_low", "_high"))}
print_table([{"read from": best["site"], "macro-F1": best["macro_f1"]}])
print_table({"control": name, "macro-F1": controls[name]} for name in sorted(controls, key=lambda name: -(controls[name] or 0)))

# %% [markdown]
# ## How far ahead
# The next step is easy to guess and needs no plan. So the share of squares that are read right is split by how many steps
# it still takes until the agent enters them.

# %%
from planprobe.verdict.figures import theme

bins = [row for row in table.by_horizon if (row["site"], row["unit"]) == (best["site"], "steps")]
needed = ("recall", "recall_low", "recall_high", "control_recall", "control_recall_low", "control_recall_high")
bins = [row for row in bins if None not in [row[name] for name in needed]]
figure = theme.make_figure(
    x_title="steps until the square is entered", y_title="read right (fraction)", right_labels=["the agent", "best control"]
)
for key, name, colour in (("control_recall", "best control", theme.CONTROL), ("recall", "the agent", theme.AGENT)):
    value, low, high = ([row[key + end] for row in bins] for end in ("", "_low", "_high"))
    theme.add_line(figure, x=list(range(len(bins))), value=value, low=low, high=high, name=name, colour=colour)
theme.finish(figure, tick_text=[row["bin"] for row in bins])

# %% [markdown]
# The figure shows the read-out in blue and its best control in grey. Where the blue line stays above the grey one far to
# the right, something about the distant future is written inside that the board alone does not give away so easily; where
# they fall together, the read-out is a guess at the next moves. *never* is the share of squares rightly left blank.

# %% [markdown]
# ## A plan, tick by tick
# Now one harder level, which the read-outs have not seen. The agent looks at it for three thinking steps before it moves,
# and after every tick each square is asked: will you be entered, and from where?

# %%
from planprobe.core.grid import ACTION_NAMES
from planprobe.subjects.envs.catalog import level_set_names
from planprobe.subjects.envs.level_text import render_text

NUM_STEPS, ARROWS = 3, ("", "↑", "↓", "←", "→")
level = agent.levels(level_set_names(agent.task)[-1], BUDGET.num_levels)[0]
ticks = [row for row in table.rows if (row["labels"], row["layer"]) == ("behaviour", best["layer"])]
with capture(opened, [row["site"] for row in ticks], steps=range(NUM_STEPS)) as cache:
    rollout = play_levels(opened, agent.make_env, level, thinking_steps=NUM_STEPS)
reads = [[table.probe(row).read_board(cache[row["site"]][:, n])[0].softmax(0) for row in ticks] for n in range(NUM_STEPS)]

# %% [markdown]
# Walls stay white; the agent, and what has to be reached or moved, keep their signs.

# %%
drawing, width = render_text(level.boards[0], int(level.players[0])).split("\n"), level.width
squares = [[(part, r, c) for part in step for c in range(width)] for step in reads for r in range(level.height)]
shade = [[None if drawing[r][c] == "#" else 1 - float(part[0, r, c]) for part, r, c in line] for line in squares]
signs = [
    [{"#": "", " ": ARROWS[int(part[:, r, c].argmax())]}.get(drawing[r][c], drawing[r][c]) for part, r, c in line]
    for line in squares
]
figure = theme.make_figure(x_title="", y_title="", height=60 + 240 * NUM_STEPS)
figure.add_heatmap(
    z=shade, text=signs, texttemplate="%{text}", zmin=0, zmax=1, colorscale=[[0, theme.GRID], [1, theme.AGENT]], xgap=1, ygap=1,
    hoverongaps=False, hovertemplate="entered with probability %{z:.2f}<extra></extra>",
    colorbar={"title": "entered", "thickness": 12, "outlinewidth": 0},
)
middles = [width * (k + 0.5) - 0.5 for k in range(len(ticks))]
figure.update_xaxes(tickvals=middles, ticktext=[f"tick {row['tick']}" for row in ticks], linecolor="white", ticks="")
middles = [level.height * (n + 0.5) - 0.5 for n in range(NUM_STEPS)]
names = [f"thinking step {n + 1}" for n in range(NUM_STEPS)]
figure.update_yaxes(tickvals=middles, ticktext=names, autorange="reversed", scaleanchor="x", showgrid=False, linecolor="white")
print("then it went:", " ".join(ACTION_NAMES[action] for action in rollout.actions[0, : min(30, int(rollout.lengths[0]))].tolist()))
figure

# %% [markdown]
# The figure shows, for each tick, how likely each square is to be entered (dark) and by which move (arrow; none where *never*
# is likeliest). Compare it with the moves printed above it. A route that fills in or changes its mind over the ticks is
# what a plan in the making would look like, and is an illustration, not evidence: it is one level, and a read-out can be
# right without being used. Whether the agent *acts* on what is read here is asked by writing to it: plan steering (D7).
