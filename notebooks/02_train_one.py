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
# # 2. Train one
# Agents come from recipes: one file that names the task, the net and the training, with every value. This notebook
# takes the recipe of a shipped agent, cuts it down to what a notebook has time for, trains it, and asks how far it has
# got. Two arms, each paying with a probability that is drawn anew for every trial; twenty pulls. Nobody tells the net
# how to explore.
#
# How much is trained is set here, once: `smoke` takes seconds and teaches next to nothing, `quick` a minute or two,
# `full` is the recipe as it stands.

# %%
import os

from planprobe.verdict.budgets import get_budget

BUDGET = get_budget(os.environ.get("PLANPROBE_BUDGET", "quick"))
AGENT = os.environ.get("PLANPROBE_AGENT", "gru-rl2-bandit2-s0")
FRAMES = {"smoke": 60_000, "quick": 1_500_000}.get(BUDGET.name)
FOLDER = os.path.join(os.environ.get("PLANPROBE_RUNS", "runs"), f"train-one-{BUDGET.name}")

# %% [markdown]
# ## A recipe
# What is not said keeps its default, a misspelt key is an error, and the hash of a recipe is part of every checkpoint,
# so that weights cannot be loaded into another net than theirs.

# %%
from planprobe.core.store import write_atomic
from planprobe.subjects.recipe import load_recipe, recipe_to_toml
from planprobe.subjects.zoo import load_agent

shipped = load_agent(AGENT)
frames = shipped.recipe.training.frames
text = recipe_to_toml(shipped.recipe).replace(AGENT, "train-one")
text = text.replace(f"\nframes = {frames}", f"\nframes = {FRAMES or frames}")
recipe = load_recipe(write_atomic(f"{FOLDER}.toml", text))
print(f"{recipe.training.frames:,} of {frames:,} frames, recipe {recipe.hash()[:12]}")
print("task: ", recipe.task)
print("sees: ", recipe.inputs)
print("net:  ", recipe.net)

# %% [markdown]
# ## Training
# The shell line for this is `planprobe train`. A run is a folder with a log and one file that has everything the next
# update depends on: stopped at any moment, it goes on where it was, to the bit. So does this cell when it is run again.

# %%
from planprobe.subjects.training.train import Trainer

curve = []
trainer = Trainer(recipe, FOLDER, resume=os.path.exists(os.path.join(FOLDER, "resume.safetensors")), on_progress=curve.append)
done = trainer.run()
print(f"{trainer.frames:,} frames", f"at {curve[-1].frames_per_second:,.0f} a second" if curve else "had been trained before")

# %% [markdown]
# ## How good is it?
# On held-out trials, beside the same net with its memory reset before each pull: what the difference is worth was
# learned within the trial, in activations, with frozen weights. The shipped agent and the reference players played the
# same trials; Bayes-optimal is the best that anybody can do who does not know the arms.

# %%
from planprobe.cli.output import print_table
from planprobe.subjects.envs.trial_catalog import held_out
from planprobe.subjects.trial_scores import TrialCondition, find_trial_score, play_condition, score_trials

conditions = {
    "trained here": TrialCondition("sampled", "kept"),
    "trained here, memory reset": TrialCondition("sampled", "reset each step"),
}
task = held_out(recipe.trial_task)
rows = []
for name, condition in conditions.items():
    rollout = play_condition(trainer.net, task, recipe.inputs, BUDGET.num_first_moves, condition)
    rows.append({"who": name} | next(row for row in score_trials(rollout, condition) if row["measure"] == "return"))
rows.append({"who": "the shipped agent"} | find_trial_score(shipped.metrics))
for player in ("Bayes-optimal", "Thompson"):
    rows.append({"who": player} | find_trial_score(shipped.metrics, policy=player))
columns = ("who", "value", "low", "high", "n")
print_table({name: row.get(name) for name in columns} for row in rows)

# %% [markdown]
# ## The way there
# The return of the trials that were played in training, as it went.

# %%
from planprobe.verdict.figures import theme

figure = theme.make_figure(x_title="frames", y_title="return of a trial, in training")
told = [each for each in curve if each.trial_return is not None]
line = {"color": theme.AGENT, "width": 2.5}
figure.add_scatter(x=[each.frames for each in told], y=[each.trial_return for each in told], line=line)
for row in rows[2:]:
    theme.mark_level(figure, y=row["value"], text=row["who"])
figure

# %% [markdown]
# The figure shows one run, sampled actions, no interval: another seed takes another way. The dotted lines are what the
# shipped agent and the reference players reach. A net that stands at the return of a player without memory has learned
# to pull, and not yet to learn.
