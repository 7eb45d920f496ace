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
# # 5. Change the plan
# What can be read of a plan may be a by-product that nothing inside ever looks at. There is one way to find out: write
# another plan into the agent and see whether it walks it. The trap is that almost anything, pushed hard enough, changes
# what an agent does. So every edit has its doubles: random directions of the same strength, the right directions under
# wrong names or on wrong squares, and those of something that is no plan: where the walls stand.
#
# How much is played is set here, once: `smoke` takes seconds, `quick` a few minutes, `full` longer.

# %%
import os

from planprobe.verdict.budgets import get_budget

BUDGET = get_budget(os.environ.get("PLANPROBE_BUDGET", "quick"))
AGENT = os.environ.get("PLANPROBE_AGENT", "drc12-rl-maze11-s0")
SITE = "ticks.*.{-1}.hook_c"  # the cells of the last layer, at every tick

# %% [markdown]
# ## Two ways
# Boards with a short way (`s`) and a long way (`l`) to the goal, made in numbers. Left alone, the agent should take the
# short one; the edit asks for the long one.

# %%
from planprobe.instruments.hooks import open_policy
from planprobe.subjects.envs.level_text import render_text
from planprobe.subjects.zoo import load_agent
from planprobe.verdict.material import two_route_levels

agent = load_agent(AGENT)
opened = open_policy(agent.net, name=agent.name)
routes = two_route_levels(agent.task, agent.task.size, BUDGET.num_route_levels)
levels, width = routes.levels, routes.levels.width
texts = [render_text(board, int(player)).split("\n") for board, player in zip(levels.boards, levels.players, strict=True)]
ways = {square: sign for sign, way in (("l", routes.long_route), ("s", routes.short_route)) for square in way[0].tolist()}
for r, line in enumerate(texts[0]):
    print("".join(ways.get(r * width + c, sign) if sign == " " else sign for c, sign in enumerate(line)))

# %% [markdown]
# ## Directions
# A linear read-out of "by which move will the agent enter this square?", fitted on other levels, gives a direction in
# activation space for each answer: never, up, down, left, right. They have norm one, so that a strength means the same
# for all of them.

# %%
from planprobe.cli.output import print_table
from planprobe.instruments.probes.table import fit_site_probes
from planprobe.instruments.steering.directions import probe_directions

probes = fit_site_probes(
    opened, agent.make_env, agent.levels("valid", BUDGET.num_probe_levels), "agent-approach-direction", sites=SITE,
    per_level=BUDGET.states_per_level,
)
probe = list(probes.values())[-1]
directions = probe_directions(probe.weights, probe.biases, site=SITE)
print_table({"site": site, "macro-F1 on held-out levels": each.test_score} for site, each in probes.items())

# %% [markdown]
# ## Write
# On the first squares of the short way *never*, on those of the long way its moves; for three steps, at every tick, on
# every level at once, each on its own squares.

# %%
from planprobe.core.play import play_levels
from planprobe.instruments.hooks import Address, intervene, steer
from planprobe.instruments.steering.route_edits import route_edits

edits = route_edits(routes, "both", num_squares=3)
where, what = edits.squares[:, 0], edits.classes
nowhere = levels.boards.flatten(1).bool() & False
masks = [nowhere.scatter(1, where.clamp(min=0), (what == k) & (where >= 0)).view(levels.boards.shape) for k in range(5)]
written = [
    steer(Address(SITE, squares=mask, steps=range(3)), vector, BUDGET.alphas[-1])
    for mask, vector in zip(masks, directions.vectors, strict=True)
]
alone = play_levels(opened, agent.make_env, levels)
with intervene(opened, written):
    steered = play_levels(opened, agent.make_env, levels)

# %% [markdown]
# The same level, left alone and with the other plan written: the squares that the agent came by are dotted. It is a
# level on which the edit worked, if there is one, so this picture shows what redirecting looks like and proves nothing.

# %%
went_long = [(run.positions == routes.long_route[:, 1:2]).any(1) for run in (alone, steered)]
shown = int((went_long[1] & ~went_long[0]).int().argmax())
paths = [set(run.positions[shown, : int(run.lengths[shown]) + 1].tolist()) for run in (alone, steered)]
for r, line in enumerate(texts[shown]):
    squares = [(r * width + c, sign) for c, sign in enumerate(line)]
    print("     ".join("".join("·" if s in path and sign == " " else sign for s, sign in squares) for path in paths))

# %% [markdown]
# ## Against its doubles
# Now the measurement. Half of the levels choose a strength, for the fitted directions and for each control by itself,
# so that no control is beaten for want of force; the other half is reported. Three arms: *block* only bars the short
# way, *direct* only writes the long one, *both* does both. Where *block* does as well as *both*, the agent was kept
# from one way, not given another. Beside success stand the share of the long way that was walked in order, what the
# edit does elsewhere on the board, and how much of the rest of the long way was decoded before the first move: whether
# the plan changed before the action did. For controls on arms that are not judged these columns are empty: there an
# episode stops once the start is left.

# %%
from planprobe.instruments.detectors import plan_steering
from planprobe.instruments.steering.directions import wall_directions
from planprobe.verdict.criteria import PLAN_STEERING

walls = wall_directions(opened, agent.make_env, agent.levels("valid", BUDGET.num_probe_levels), site=SITE)
evidence = plan_steering.run(
    opened, agent.make_env, routes, directions, min_effect=PLAN_STEERING.value, alphas=BUDGET.alphas,
    battery=plan_steering.Battery(BUDGET.num_random, BUDGET.num_random_choice, BUDGET.num_wrong, BUDGET.num_shuffles),
    other_concept=walls, settle_steps=BUDGET.judged_steps,
)
told = [row for row in evidence.rows if row["half"] == "report"]
columns = ("arm", "source", "alpha", "num_tables", "success", "route_agreement", "kl_elsewhere_nats", "long_decoded", "solved")
print_table({name: row[name] for name in columns} for row in told)
print("\n".join([f"D7 is {evidence.outcome}.", *evidence.notes]))

# %% [markdown]
# The arms as a picture, the fitted directions in blue and every control in grey.

# %%
from planprobe.verdict.figures import theme

lines = [(f"{row['arm']}, {row['source']}, α {row['alpha']:g}", row) for row in told]
figure = theme.make_figure(x_title="levels left by the long way (fraction)", y_title="", height=110 + 24 * len(lines))
for name, row in reversed(lines):
    theme.add_points(
        figure, x=[row["success"]], y=[name], low=[row["success_low"]], high=[row["success_high"]], name=name, across=True,
        colour=theme.AGENT if row["source"] == "trained" else theme.CONTROL,
    )
figure.update_xaxes(range=[-0.02, 1.02])
theme.as_list(figure)
figure

# %% [markdown]
# The figure shows how often the agent left by the long way, with 95 % intervals over levels. Blue far to the right of
# every grey point says that the agent acts on what the read-out reads. Grey points close behind blue ones say that a
# push of that size is enough, whatever it says. The shell line for this is `planprobe steer`.
