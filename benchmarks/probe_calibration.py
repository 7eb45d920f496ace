"""How often the interval of a probe's lead over its controls covers the truth, where the truth is known to be nothing.

Two kinds of pairs, with nets, levels and splits drawn anew in every repeat:
  equal   one random net read twice, each time rotated and with noise of its own: what can be read is the same by
          construction, so the lead is zero but for the levels that were drawn. 95 of 100 intervals should hold zero.
  nets    two untrained nets of one architecture on the same boards. Exchangeable, so zero on average; but any two nets
          do differ a little in what can be read off them, and an interval over levels does not speak about other nets.
A lead is also taken over the better of two nets, as the table does with its untrained controls. Run by hand: minutes.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from benchmarks.stopwatch import report
from planprobe.core.records import Effect
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.instruments.probes.linear_probes import fit_probes
from planprobe.instruments.probes.splits import split_by_level
from planprobe.instruments.probes.square_rows import gather_windows, list_rows
from planprobe.instruments.statistics.metrics import macro_f1
from planprobe.instruments.statistics.stats import bootstrap_difference

REPEATS = 200
LEVELS, STATES, SIZE, CHANNELS, NOISE = 80, 2, 7, 8, 0.5
PLANES, CLASSES, NEVER = 3, 5, 1.5


def main() -> None:
    first, repeats = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (0, REPEATS)
    leads = [compare(seed) for seed in range(first, first + repeats)]
    for name in ("equal", "nets", "best of two nets"):
        effects = [lead[name] for lead in leads]
        values = np.array([effect.value for effect in effects])
        share = np.mean([effect.low <= 0 <= effect.high for effect in effects])
        numbers = {
            "intervals that cover 0, %": 100 * share,
            "  +- (standard error), %": 100 * np.sqrt(share * (1 - share) / repeats),
            "intervals above 0, %": 100 * np.mean([effect.low > 0 for effect in effects]),
            "p < .05, %": 100 * np.mean([effect.p < 0.05 for effect in effects]),
            "mean lead, x 1e-3": 1000 * values.mean(),
            "  +- (standard error), x 1e-3": 1000 * values.std() / np.sqrt(repeats),
            "mean width of an interval, x 1e-3": 1000 * np.mean([effect.high - effect.low for effect in effects]),
        }
        report(f"delta of {name}, {repeats} repeats", numbers, "", "equal: 95 % cover 0")


def compare(seed: int) -> dict[str, Effect]:
    """Leads of one reading over another on the same labels, boards and split."""
    boards, labels = make_boards(seed)
    level_ids = torch.arange(LEVELS).repeat_interleave(STATES)
    rows = list_rows(boards[:, 0] == 0, level_ids)
    split = split_by_level(rows.level_ids, seed=seed)
    nets = [random_features(boards, 3 * seed + net) for net in range(3)]
    readings = [blurred(nets[0], seed, 0), blurred(nets[0], seed, 1), *nets]
    probes = fit_probes(
        torch.stack([gather_windows(reading, rows, 1) for reading in readings]), rows.take(labels),
        level_ids=rows.level_ids, split=split, num_classes=CLASSES, l2_strengths=(1e-3,),
    )  # fmt: skip
    one, other, agent, *controls = (probe for (probe,) in probes)
    best = max(controls, key=lambda probe: probe.valid_score)
    pairs = {"equal": (one, other), "nets": (agent, controls[0]), "best of two nets": (agent, best)}
    return {name: bootstrap_difference(a.test_counts, b.test_counts, macro_f1) for name, (a, b) in pairs.items()}


def blurred(features: torch.Tensor, seed: int, copy: int) -> torch.Tensor:
    """The same features (M, C, H, W) in other coordinates, under noise of their own."""
    generator = torch.Generator().manual_seed(1_000_000 + 2 * seed + copy)
    rotation = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=generator)).Q
    turned = torch.einsum("cd,mdhw->mchw", rotation, features)
    return turned + NOISE * torch.randn(features.shape, generator=generator)


def make_boards(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boards (M, planes, H, W) whose states are near-copies within a level, and labels that depend on walls beside."""
    squares = torch.arange(SIZE * SIZE)
    levels = torch.arange(LEVELS)
    walls = (draw_uniform(seed, 1, levels[:, None], squares) < 0.3).view(LEVELS, SIZE, SIZE)
    goals = torch.nn.functional.one_hot(draw_below(SIZE * SIZE, seed, 2, levels), SIZE * SIZE).view(LEVELS, SIZE, SIZE)
    states = torch.arange(LEVELS * STATES)
    agents = torch.nn.functional.one_hot(draw_below(SIZE * SIZE, seed, 3, states), SIZE * SIZE).view(-1, SIZE, SIZE)
    planes = torch.stack(
        [walls.repeat_interleave(STATES, 0).long(), goals.repeat_interleave(STATES, 0), agents], dim=1
    ).float()
    # a class is drawn with odds that walls on its side raise; once a level, so that rows within it are near-copies
    sides = [walls.roll(shift, axis).float() for shift, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2))]
    odds = torch.stack([torch.full_like(sides[0], NEVER), *(3.0 * side for side in sides)])
    draws = draw_uniform(seed, 4, torch.arange(CLASSES)[:, None, None], levels[:, None], squares)
    gumbel = -torch.log(-torch.log(draws.clamp(1e-6, 1 - 1e-6))).view_as(odds)
    return planes, (odds + gumbel).argmax(0).repeat_interleave(STATES, 0)


def random_features(boards: torch.Tensor, seed: int) -> torch.Tensor:
    """Two random convolutions with tanh, (M, C, H, W): an untrained net's hidden state."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(CHANNELS, PLANES, 3, 3, generator=generator)
    second = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator) / (3 * CHANNELS**0.5)
    hidden = torch.tanh(torch.nn.functional.conv2d(boards, first, padding=1))
    return torch.tanh(torch.nn.functional.conv2d(hidden, second, padding=1))


if __name__ == "__main__":
    main()
