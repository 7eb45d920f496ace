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
# # 3. Look inside
# Before asking what an agent thinks, one has to be able to point at any part of it, to read it without disturbing it,
# and to put something else in its place. This notebook does the three, checks the laws that must hold exactly, and ends
# with a map: where in the net is the information that decides the next move?
#
# How much is played is set here, once: `smoke` takes seconds, `quick` a minute or two, `full` longer.

# %%
import os

from planprobe.verdict.budgets import get_budget

BUDGET = get_budget(os.environ.get("PLANPROBE_BUDGET", "quick"))
AGENT = os.environ.get("PLANPROBE_AGENT", "drc12-rl-maze11-s0")

# %% [markdown]
# ## Names
# Every tick of every layer is a place with a name: `ticks.{tick}.{layer}.hook_*`. Patterns choose several: `*` is
# anything, `{0,2}` one of two, `{-1}` the last. A name that does not exist is an error that tells the nearest one.

# %%
from planprobe.cli.output import print_table
from planprobe.core.errors import UnknownSiteError
from planprobe.instruments.hooks import open_policy, select_sites
from planprobe.subjects.zoo import load_agent

agent = load_agent(AGENT)
opened = open_policy(agent.net, name=agent.name)
for pattern in ("ticks.*.0.hook_h", "ticks.{-1}.*.hook_c", "hook_*"):
    print(f"{pattern:22}{', '.join(select_sites(opened, pattern))}")
try:
    select_sites(opened, "ticks.0.0.hook_hidden")
except UnknownSiteError as error:
    print(error)

# %% [markdown]
# ## Reading
# Inside the block everything that the chosen sites hold is recorded: boards × steps × channels × rows × columns. Steps
# count from the first look at the level, thinking steps included.

# %%
from planprobe.core.play import play_levels
from planprobe.instruments.hooks import capture
from planprobe.subjects.envs.catalog import level_set_names

NUM_STEPS = BUDGET.judged_steps
names = dict.fromkeys(["test", level_set_names(agent.task)[-1]])
levels = {name: agent.levels(name, BUDGET.num_levels) for name in names}
caches = {}
for name, some in levels.items():
    with capture(opened, "ticks.*.{-1}.hook_h", steps=range(NUM_STEPS)) as caches[name]:
        play_levels(opened, agent.make_env, some, thinking_steps=NUM_STEPS, max_steps=1)
    print(name, caches[name], *(tuple(values.shape) for values in caches[name].values()))

# %% [markdown]
# ## How long it goes on
# How much of the hidden state is new at each step of looking at a level that stands still: the change since the step
# before, as a share of what there is. A net that has made up its mind comes to rest; harder levels should keep it busy
# for longer.

# %%
from planprobe.instruments.statistics.stats import cluster_bootstrap
from planprobe.verdict.figures import theme

figure = theme.make_figure(
    x_title="steps of looking at the same board", y_title="change since the step before (share)", right_labels=list(names)
)
for name, colour in zip(names, (theme.AGENT, theme.ACCENT), strict=False):
    held = list(caches[name].values())[-1].flatten(2)
    change = (held[:, 1:] - held[:, :-1]).norm(dim=2) / held[:, 1:].norm(dim=2)
    effects = [cluster_bootstrap(column.double().numpy(), unit="share") for column in change.T]
    columns = {key: [getattr(effect, key) for effect in effects] for key in ("value", "low", "high")}
    theme.add_line(figure, x=list(range(2, NUM_STEPS + 1)), **columns, name=name, colour=colour)
theme.finish(figure)

# %% [markdown]
# The figure shows the mean over levels of one set with its 95 % interval. That something keeps changing is no sign of
# planning: an untrained net may change for ever. It tells where to look.

# %% [markdown]
# ## Laws
# An instrument that disturbs what it measures is none. Capturing must change no bit of what the agent says; putting a
# run's own activations back must change nothing; putting in all of another run must give that other run.

# %%
from planprobe.instruments.hooks import Address, intervene, patch_from

one, other = levels["test"][:8], levels["test"][8:16]
ask = lambda some: play_levels(opened, agent.make_env, some, max_steps=1).first_logits
plain, plain_other = ask(one), ask(other)
with capture(opened, "*") as everything:
    watched = ask(other)
with intervene(opened, patch_from(everything, Address("*"))):
    patched_other, patched_one = ask(other), ask(one)
print("capturing changes nothing:", watched.equal(plain_other))
print("a run patched with itself is itself:", patched_other.equal(plain_other))
print("a run patched with all of another is the other:", patched_one.equal(plain_other))
print("and the two runs do differ:", not plain.equal(plain_other))

# %% [markdown]
# ## Putting in
# Pairs of levels that differ in one thing and have another best first move. A piece of the run on the one is put into
# the run on the other, piece by piece, and the agent is asked again. 0: it answers as before; 1: as on the level that
# the piece came from. The shell line for it is `planprobe patch`.

# %%
from planprobe.verdict.figures.patching import draw_patching
from planprobe.verdict.patch_table import patch_table

table = patch_table(agent, num_pairs=BUDGET.num_changes, sites=["ticks.*.*.hook_h", "ticks.*.*.hook_c"], thinking_steps=1)
rows = [row for row in table.rows if row["measure"] == "logit-difference"]
print_table({name: row[name] for name in ("site", "step", "value", "low", "high", "estimate", "num_levels")} for row in rows)
print("\n".join(table.notes))

# %% [markdown]
# The same as a map, tick by tick.

# %%
figure = draw_patching(table.rows)["patch-sites"]
figure

# %% [markdown]
# The figure shows the effect of each site, tick and step by itself. What is high carries the decision at that moment.
# That it carries *a plan* is another question: a code for the very next move would look the same. The next notebook
# reads, the one after it writes.
