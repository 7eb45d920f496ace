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
# # 8. Figures
# A figure is worth the numbers that it is made of. Here nothing is measured while it is drawn: measurements write
# tables, figures read them, and anybody can ask later whether a figure still follows from its table. This notebook
# draws published numbers, makes a small study of its own, saves it, redraws it, and then changes a number to see
# whether that is found out.
#
# How much is played is set here, once: `smoke` takes seconds, `quick` a minute or two, `full` longer.

# %%
import os

from planprobe.verdict.budgets import get_budget

BUDGET = get_budget(os.environ.get("PLANPROBE_BUDGET", "quick"))
AGENT = os.environ.get("PLANPROBE_AGENT", "drc12-rl-maze11-s0")
FOLDER = os.path.join(os.environ.get("PLANPROBE_RUNS", "runs"), f"figures-{BUDGET.name}-{AGENT}")

# %% [markdown]
# ## From scorecards
# Every agent of the zoo carries its numbers, each with its interval and the conditions that it holds under. Here: on
# levels harder than those of training, with more and more steps to think before the first action.

# %%
from planprobe.cli.output import print_table
from planprobe.subjects.scorecard import FIRST_MOVE
from planprobe.subjects.zoo import list_agents, load_agent

agent = load_agent(AGENT)
zoo = [each for each in map(load_agent, list_agents()) if not each.recipe.plays_trials and each.task.kind == agent.task.kind]
measure = FIRST_MOVE if agent.task.kind == "maze" else "solved"
kept = {"measure": measure, "levels": "far" if agent.task.kind == "maze" else "medium", "policy": "greedy", "memory": "kept"}
curves = {each.name: [row for row in each.metrics.get("rows", []) if kept.items() <= row.items()] for each in zoo}
curves = {name: sorted(rows, key=lambda row: row["thinking_steps"]) for name, rows in curves.items() if len(rows) > 1}
print_table(
    {"agent": name, **{f"{row['thinking_steps']} steps": row["value"] for row in rows}} for name, rows in curves.items()
)

# %% [markdown]
# The house style: one dark colour for the agent in question, grey for what it is compared with, an interval on every
# point, names at the end of lines, and axes that say their unit.

# %%
from planprobe.verdict.figures import theme

steps = sorted({row["thinking_steps"] for rows in curves.values() for row in rows})
figure = theme.make_figure(
    x_title="thinking steps before the first action", y_title=f"{kept['levels']}: {measure} (fraction)",
    right_labels=list(curves),
)
for name, rows in curves.items():
    columns = {key: [row[key] for row in rows] for key in ("value", "low", "high")}
    own = name == AGENT
    places = [steps.index(row["thinking_steps"]) for row in rows]
    theme.add_line(figure, x=places, **columns, name=name, colour=theme.AGENT if own else theme.CONTROL, subdued=not own)
theme.finish(figure, tick_text=[str(step) for step in steps])

# %% [markdown]
# The figure shows published numbers: 95 % intervals over 1000 held-out levels an agent. `planprobe agents verify` plays
# them again.

# %% [markdown]
# ## From a study
# One detector, for the sake of the example: does this agent gain from thinking, beyond its controls? What is saved are
# tables, with a hash of each; the folder is what `planprobe study` writes for the whole battery.

# %%
from planprobe.core.records import Effect
from planprobe.instruments.detectors import thinking_gain
from planprobe.subjects.scorecard import find_score
from planprobe.verdict.criteria import THINKING_GAIN
from planprobe.verdict.judge import judge
from planprobe.verdict.results import load_results, write_results, write_table

evidence = thinking_gain.run(
    agent.net, agent.make_env, agent.levels(kept["levels"], BUDGET.num_levels), thinking_steps=BUDGET.thinking_steps,
    judged_steps=BUDGET.judged_steps, tick_factors=(), min_effect=THINKING_GAIN.value,
)
solved = find_score(agent.metrics)
solve_rate = Effect(solved["value"], solved["low"], solved["high"], solved["n"], "fraction solved")
folder = write_results(FOLDER, judge([evidence], agent=agent.name, solve_rate=solve_rate))
rows = load_results(folder).rows("D1")
print("\n".join([f"D1 is {evidence.outcome}.", *evidence.notes, f"{len(rows)} rows in {folder / 'rows' / 'D1.parquet'}"]))

# %% [markdown]
# ## Draw, and check
# Every figure is known by the hash of what it draws. Drawn again from the same table it has the same hash; `planprobe
# figures --check` does this for a folder.

# %%
from planprobe.verdict.figures import load_figure, rebuild_figures

rebuild_figures(folder)
print_table({"figure": each.name, "follows from its numbers": each.same} for each in rebuild_figures(folder, check=True))

# %% [markdown]
# The stored figure of D1, read from its file.

# %%
figure = load_figure(folder, "thinking")
figure

# %% [markdown]
# The figure shows what a study shows of D1: the agent in blue, in grey the same net with memory that cannot hold a plan
# for this level. With a handful of levels the intervals are wide, and the outcome says so.

# %% [markdown]
# Now somebody improves every number in the table by a little, and leaves the figure as it is. The check no longer
# holds; the hash of the rows in `verdict.json` no longer fits either.

# %%
write_table(folder / "rows" / "D1.parquet", [{**row, "solved_rate": (row["solved_rate"] or 0.0) + 0.05} for row in rows])
print_table({"figure": each.name, "follows from its numbers": each.same} for each in rebuild_figures(folder, check=True))
