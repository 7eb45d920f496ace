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
# # 7. RL² and belief
# Train a net with memory on many tasks that differ in something hidden, let it see its own actions and rewards, and
# reset its memory only when the task changes: it will learn to learn, with frozen weights, in its activations. What
# does such a net hold? The theory has an exact answer to compare with, the posterior over what is hidden. Here the
# hidden thing is how often each of two arms pays, and the posterior is two Beta distributions.
#
# How much is played is set here, once: `smoke` takes seconds, `quick` a few minutes, `full` longer.

# %%
import os

from planprobe.verdict.budgets import get_budget

BUDGET = get_budget(os.environ.get("PLANPROBE_BUDGET", "quick"))
AGENT = os.environ.get("PLANPROBE_AGENT", "gru-rl2-bandit2-s0")

# %% [markdown]
# ## One trial
# Twenty pulls. What an exact observer believes before each of them stands beside what the agent does: the expected
# payment of both arms, the chance that the first is the better one, and the agent's own chance of pulling it. An agent
# that samples from its belief would have the last two alike; one that exploits what it knows does not.

# %%
from planprobe.cli.output import print_table
from planprobe.core.play_trials import play_trials
from planprobe.subjects.references.bandit_beliefs import BetaBelief
from planprobe.subjects.zoo import load_agent

agent = load_agent(AGENT)
rollout = play_trials(agent.net, agent.make_trials(1, seed=3), seed=1)
belief, rows = BetaBelief(agent.trial_task), []
belief.begin(1)
for t in range(rollout.actions.shape[1]):
    mean, best = belief.mean()[0], belief.chance_best()[0]
    rows.append(
        {"pull": t + 1, "believed, first arm": float(mean[0]), "second": float(mean[1]),
         "chance that the first is better": float(best[0]),
         "agent pulls the first with": float(rollout.logits[0, t].softmax(-1)[0]), "it pulled": int(rollout.actions[0, t]) + 1,
         "paid": int(rollout.rewards[0, t])}
    )
    belief.see(rollout.actions[:, t], rollout.rewards[:, t])
print_table(rows, title=", ".join(f"{name}: {value[0].tolist()}" for name, value in rollout.latents.items()))

# %% [markdown]
# ## Does it become better within a trial?
# And by what it remembers of this very task? The controls are the same agent with its memory reset, and with the memory
# of another trial put in its place. The shell line for this is `planprobe run adaptation`.

# %%
from planprobe.experiments.adaptation import FIGURES as ADAPTATION_FIGURES
from planprobe.experiments.catalog import run_experiment

found = run_experiment("adaptation", [agent], budget=BUDGET.name)
print_table({name: row[name] for name in ("who", "measure", "value", "low", "high", "n")} for row in found.tables["index"])
print("\n".join(found.notes))

# %% [markdown]
# Pull by pull, beside the player that knows everything that can be known.

# %%
figure = ADAPTATION_FIGURES["shots"](found.tables)[AGENT]
figure

# %% [markdown]
# The figure shows the mean payment of the k-th pull with 95 % intervals over trials. A line that rises is learning;
# what memory has to do with it is the distance to the grey line of the same agent with its memory reset before every
# pull. That an agent adapts says nothing about how: a rule of thumb ("stay if it paid") rises too.

# %% [markdown]
# ## Is the belief in there?
# The exact posterior beside every step of the agent's trials; a map from memory to it, fitted on some trials and scored
# on others. Beside it the same from what the agent sees, from untrained nets that were shown the same, and of a latent
# that has nothing to do with the task. And back: can the net be run on, from a memory that was made from the posterior?

# %%
from planprobe.experiments.belief import FIGURES as BELIEF_FIGURES
from planprobe.experiments.belief import run_belief

held = run_belief([agent], budget=BUDGET.name)
print_table(
    {"detector": f"{item.detector} {item.name.replace('_', ' ')}", "effect": item.effect.value, "unit": item.effect.unit,
     "beyond controls": item.beyond_controls.value, "low": item.beyond_controls.low, "high": item.beyond_controls.high,
     "outcome": item.outcome}
    for item in held.evidence
)
print("\n".join(held.notes))

# %% [markdown]
# How well it can be read after each pull.

# %%
figure = BELIEF_FIGURES["time"](held.tables)[AGENT]
figure

# %% [markdown]
# The figure shows, by step of the trial, how much of the posterior can be read, from memory and from everything that it
# might be read from without one. A belief that can be read is what an agent has that filters, and what an agent has
# that samples from its belief; whether it is *used* is the question of the simulation above, and of forced histories:
# `planprobe run belief`, `planprobe run mixture`.

# %% [markdown]
# ## A search
# On a grid of 25 squares one is the goal, and nothing shows which. This agent searches for it in the first episode, and
# in the second, put back to its corner, it remembers. Here is its first episode on one trial: how many squares may be
# the goal by what it has seen, and the chance of its move under two ways of searching with that exact belief, going to
# the nearest square that is left, and drawing one of them anew on every step.

# %%
from planprobe.subjects.references.goal_scores import score_walks

seeker = load_agent(os.environ.get("PLANPROBE_SEEKER", "gru128-rl2-goal5-s0"))
search = play_trials(seeker.net, seeker.make_trials(50, seed=3), seed=1)
walks = score_walks(seeker.trial_task, search.extras["square_before"], search.extras["square"], search.rewards)
trial, size = int(search.rewards[:, :10].sum(1).argmin()), seeker.trial_task.size  # one that does not find it at once
print_table(
    {"step": t + 1, "at": str(divmod(int(walks.squares[trial, t]), size)),
     "squares left": int((walks.belief[trial, t] > 0).sum()),
     "chance of its move": float(search.logits[trial, t].softmax(-1)[move]),
     "to the nearest left": float(walks.nearest()[trial, t, move]),
     "to one drawn anew": float(walks.mixture()[trial, t, move]), "paid": float(search.rewards[trial, t])}
    for t, move in enumerate(search.actions[trial, : seeker.trial_task.episode_steps].tolist())
)

# %% [markdown]
# Over many trials, episode by episode, beyond the two that it was trained on, with the players that know the belief.

# %%
learned = run_experiment("adaptation", [seeker], budget=BUDGET.name)
print("\n".join(learned.notes))
figure = ADAPTATION_FIGURES["stages"](learned.tables)[seeker.name]
figure

# %% [markdown]
# The figure shows the return of each episode with 95 % intervals over trials. What is gained from the first to the
# second is memory of the goal: reset between episodes, the agent searches anew. Does it search by samples, going for
# one goal until that is ruled out? Posterior sampling would; so would who goes through squares in an order of its own.

# %%
held = run_experiment("commitment", [seeker], budget=BUDGET.name)
print_table(held.tables["D14"])
print("\n".join(held.notes))
