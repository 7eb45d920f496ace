"""Short-sighted: a wavefront that goes no further than its horizon, and a reflex beyond. It plans: a parallel sweep.

Why: within the horizon it is the wavefront, the same code. A square further from the goal than the horizon never holds
a cost, whatever the number of ticks, so no way is marked there and the reflex moves the agent: straight towards the
goal, into dead ends.
"""

from __future__ import annotations

from planprobe.subjects.organisms.wavefront import Wavefront


class ShortSighted(Wavefront):
    """See the module. horizon: moves."""

    def __init__(self, *, horizon: int = 8, **options) -> None:
        super().__init__(horizon=horizon, reflex=True, **options)
