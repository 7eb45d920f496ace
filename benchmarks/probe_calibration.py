"""How often the interval of a probe's lead over its controls covers the truth, where the truth is known to be nothing.

Nets, levels and splits are drawn anew in every repeat:
  equal     one random net read twice, each time rotated and with noise of its own: what can be read is the same by
            construction, so the lead is zero but for the levels that were drawn. 95 of 100 intervals should hold zero.
  one net   two untrained nets of one architecture on the same boards. Exchangeable, so zero on average; but any two
            nets do differ a little in what can be read off them, and an interval over levels does not speak of others.
  nets      an untrained net against the mean of five others, with an interval over levels and nets, as in the table.
            95 of 100 should hold zero.
`--tables` asks the whole of it: probe tables of untrained nets on mazes, five more as their control, every site, and D4
at the site that did best on valid levels. Run by hand: minutes.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from benchmarks.stopwatch import report
from planprobe.core.records import Effect
from planprobe.core.rng import draw_below, draw_uniform
from planprobe.instruments.detectors import decodable_plan
from planprobe.instruments.hooks import open_policy
from planprobe.instruments.probes.linear_probes import fit_probes
from planprobe.instruments.probes.recording import OPTIMAL
from planprobe.instruments.probes.rows import RANDOM
from planprobe.instruments.probes.splits import split_by_level
from planprobe.instruments.probes.square_rows import gather_windows, list_rows
from planprobe.instruments.probes.table import probe_table
from planprobe.instruments.statistics.metrics import macro_f1
from planprobe.instruments.statistics.net_spread import lead_over_nets
from planprobe.instruments.statistics.stats import bootstrap_difference
from planprobe.subjects.envs.generate_maze import generate_mazes
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.plans import observation_planner
from planprobe.subjects.nets.drc import DRC

REPEATS, NETS = 200, 5
LEVELS, STATES, SIZE, CHANNELS, NOISE = 80, 2, 7, 8, 0.5
PLANES, CLASSES, NEVER = 3, 5, 1.5
TABLE_LEVELS, TABLE_SIZE = 50, 9


def main() -> None:
    options = [argument for argument in sys.argv[1:] if argument != "--tables"]
    first, repeats = (int(options[0]), int(options[1])) if len(options) > 1 else (0, REPEATS)
    measure = compare_tables if "--tables" in sys.argv else compare
    leads = [measure(seed) for seed in range(first, first + repeats)]
    for name in leads[0]:
        effects = [lead[name] for lead in leads]
        values = np.array([effect.value for effect in effects])
        share = np.mean([effect.low <= 0 <= effect.high for effect in effects])
        numbers = {
            "intervals that cover 0, %": 100 * share,
            "  +- (standard error), %": 100 * np.sqrt(share * (1 - share) / repeats),
            "intervals above 0, %": 100 * np.mean([effect.low > 0 for effect in effects]),
            "mean lead, x 1e-3": 1000 * values.mean(),
            "  +- (standard error), x 1e-3": 1000 * values.std() / np.sqrt(repeats),
            "mean width of an interval, x 1e-3": 1000 * np.mean([effect.high - effect.low for effect in effects]),
        }
        report(f"delta of {name}, {repeats} repeats", numbers, "", "equal, nets: 95 % cover 0")


def compare(seed: int) -> dict[str, Effect]:
    """Leads of one reading over others on the same labels, boards and split."""
    boards, labels = make_boards(seed)
    level_ids = torch.arange(LEVELS).repeat_interleave(STATES)
    rows = list_rows(boards[:, 0] == 0, level_ids)
    split = split_by_level(rows.level_ids, seed=seed)
    nets = [random_features(boards, (1 + NETS) * seed + net) for net in range(1 + NETS)]
    readings = [blurred(nets[0], seed, 0), blurred(nets[0], seed, 1), *nets]
    probes = fit_probes(
        torch.stack([gather_windows(reading, rows, 1) for reading in readings]), rows.take(labels),
        level_ids=rows.level_ids, split=split, num_classes=CLASSES, l2_strengths=(1e-3,),
    )  # fmt: skip
    one, other, agent, *controls = (probe.test_counts for (probe,) in probes)
    return {
        "equal": bootstrap_difference(one, other, macro_f1),
        "one net, levels only": bootstrap_difference(agent, controls[0], macro_f1),
        "nets": lead_over_nets(agent, np.stack(controls), macro_f1),
    }


def compare_tables(seed: int) -> dict[str, Effect]:
    """The lead of an untrained net over five others: at one site, at the one that does best, and as D4 judges it."""
    levels = generate_mazes(TABLE_LEVELS, size=TABLE_SIZE, braid=(0.0, 0.5), seed=seed, split="test")
    agent, *others = (untrained(10_000 + (1 + NETS) * seed + net) for net in range(1 + NETS))
    table = probe_table(
        open_policy(agent), lambda chosen, boards: Maze(chosen, boards, time_limit=9, autoreset=False), levels,
        "agent-approach-direction", sites=("ticks.*.0.hook_c", "ticks.*.0.hook_h"), kernels=(1,), per_level=STATES,
        random_policies=others, planner=observation_planner("maze"), l2_strengths=(1e-3,), seed=seed,
    )  # fmt: skip
    judged = decodable_plan.judge_table(
        table, min_effect=0.05, labels=OPTIMAL
    )  # where it goes itself is mostly nowhere
    rows = [row for row in table.rows if row["labels"] == OPTIMAL]
    places = {"first site": rows[0], "last site": rows[-1], "best site": table.best(labels=OPTIMAL)}
    names = (f"delta_{RANDOM}", f"delta_{RANDOM}_low", f"delta_{RANDOM}_high")
    leads = {place: Effect(*(row[name] for name in names), 0, "") for place, row in places.items()}
    return leads | {"D4, beyond every control": judged.beyond_controls}


def untrained(seed: int) -> DRC:
    torch.manual_seed(seed)
    net = DRC(
        planes=3,
        board=(TABLE_SIZE, TABLE_SIZE),
        num_actions=4,
        num_layers=1,
        num_ticks=2,
        channels=CHANNELS,
        head="pool",
        hidden=8,
    )
    return net.requires_grad_(False)


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
