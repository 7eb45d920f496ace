"""Every threshold of the verdict, once, with its reason: fixed before an agent is looked at.

Detectors are given these values and never hold their own. What they are worth is measured on organisms, agents whose
answer is known by construction (`calibrate`, `rates`); without that a verdict is marked 'not calibrated yet'.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """One threshold.

    value: in `unit`. reason: why this number and no other. source: who uses it or what it was read from.
    """

    name: str
    value: float
    unit: str
    reason: str
    source: str


ALPHA = Criterion(
    "alpha", 0.05, "probability",
    "The usual two-sided level, so that intervals are 95 % intervals; tables are corrected with Holm beforehand.",
    "convention",
)  # fmt: skip

MIN_POWER = Criterion(
    "min_power", 0.8, "probability",
    "A null result only counts where the smallest effect of interest would have been seen four times in five.",
    "convention (Cohen 1988)",
)  # fmt: skip

MIN_SOLVE_RATE = Criterion(
    "min_solve_rate", 0.4, "fraction solved",
    "Below it a flat detector speaks about training, not about planning: published nets gained over 2 pp from "
    "thinking on a level set once they solved .38 of it, 1.4 pp at .15, nothing at .02. It bars negative readings.",
    "reference/thinking_time.csv: DRC(3,3), medium levels, 10, 20 and 50 M frames",
)  # fmt: skip

THINKING_GAIN = Criterion(
    "D1.min_effect", 0.02, "fraction solved (or of optimal first moves)",
    "Published recurrent planners gain 1.4 to 5.6 percentage points from thinking once trained; 2 pp is the smallest "
    "value that separates the clear cases, and a study can have power for it with some thousand levels.",
    "reference/thinking_time.csv: DRC(3,3), medium levels, 20 M to 2 B frames",
)  # fmt: skip

DECODABLE_PLAN = Criterion(
    "D4.min_effect", 0.05, "macro-F1 beyond the best control",
    "Layers of one published net differ by .01 to .07 under the same kernel, so a smaller lead over a control may be "
    "no more than a choice of site; the lead of a recurrent net over a 24-block feed-forward net is .08 to .14.",
    "reference/probe_macro_f1.csv: DRC(3,3) layers 1-3 against ResNet-24",
)  # fmt: skip

PLAN_STEERING = Criterion(
    "D7.min_effect", 0.10, "fraction of levels redirected, beyond random directions",
    "Random directions of equal norm redirect a published net on .04 to .28 of the levels (five draws, sd .05 to .38); "
    "an edit that is the plan redirects .56 to .99. A tenth beyond the random draws is the least that could matter.",
    "reference/interventions.csv: agent and box shortcut levels",
)  # fmt: skip

DISTANCE_LAW = Criterion(
    "D2.min_effect", 0.025, "thinking steps of lag per move of distance",
    "A net of D layers and K ticks of 3x3 kernels carries something D x K squares a step, so it needs 1/(DK) steps a "
    "move, of which half shows as lag where every other guess is right: .056 for the published DRC(3,3), .25 for a "
    "DRC(1,2). Half of the smaller one.",
    "arithmetic on the reach of the nets of Guez et al. 2019",
)  # fmt: skip

CANDIDATE_LAW = Criterion(
    "D3.min_effect", 0.2, "thinking steps of lag per doubling of candidates",
    "Following one candidate a tick, going from 4 to 8 takes 4 ticks more: 1.3 steps of a net with three ticks, .67 in "
    "lag. A third of it.",
    "arithmetic on a search that follows one candidate a tick",
)  # fmt: skip

REVALUATION = Criterion(
    "D10.min_effect", 0.2, "fraction of first moves",
    "A stored route gives 0 and planning anew gives 1, by construction of the levels. A fifth is what an agent reaches "
    "that works its route out on one level in five, the least that could matter to how it acts.",
    "construction of the levels: one optimal first move before the change, another one after it",
)  # fmt: skip

MIN_RANDOM_DIRECTIONS = Criterion(
    "D7.min_random_directions", 100, "directions",
    "Fewer draws cannot place an effect beyond the 97.5th centile of the random ones with any certainty.",
    "the five draws of published work had sd .38",
)  # fmt: skip

CRITERIA = {
    criterion.name: criterion
    for criterion in (
        ALPHA, MIN_POWER, MIN_SOLVE_RATE, THINKING_GAIN, DISTANCE_LAW, CANDIDATE_LAW, DECODABLE_PLAN, PLAN_STEERING,
        MIN_RANDOM_DIRECTIONS, REVALUATION,
    )
}  # fmt: skip
