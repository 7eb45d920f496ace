"""`planprobe align`: what does each channel code, how far off its square, and with which sign?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from planprobe.cli.arguments import AgentSpec, AsJson, Flag, TaskName, Threads, check_least, optional, parse
from planprobe.cli.instrument import Measured, run_instrument
from planprobe.cli.output import interval_column, print_table, progress, say
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent
    from planprobe.verdict.align_table import AlignTable


@dataclass(frozen=True)
class Align:
    """Role, offset and sign of every channel: for nets whose channels are shifted or bear no labels.

    Each channel is correlated with every candidate map at every offset; the best is chosen on half of the levels and
    told on the other half, beside the same with maps of other levels. A role needs a correlation beyond that control,
    after Holm's correction over channels.

    Examples:
      planprobe align drc12-rl-maze11-s0
      planprobe align drc13-rl-sokoban7-s0 --concept agent-approach-direction box-push-direction --reach 1
      planprobe align my_agent:make --sites 'ticks.*.*.hook_h' --num-levels 400 --out results/aligned --json
    """

    agent: AgentSpec
    sites: Annotated[tuple[str, ...], optional("GLOB ...", "the last layer's last tick")] = ("ticks.{-1}.{-1}.hook_h",)
    """Where; planprobe agents show AGENT lists sites."""
    concept: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ("agent-approach-direction",)
    """What channels may code: concepts of squares, a candidate for each class."""
    no_board: Flag = False
    """Leave out what stands on a square (target, box, agent)."""
    reach: Annotated[int, arg(metavar="INT")] = 2
    """Largest offset, in squares."""
    min_correlation: Annotated[float, arg(metavar="FLOAT")] = 0.1
    """Smallest correlation beyond the control that makes a role."""
    levels: Annotated[str, arg(metavar="NAME")] = "test"
    """Level set of the agent's task."""
    num_levels: Annotated[int, arg(metavar="INT")] = 150
    """How many; half choose, half tell."""
    per_level: Annotated[int, arg(metavar="INT")] = 4
    """States of each level's episode."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Of states, split and intervals."""
    out: Annotated[Path | None, optional("FOLDER", "not saved")] = None
    """Where align.json, its table and its figure go."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, align, print."""
    options = parse(Align, arguments, verb="align")
    check_least(options, num_levels=1, per_level=1, reach=0)
    return run_instrument(
        "align", options, _align,
        of_trials="align reads boards, level by level.\n"
        "  In Python, align_channels takes activations and maps of any states.",
    )  # fmt: skip


def _align(agent: Agent, options: Align) -> Measured:
    from planprobe.verdict.align_table import align_table
    from planprobe.verdict.figures.channels import draw_alignment

    same = ("reach", "min_correlation", "levels", "num_levels", "per_level", "seed")
    with progress(f"aligning {agent.name}") as on_progress:
        table = align_table(
            agent, sites=list(options.sites), concepts=options.concept, board=not options.no_board,
            on_progress=lambda share, text: on_progress(share, 1, text),
            **{name: getattr(options, name) for name in same},
        )  # fmt: skip
    facts = {"candidates": list(table.candidates), "num_states": table.num_states}
    tell = partial(_print, agent, table)
    return Measured({"played": table.levels}, facts, {"rows": table.rows}, tell, draw_alignment)


def _print(agent: Agent, table: AlignTable) -> None:
    print_table(map(_short, table.rows), title=f"{agent.name}: what each channel codes")
    for site, roles in table.roles.items():
        found = sum(role.role is not None for role in roles)
        say(f"{site}: {found} of {len(roles)} channels have a role, {table.num_states} states.")


def _short(row: Row) -> Row:
    """What fits on a line; --json has all of it."""
    offset = f"{row['row_offset']:+d}, {row['column_offset']:+d}"
    return {
        "site": row["site"], "channel": row["channel"], "role": row["role"] or f"none ({row['best_role']})",
        "offset": offset, "sign": row["sign"], "correlation": interval_column(row, "correlation"),
        "other levels": row["control"], "p (Holm)": row["p_holm"], "halves agree": row["agrees"],
    }  # fmt: skip
