"""Which accounts of an agent the evidence leaves standing: what was found, against what each account predicts.

| account | what goes on inside |
|---|---|
| A adaptation only | it remembers what paid, or its way, and repeats it |
| B belief, amortised policy | it filters a posterior over psi, and a fixed policy reads it |
| C samples of psi | it draws psi from its belief and acts on the draws |
| D serial rollouts | it follows one candidate plan after another |
| E parallel value sweep | values spread over all squares at once |
| F reactive heuristic | what is in sight decides |

A detector speaks against an account that predicts the other outcome; one such detector rules it out, as surely as the
detector's error rates say. Inconclusive detectors, and those about which an account is silent, say nothing. To be left
standing is not to be shown: that takes a reading.

Source: the predictions are those of the project's table of signatures and hypotheses, but for three entries of C. There
samples predict no law of distance, one of candidates and no steering; organisms that draw samples need luck for either
law, and follow an edited sample, so that nothing is concluded about C from D2, D3 and D7.
"""

from __future__ import annotations

from collections.abc import Mapping

from planprobe.core.records import Outcome, Row

ACCOUNTS = {
    "A": "adaptation only", "B": "belief, amortised policy", "C": "samples of psi", "D": "serial rollouts",
    "E": "parallel value sweep", "F": "reactive heuristic",
}  # fmt: skip
IN_TRIALS = " in trials"
PREDICTIONS = {  # of A to F: + the claim of the detector holds, - it does not, o silent
    "D1": "--+++-",
    "D2": "--o++-",
    "D3": "--o+--",
    "D6": "oo-+o-",
    "D7": "--o++-",
    "D8": "-oo++-",
    "D10": "-oo++-",
    f"D10{IN_TRIALS}": "ooo++-",  # a better way never walked: who adapts only may have stored other ways than its last
    "D11": "+++oo-",
    "D12": "o++oo-",
    "D13": "o-+ooo",
}
_FOUND = {"supported": "+", "refuted": "-"}


def weigh_accounts(found: Mapping[str, Outcome], *, in_trials: bool = False) -> list[Row]:
    """One row an account: its name, the detectors that came out as it predicts, those against it, whether it stands.

    Args: found: outcomes that count (`judge.outcome_of`), by detector; in_trials: D10 is that of trials.
    """
    rows: list[Row] = []
    for number, (letter, name) in enumerate(ACCOUNTS.items()):
        sides: dict[bool, list[str]] = {True: [], False: []}
        for detector, outcome in found.items():
            key = detector + IN_TRIALS * (in_trials and detector + IN_TRIALS in PREDICTIONS)
            predicted = PREDICTIONS.get(key, "oooooo")[number]
            if outcome in _FOUND and predicted != "o":
                sides[predicted == _FOUND[outcome]].append(detector)
        rows.append(
            {
                "account": f"{letter} {name}", "as predicted": ", ".join(sides[True]),
                "against it": ", ".join(sides[False]), "stands": not sides[False],
            }
        )  # fmt: skip
    return rows
