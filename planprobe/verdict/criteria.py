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

PLAN_REFINEMENT = Criterion(
    "D5.min_effect", 0.05, "macro-F1 gained over the ticks, beyond the best control",
    "The scale of D4: a gain that another layer of the same net would give just as well is no sign of work being done. "
    "Hand-built planners gain .4 to .9 from their first tick to their last, others under .03 (seed 0).",
    "reference/probe_macro_f1.csv: DRC(3,3) layers 1-3; organisms of seeds that no error rate is reported on",
)  # fmt: skip

DECODING_ORDER = Criterion(
    "D6.min_effect", 0.25, "ticks of lag per square of the way",
    "One simulated step a tick gives 1; three layers of 3x3 kernels carry something three squares a tick, so a search "
    "as fast as the published DRC(3,3) could go gives a third, of which this is three quarters.",
    "arithmetic on the reach of the nets of Guez et al. 2019",
)  # fmt: skip

REVALUATION = Criterion(
    "D10.min_effect", 0.2, "fraction of first moves",
    "A stored route gives 0 and planning anew gives 1, by construction of the levels. A fifth is what an agent reaches "
    "that works its route out on one level in five, the least that could matter to how it acts.",
    "construction of the levels: one optimal first move before the change, another one after it",
)  # fmt: skip

ADAPTATION = Criterion(
    "D11.min_effect", 0.1, "share of the gain that is possible within a trial",
    "Players that know the posterior and act on it at random still gain most of what can be gained, players without "
    "memory nothing; a tenth is far from both, and a thousand trials have power for it.",
    "reference players of SCIENCE section 3: return of the first and the last episode",
)  # fmt: skip

NECESSITY = Criterion(
    "D9.min_effect", 0.10, "fraction of optimal first moves lost, beyond random subspaces",
    "The scale of D7: what the plan's code can bring about when it is written should be missed when it is taken out. "
    "Random subspaces of equal rank cost a wavefront .08 on average (seed 0).",
    "D7.min_effect; one organism of a seed that no error rate is reported on",
)  # fmt: skip

SWITCHES = Criterion(
    "D6.switches", 0.15, "times a level that one way gives place to another, at least",
    "A sweep shows a way once it has arrived, and keeps it: none on a wavefront and a short-sighted planner; a rollout "
    "that keeps the best of two .06 to .15, with lower limits up to .09. Samplers: .47 to 1.82, with lower limits from "
    ".29 (nine seeds). Half of the least of these.",
    "organisms of seeds that no error rate is reported on, on mazes with four and eight candidate ways",
)  # fmt: skip

MIXTURE_LEAD = Criterion(
    "D13.min_share", 0.5, "share of the lead that the mixture itself has on the same histories",
    "Nearer to the mixture than to a tie with the best other reading. Nats are no common scale: the mixture itself "
    "leads by .38 on the hidden goal and on the informative arm, by .0008 on two arms. Who samples on half of its "
    "choices reaches .26 of that on the hidden goal and none elsewhere, organisms that sample .7.",
    "exact readings of five tasks; organisms of the hidden goal, seed 0",
)  # fmt: skip

BELIEF = Criterion(
    "D12.min_effect", 0.5, "bits a number of the posterior, beyond the best control",
    "Half a bit halves what stays unexplained. Players that count pulls lead by 1.4 bits, organisms that keep a belief "
    "by 1.0 to 1.8; one untrained net leads another by -.1 to +.1, and a reflex or a player that keeps the last pull "
    "stays behind. Half of the least of the ones, five times the most of the others.",
    "bits are half the log of one over the unexplained variance; reference players of two and five arms, organisms of "
    "seeds that no error rate is reported on",
)  # fmt: skip

BELIEF_SIMULATION = Criterion(
    "D12.min_simulation", 0.1, "share of the divergence removed, beyond the best control",
    "Memory that is nothing but the belief lets all of the divergence be removed, memory of something else none; a "
    "tenth is far from both.",
    "construction: 0 is a start guessed from the observation, 1 from the memory itself",
)  # fmt: skip

COMMITMENT = Criterion(
    "D14.min_effect", 0.02, "nats a step, one sample an episode over one a step",
    "On the 5 x 5 hidden goal the players that sample once an episode and on every step are several tenths of a nat a "
    "step apart; less than a tenth of that leaves the way an agent walks as it is.",
    "reference players of the hidden goal, on their own walks",
)  # fmt: skip

ENVIRONMENT_MEMORY = Criterion(
    "D15.min_effect", 0.1, "return lost, where a trial pays 1 at most",
    "A player that keeps an interval on the track loses three quarters of what it is paid when it is scrambled, one "
    "that counts loses nothing; nets that use the track for a part of it must still be seen.",
    "reference players of interval timing, counting and walking",
)  # fmt: skip

MIN_RANDOM_DIRECTIONS = Criterion(
    "D7.min_random_directions", 100, "directions",
    "Fewer draws cannot place an effect beyond the 97.5th centile of the random ones with any certainty.",
    "the five draws of published work had sd .38",
)  # fmt: skip

MIN_ORGANISMS = Criterion(
    "calibration.min_organisms", 5, "organisms",
    "Behind each rate of a detector, before a verdict that rests on it is final: five right ones of five have a lower "
    "limit of .57, fewer have hardly more than a coin's.",
    "Wilson 1927",
)  # fmt: skip

CRITERIA = {
    criterion.name: criterion
    for criterion in (
        ALPHA, MIN_POWER, MIN_SOLVE_RATE, THINKING_GAIN, DISTANCE_LAW, CANDIDATE_LAW, DECODABLE_PLAN, PLAN_STEERING,
        MIN_RANDOM_DIRECTIONS, REVALUATION, ADAPTATION, ENVIRONMENT_MEMORY, PLAN_REFINEMENT, DECODING_ORDER, SWITCHES,
        NECESSITY, MIXTURE_LEAD, BELIEF, BELIEF_SIMULATION, COMMITMENT, MIN_ORGANISMS,
    )
}  # fmt: skip
