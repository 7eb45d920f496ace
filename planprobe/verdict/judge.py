"""From evidence to a reading, by fixed rules; what is not measured is named, never guessed.

| reading | needs |
|---|---|
| plans | D1 and (D2, D3 or D5) and D7 and D10, each beyond its controls |
| plans, once | D1 and D2 and D7; D10 refuted, yet with blank memory it answers the changed boards |
| adapts without planning | D11 supported, D10 refuted |
| plan present but unused | one of D4-D6 supported, one of D7-D9 refuted and none supported, D1 not supported |
| does not plan | D1 refuted (flat, with power) and D7 refuted (no better than random directions) |
| cannot say | anything else |

What the time is spent on: it takes longer the further the goal (D2), or the more ways there are (D3), or the plan that
is read gets better by the tick (D5). D2 alone would miss whoever draws samples: its lag is a matter of luck.

D10 shows that an agent plans again. One that works its route out, and then follows it whatever it sees, plans too: it
is better with time, takes longer the further the goal, and follows another plan that is written into it. What D10
guards against besides, answers that are stored and a heading for the goal, is ruled out by the same changed boards met
with blank memory: nobody has seen them, and only who works out the way around makes the one good move. So of the four
nothing is let go, and D2 is asked for by name. Its type then says 'once'.

Type: a parallel sweep where time grows with distance (D2) and not with candidates (the interval of D3 excludes its
smallest effect, which is enough where time is needed at all), and the way is not come upon forward, square after square
(D6). Where time grows with candidates (D3): a serial rollout if the way is come upon along itself (D6 supported),
sampled worlds if it appears as a whole (D6 refuted), and one of the two where D6 is not settled. Whole ways that take
turns (D6) are the sign of samples whatever D3 says: a sampler needs more draws for more ways, but may have its lucky
ones.

'Plan present but unused' is asked for before 'does not plan': an agent that carries a plan beside a policy which never
reads it is flat in D1 and D7 too, and D4 is what tells it from one without a plan. Where thinking helps (D1) but the
decoded code cannot be edited (D7), something is being computed that was not found, so nothing is concluded. A
refutation counts only with power, and only where the agent has learnt its task: training failure is not falsification.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planprobe.core.records import Effect, Evidence, Outcome, Verdict
from planprobe.verdict.accounts import weigh_accounts
from planprobe.verdict.criteria import MIN_ORGANISMS, MIN_POWER, MIN_RANDOM_DIRECTIONS, MIN_SOLVE_RATE
from planprobe.verdict.rates import Rates
from planprobe.verdict.selection import answer_selection, excludes_effect, ways_alternate, works_out_afresh

NOT_CALIBRATED, LEANING = "not calibrated yet", "leaning: "
UNDETERMINED, ONCE = "not determined", "once"
PLANS_ONCE = (
    "It plans once: a wall toggled after it has settled changes nothing (D10), while with blank memory it works out "
    "its move on the same changed boards."
)
READINGS = ("plans", "plan present but unused", "adapts without planning", "does not plan", "cannot say")

PLAN_IS_THERE, PLAN_IS_USED = ("D4", "D5", "D6"), ("D7", "D8", "D9")
WAYS_TO_GET = {
    "D1": "D1 (thinking gain): first moves, or solve rate, after a longer look, against memory reset each step",
    "D2": "D2 (distance law) or bigger boards: ticks needed against distance, beyond the reach of one step",
    "D4": "D4 (decodable plan): the read-out against its controls",
    "D7": "D7 (plan steering): whether an edited plan code redirects the agent, against random directions",
    "D10": "D10 (revaluation): a shortcut never walked, a wall toggled, or a goal moved by cue",
}


def judge(
    evidence: Sequence[Evidence],
    *,
    agent: str,
    solve_rate: Effect,
    provenance: dict[str, Any] | None = None,
    rates: Rates | None = None,
    counted: str = "levels",
) -> Verdict:
    """A reading of one agent, provisional where error rates of a detector behind it are not known.

    Args: evidence in any order, one a detector; solve_rate of the agent on the study's levels, plain play; rates
        measured on organisms, for this version and budget; counted: what the evidence is of, 'levels' or 'trials'.
    Returns: a Verdict whose reasons are in the order of weight, with a last reason that starts with 'leaning:' where
    the reading is 'cannot say'. `calibrated` only if both error rates of each detector behind it rest on enough
    organisms.
    """
    found: dict[str, Outcome] = {item.detector: outcome_of(item, solve_rate) for item in evidence}
    once = _plans_once(found, evidence)
    reading = "plans" if once else _read(found)
    ordered = sorted(evidence, key=lambda item: _weight(item.detector))
    reasons = [_reason(item, found[item.detector], rates, counted) for item in ordered]
    unknown = list(found) if rates is None else rates.open_about(found)
    if solve_rate.value < MIN_SOLVE_RATE.value:
        reasons.insert(0, _training_failure(solve_rate, counted))
    planning_type = _planning_type(found, evidence)
    if once:
        reasons.append(PLANS_ONCE)
        planning_type += f", {ONCE}" * (planning_type != UNDETERMINED)
    if planning_type != UNDETERMINED:
        reasons.append(f"Type, if it plans: {planning_type} (D2, D3, D6).")
    if reading == "cannot say":
        reasons.append(f"{LEANING}{_leaning(found)}")
    return Verdict(
        agent=agent,
        reading=reading,
        calibrated=bool(found) and not unknown,
        reasons=reasons,
        missing=_missing(found, ordered, solve_rate, unknown, counted),
        evidence=list(ordered),
        provenance=provenance or {},
        planning_type=planning_type,
        selection=answer_selection(found, evidence),
        accounts=weigh_accounts(
            {item.detector: found[item.detector] for item in ordered}, in_trials=counted == "trials"
        ),
    )


def headline(verdict: Verdict) -> str:
    """The reading in one sentence, never without the warning that its error rates are unknown."""
    sentences = {
        "plans": "plans inside",
        "plan present but unused": "carries a plan that it does not use",
        "adapts without planning": "adapts without planning",
        "does not plan": "does not plan",
    }
    if verdict.reading == "cannot say":
        sentence = f"On this evidence it cannot be said whether {verdict.agent} plans"
    else:
        sentence = f"{verdict.agent} {sentences[verdict.reading]}"
    return f"{sentence}{'' if verdict.calibrated else f' ({NOT_CALIBRATED})'}."


def outcome_of(item: Evidence, solve_rate: Effect) -> Outcome:
    """A detector's outcome, as far as it may count: see the module's text."""
    if item.detector == "D7" and num_random_directions(item) < MIN_RANDOM_DIRECTIONS.value:
        return "inconclusive"
    return settled_outcome(item.outcome, item.beyond_controls.low, item.power, solve_rate.value)


def settled_outcome(outcome: Outcome, low: float, power: float, solve_rate: float) -> Outcome:
    """Support needs an interval beyond the controls; a refutation counts with power, of who has learnt its task.

    low: of the interval beyond the controls. solve_rate: of the agent.
    """
    refutes = power >= MIN_POWER.value and solve_rate >= MIN_SOLVE_RATE.value
    counts = {"supported": low > 0, "refuted": refutes, "inconclusive": True}
    return outcome if counts[outcome] else "inconclusive"


def num_random_directions(item: Evidence) -> int:
    """How many random directions stand behind the judged arm of D7; 0 where its rows do not say."""
    tables = [row["num_tables"] for row in item.rows if row["judged"] and row["source"] == "random directions"]
    return min(tables, default=0)


def _read(found: dict[str, Outcome]) -> str:
    def supported(*detectors: str) -> bool:
        return any(found.get(detector) == "supported" for detector in detectors)

    def refuted(*detectors: str) -> bool:
        return any(found.get(detector) == "refuted" for detector in detectors)

    if supported("D1") and supported("D2", "D3", "D5") and supported("D7") and supported("D10"):
        return "plans"
    if supported("D11") and refuted("D10"):
        return "adapts without planning"
    unused = refuted(*PLAN_IS_USED) and not supported(*PLAN_IS_USED)
    if supported(*PLAN_IS_THERE) and unused and not supported("D1"):
        return "plan present but unused"
    if refuted("D1") and refuted("D7"):
        return "does not plan"
    return "cannot say"


def _plans_once(found: dict[str, Outcome], evidence: Sequence[Evidence]) -> bool:
    planned = all(found.get(detector) == "supported" for detector in ("D1", "D2", "D7"))
    return planned and found.get("D10") == "refuted" and works_out_afresh(evidence)


def _planning_type(found: dict[str, Outcome], evidence: Sequence[Evidence]) -> str:
    in_order, alternate = found.get("D6") == "supported", ways_alternate(evidence)
    forward = in_order and any(item.detector == "D6" and item.effect.value > 0 for item in evidence)
    if found.get("D3") == "supported":
        if in_order:
            return "serial rollout"
        return "sampled worlds" if alternate or found.get("D6") == "refuted" else "serial or sampled"
    if alternate and not in_order:
        return "sampled worlds"
    if found.get("D2") == "supported" and excludes_effect(evidence, "D3") and not forward:
        return "parallel sweep"
    return UNDETERMINED


def _leaning(found: dict[str, Outcome]) -> str:
    """Which way the evidence points where it concludes nothing."""
    d1, d4, d7 = (found.get(detector, "not measured") for detector in ("D1", "D4", "D7"))
    if d1 == d7 == "supported":
        doubt = (
            "" if d4 == "supported" else " The code is not read better than its controls (D4): it may be a mere lever."
        )
        others = {"D2": "it takes longer the further the goal", "D10": "a wall toggled in plain sight turns it round"}
        more = "".join(f"; {text}" for key, text in others.items() if found.get(key) == "supported")
        return f"towards planning; thinking helps, and writing another plan redirects the agent{more}.{doubt}"
    if d7 == "supported":
        return "towards a plan that is used; whether it is worked out over time (D1) is open."
    if d1 == "supported" and d7 == "refuted":
        return "divided; thinking helps, yet editing the code that was found does not redirect the agent."
    if d1 == "supported":
        return "towards planning; thinking helps, but no edit of a plan code has shown that a plan is used."
    if d4 == "supported":
        return "towards a plan that is there; whether it is used (D7) is open."
    if "refuted" in (d1, d7):
        return "away from planning; one of D1 and D7 is flat with power, the other is not settled."
    if found.get("D11") == found.get("D10") == "supported":  # of trials, where neither D1 nor D7 is asked
        memory = "; with another trial's memory it goes where that one knew the goal to be"
        led = memory if found.get("D8") == "supported" else ""
        return f"towards planning; what it learnt in a trial takes it by better courses that it never took{led}."
    return "neither way."


def _reason(item: Evidence, valid: Outcome, rates: Rates | None, counted: str) -> str:
    beyond = item.beyond_controls
    numbers = f"{beyond.value:+.3f} [{beyond.low:+.3f}, {beyond.high:+.3f}] {item.effect.unit}"
    title = f"{item.detector} {item.name.replace('_', ' ')}"
    text = f"{title}: {valid}; {numbers} beyond the best control, {beyond.n} {counted}"
    if rates is not None and item.detector in rates.detectors:
        text += f" (calibrated: {rates.detectors[item.detector].text})"
    if item.outcome != valid:
        return f"{text}. The detector said '{item.outcome}', which does not count here: {_why_not(item)}."
    return f"{text}."


def _why_not(item: Evidence) -> str:
    if item.detector == "D7" and (number := num_random_directions(item)) < MIN_RANDOM_DIRECTIONS.value:
        return f"{number} random directions are too few, {MIN_RANDOM_DIRECTIONS.value:g} are needed"
    if item.outcome == "supported":
        return "the interval beyond the controls reaches zero"
    if item.power < MIN_POWER.value:
        return f"power {item.power:.2f} for the smallest effect of interest is under {MIN_POWER.value:.2f}"
    return "the agent has not learnt its task"


def _training_failure(solve_rate: Effect, counted: str) -> str:
    share = f"{solve_rate.value:.1%} [{solve_rate.low:.1%}, {solve_rate.high:.1%}]"
    does = f"The agent solves {share} of its levels" if counted == "levels" else f"Its skill is {share}"
    what = "" if counted == "levels" else f" ({solve_rate.unit})"
    return (
        f"{does}{what}, less than the {MIN_SOLVE_RATE.value:.0%} from which flat results count: training failure is "
        "not falsification."
    )


def _missing(
    found: dict[str, Outcome], evidence: Sequence[Evidence], solve_rate: Effect, unknown: Sequence[str], counted: str
) -> list[str]:
    missing = [text for detector, text in WAYS_TO_GET.items() if detector not in found]
    missing += [_unsettled(item, counted) for item in evidence if found[item.detector] == "inconclusive"]
    if solve_rate.value < MIN_SOLVE_RATE.value:
        missing.append("a better trained agent, before anything negative is said about it.")
    if unknown:
        names = ", ".join(sorted(unknown))
        missing.append(f"calibration: error rates of {names} that rest on {MIN_ORGANISMS.value} organisms each.")
    return missing


def _unsettled(item: Evidence, counted: str) -> str:
    beyond = item.beyond_controls
    tested = "" if beyond.p is None else f"p = {beyond.p:.3f}, "
    return (
        f"{item.detector}: a settled outcome; {tested}power {item.power:.2f} for the smallest effect of interest, with "
        f"{beyond.n} {counted}."
    )


def _weight(detector: str) -> int:
    """Causal evidence first, then gain from thinking, then read-outs."""
    order = ("D7", "D8", "D9", "D10", "D1", "D2", "D3", "D4", "D5", "D6")
    return order.index(detector) if detector in order else len(order)
