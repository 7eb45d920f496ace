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
# # 6. Does it plan?
# One measurement is never enough: a decodable plan may be unused, a steered agent may have been pushed, one that thinks
# longer may only be slow. A study takes them all, each beside its controls, and judges them by rules that were written
# down before any agent was looked at. Four readings and one way out: it plans, it holds a plan that it does not use, it
# adapts without planning, it does not plan, or it cannot be said.
#
# How much is played is set here, once: `smoke` takes seconds and settles nothing, `quick` a few minutes, `full` an
# hour.

# %%
import os

from planprobe.verdict.budgets import get_budget

BUDGET = get_budget(os.environ.get("PLANPROBE_BUDGET", "quick"))
AGENT = os.environ.get("PLANPROBE_AGENT", "drc12-rl-maze11-s0")

# %% [markdown]
# ## The rules
# The smallest effects that count, fixed beforehand. An effect has to lie beyond the best control, with its whole
# interval above zero; a negative result counts only where an effect of this size would have been seen.

# %%
from planprobe.cli.output import print_table
from planprobe.verdict.criteria import CRITERIA

print_table({"criterion": each.name, "value": each.value, "because": each.reason} for each in CRITERIA.values())

# %% [markdown]
# ## The study
# The whole battery on one agent. A memoryless agent that was trained on the same task is a control, where the zoo has
# one. The shell line for it is `planprobe study`, which also writes a report.

# %%
from planprobe.subjects.zoo import find_twin, load_agent
from planprobe.verdict.judge import headline
from planprobe.verdict.study import take_evidence

agent = load_agent(AGENT)
twin = find_twin(agent)
taken = take_evidence(agent, BUDGET, twin=load_agent(twin) if twin else None)
verdict = taken.verdict
print(headline(verdict))

# %% [markdown]
# ## The evidence
# A line a detector: what was measured, what of it lies beyond the best control, and whether the claim is supported,
# refuted, or not settled. Power is the chance to see the smallest effect that counts with this many levels; a low one
# is why a small budget settles so little.

# %%
print_table(
    {"detector": f"{item.detector} {item.name.replace('_', ' ')}", "effect": item.effect.value,
     "beyond controls": item.beyond_controls.value, "low": item.beyond_controls.low, "high": item.beyond_controls.high,
     "counts from": item.min_effect, "power": item.power, "outcome": item.outcome}
    for item in verdict.evidence
)

# %% [markdown]
# The same in one picture: every detector beyond its controls, in units of the smallest effect that counts.

# %%
from planprobe.verdict.figures import draw_figures
from planprobe.verdict.results import Results

results = Results(verdict, {"behaviour": taken.behaviour})
figures = draw_figures(results)
figure = figures["overview"]
figure

# %% [markdown]
# The figure shows each effect beyond its best control with its 95 % interval over levels. Only intervals that clear the
# marked threshold support a claim; one that reaches across it leaves the question open, whichever side its middle is
# on.

# %% [markdown]
# ## Why, and what is missing
# The reasons in the order of their weight, and what would have to be measured to say more.

# %%
for title, lines in (("Because", verdict.reasons), ("Missing", verdict.missing)):
    print("\n  - ".join([title, *lines]))

# %% [markdown]
# ## One detector from near
# What the verdict rests on first is whether time to think helps. Each detector has figures of its own; this is the one
# of D1.

# %%
figure = figures.get("first-moves", figures["thinking"])
figure

# %% [markdown]
# The figure shows the agent, and in grey what else could have used the time: the same net with its memory reset each
# step, and memory that has run as long on a blank frame, on noise, or on another level. Time helps a planner only where
# memory has seen the board in question.

# %% [markdown]
# ## How often is such a verdict wrong?
# The same battery is run on organisms, agents whose answer is known by construction. A verdict rests on the rates found
# there, for this version and this budget; without them it is provisional. `planprobe calibrate` measures them, and
# `planprobe study planprobe.subjects.organisms:bystander_maze9_s3` shows one of the agents that try to fool it.

# %%
from planprobe.verdict.rates import load_rates

rates = load_rates(BUDGET.name, agent.task.kind)
known = f"measured on version {rates.version}" if rates else f"not measured for this version and the budget '{BUDGET.name}'"
print(f"The verdict is {'final' if verdict.calibrated else 'provisional'}. Error rates: {known}.")
