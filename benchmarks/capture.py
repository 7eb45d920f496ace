"""What hooks cost: an opened net without and with capture of every site, against the plain forward pass."""

from __future__ import annotations

import torch

from benchmarks.stopwatch import report, seconds_each
from planprobe.core.allocator import keep_freed_memory
from planprobe.instruments.hooks import capture, open_policy
from planprobe.subjects.nets import make_net
from planprobe.subjects.recipe import NetRecipe

BOARDS, STEPS = 32, 10


def main() -> None:
    keep_freed_memory()
    recipe = NetRecipe(kind="drc", channels=32, num_layers=3, num_ticks=3, head="pool", hidden=128)
    net = make_net(recipe, planes=4, board=(10, 10), num_actions=4)
    opened = open_policy(net)
    observation = torch.randint(0, 2, (BOARDS, 4, 10, 10), dtype=torch.uint8)

    @torch.no_grad()
    def run(policy) -> None:
        state = policy.initial_state(BOARDS)
        for _ in range(STEPS):
            _, _, state = policy.step(observation, state)

    def run_captured() -> None:
        with capture(opened, "*"):
            run(opened)

    seconds = seconds_each({"plain": lambda: run(net), "opened": lambda: run(opened), "captured": run_captured})
    ratios = {f"{name} / plain": seconds[name] / seconds["plain"] for name in ("opened", "captured")}
    report(f"capture, DRC(3,3), batch {BOARDS}", ratios, "x", "off <= 1.02 x, all <= 1.3 x")


if __name__ == "__main__":
    main()
