"""D15, environment as memory: does an agent keep what it knows in the world, where it stands or what it has moved?

An agent without memory can adapt all the same where it can leave a trace and read it again. So the trace is scrambled
while all else stays as it is, and what is lost is compared with what is lost when nothing is scrambled, and when the
agent's own memory is taken: who keeps it in the world loses by the first alone.

Source: after Deverett et al. 2019, whose feed-forward agent times an interval by where it stands.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.play_trials import TrialRollout, play_trials
from planprobe.core.protocols import Policy
from planprobe.core.records import Evidence, Row
from planprobe.instruments.detectors.adaptation import MIN_TRIALS, MakeTrials, find_power
from planprobe.instruments.detectors.outcome import decide
from planprobe.instruments.statistics.stats import bootstrap_difference, bootstrap_table, difference_over_best

CLAIM = "What the agent has to remember it keeps in the world, and not in its memory."
NEEDS = ("trials of a task", "the same trials with the trace in the world scrambled")
INTACT, SCRAMBLED = "as it is", "trace scrambled"
NOTHING, MEMORY = "nothing scrambled", "memory reset each step"
CONTROLS = (NOTHING, MEMORY)
FALSIFIES = "that the agent uses the world as its memory"
UNIT = "return lost"


def run(
    policy: Policy,
    make_trials: MakeTrials,
    make_scrambled: MakeTrials,
    *,
    num_trials: int = 1000,
    min_effect: float,
    greedy: bool = False,
    seed: int = 0,
) -> Evidence:
    """Play the same trials as they are, with the trace scrambled, and under both controls.

    Args:
        make_scrambled: as `make_trials`, the same trials but for the trace. min_effect: smallest loss of interest, in
            return. greedy: the likeliest action in place of a sample. seed: of samples; 'nothing scrambled' is the same
            trials with other samples.
    Returns: effect = return lost by scrambling the trace; beyond_controls: less the larger loss of the two controls.
    Raises: TooFewLevelsError.
    """
    if num_trials < MIN_TRIALS:
        raise TooFewLevelsError(f"environment memory needs {MIN_TRIALS} trials or more, got {num_trials}.")

    def play(make: MakeTrials, luck: int, **options) -> TrialRollout:
        return play_trials(policy, make(num_trials), greedy=greedy, seed=luck, **options)

    rollouts = {
        INTACT: play(make_trials, seed), SCRAMBLED: play(make_scrambled, seed), NOTHING: play(make_trials, seed + 1),
        MEMORY: play(make_trials, seed, reset_memory="each step"),
    }  # fmt: skip
    returns = {name: rollout.returns.double().cpu().numpy() for name, rollout in rollouts.items()}
    losses = {name: returns[INTACT] - returns[name] for name in (SCRAMBLED, *CONTROLS)}
    zero = np.zeros(num_trials)
    effects = {name: bootstrap_difference(loss, zero, unit=UNIT, seed=seed) for name, loss in losses.items()}
    best, beyond = difference_over_best(
        losses[SCRAMBLED], {name: losses[name] for name in CONTROLS}, unit=UNIT, seed=seed
    )
    beyond = replace(beyond, n=num_trials)
    power = find_power(beyond, min_effect=min_effect)
    recurrent = bool(policy.initial_state(1, (make_trials(1).height, make_trials(1).width)))
    notes = [f"Best control: {best}. Return as it is: {returns[INTACT].mean():.3f}."]
    if not recurrent:
        notes.append("The net has no memory to lose, so that the control of resetting it is zero by construction.")
    return Evidence(
        detector="D15", name="environment_memory", claim=CLAIM, effect=effects[SCRAMBLED],
        controls={name: effects[name] for name in CONTROLS}, beyond_controls=beyond, min_effect=min_effect, power=power,
        outcome=decide(beyond, min_effect=min_effect, power=power), falsifies=FALSIFIES, rows=_rows(returns, seed),
        notes=notes,
    )  # fmt: skip


def _rows(returns: dict[str, np.ndarray], seed: int) -> list[Row]:
    means = bootstrap_table(np.stack(list(returns.values())), unit="return", seed=seed)
    return [
        {"condition": name, "value": mean.value, "low": mean.low, "high": mean.high, "n": len(values)}
        for (name, values), mean in zip(returns.items(), means, strict=True)
    ]
