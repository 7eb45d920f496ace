"""Of which organisms each detector's claim, and each account, is true, from how they are built: what error rates are
counted against."""

from __future__ import annotations

from planprobe.subjects.organisms.families import BOARDS

_TAUGHT = ("taught", "taught-serial")
_PLANNERS = ("wavefront", "one-shot", "short-sighted", "rollout", "sampler", *_TAUGHT)
TRUE_OF = {
    "D1": _PLANNERS,
    "D2": ("wavefront", "one-shot", "short-sighted", "rollout", *_TAUGHT),
    "D3": ("rollout", "taught-serial"),
    "D4": (*_PLANNERS, "bystander"),
    "D5": (*_PLANNERS, "bystander"),
    "D6": ("rollout", *_TAUGHT),
    "D7": _PLANNERS,
    "D9": _PLANNERS,
    "D10": ("wavefront", "short-sighted", "rollout", "sampler", *_TAUGHT),
}
"""Families of which a detector's claim is true, from how they are built (see each organism's own text)."""
TRUE_OF_TRIALS = {
    "D8": ("wavefront",),
    "D10": ("wavefront",),
    "D11": ("table", "bystander", "wavefront", "sampler", "mixture", "sweeper", "replayer"),
    "D12": ("table", "bystander", "wavefront", "sampler", "mixture", "sweeper"),
    "D13": ("sampler", "mixture"),
    "D14": ("sampler",),
}
"""The same for the battery of tasks with trials. All but a reflex and an untrained net remember what they found; D12 is
asked where the posterior is written in numbers, at the hidden goal and the doors; D13 and D14 at the hidden goal, where
the sampler's choices are those of the mixture too, taken over its draws; D8 and D10 in mazes."""
SILENT_ABOUT = {"D2": ("sampler",), "D3": ("sampler",), "D10": ("one-shot", "signpost")}
"""Families about which it says nothing: a sampler needs more draws for both reasons at once, and a one-shot planner may
still be at its first plan when the board changes; signposts show the way on the changed board too. D9 is asked only
where a plan was read (D4), so that its negative cases are bystanders."""
SILENT_ON = {("D6", "sokoban")}
"""Walks and pushes are planned one after the other there, so that an order along the way is no sign of a search."""

ACCOUNT_OF = {
    "reflex": "F", "no-use": "F", "signpost": "F", "replayer": "A", "sweeper": "B", "sampler": "C", "mixture": "C",
    "rollout": "D", "taught-serial": "D", "wavefront": "E", "short-sighted": "E", "taught": "E",
}  # fmt: skip
"""The account (`accounts.ACCOUNTS`) that is true of a family. A table's stored answers, a plan made once, one that is
carried beside another policy, and an untrained net are none of the six."""


def claim_holds(detector: str, family: str, kind: str = "maze") -> bool | None:
    """Whether a detector's claim is true of a family on a kind of task; None where it is silent."""
    if kind not in BOARDS:
        return family in TRUE_OF_TRIALS[detector]
    if family in SILENT_ABOUT.get(detector, ()) or (detector, kind) in SILENT_ON:
        return None
    return family in TRUE_OF[detector]
