"""`planprobe subspace`: is the next move carried by a few directions, so that a swap swaps what is done?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from planprobe.cli.arguments import AgentSpec, AsJson, TaskName, Threads, check_least, optional, parse
from planprobe.cli.instrument import Measured, run_instrument
from planprobe.cli.output import interval_column, print_table, progress, say
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.subjects.agent import Agent
    from planprobe.verdict.subspace_table import SubspaceTable


@dataclass(frozen=True)
class Subspace:
    """Learn a few directions at the agent's own square whose swap between two runs swaps the next move.

    Distributed alignment search on pairs of runs on two levels: learned on the train pairs, of the rank that does best
    on the valid pairs, told on the test pairs. Beside it the whole site, no swap at all, random subspaces, a random
    move of equal length, the same search on shuffled pairs and on untrained nets.

    Examples:
      planprobe subspace drc12-rl-maze11-s0
      planprobe subspace drc12-rl-maze11-s0 --sites 'ticks.*.*.hook_h' --thinking-steps 4 --out results/subspaces
      planprobe subspace drc13-rl-sokoban7-s0 --ranks 1 2 4 8 --num-pairs 600 --json
    """

    agent: AgentSpec
    sites: Annotated[tuple[str, ...], optional("GLOB ...", "the last layer's last tick")] = ("ticks.{-1}.{-1}.hook_h",)
    """Where, a search at each; planprobe agents show AGENT lists sites."""
    ranks: Annotated[tuple[int, ...], arg(metavar="INT ...")] = (1, 2, 4)
    """Numbers of directions to choose from; of equally good ones the smallest is taken."""
    thinking_steps: Annotated[int, arg(metavar="INT")] = 0
    """Steps on the first observation before the move; the swap takes place in the last."""
    levels: Annotated[str, arg(metavar="NAME")] = "test"
    """Level set of the agent's task that pairs are made of."""
    num_pairs: Annotated[int, arg(metavar="INT")] = 300
    """How many, each of two levels of its own."""
    num_untrained: Annotated[int, arg(metavar="INT")] = 2
    """Untrained nets, a control."""
    num_random: Annotated[int, arg(metavar="INT")] = 100
    """Random subspaces, a control."""
    epochs: Annotated[int, arg(metavar="INT")] = 20
    """Of the search, through the train pairs."""
    batch_size: Annotated[int, arg(metavar="INT")] = 64
    """Pairs at once."""
    learning_rate: Annotated[float, arg(metavar="FLOAT")] = 1e-2
    """Of the search."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Of pairs, search, controls and intervals."""
    out: Annotated[Path | None, optional("FOLDER", "not saved")] = None
    """Where subspace.json, its tables and its figure go."""
    task: TaskName = None
    json: AsJson = False
    threads: Threads = None


def run(arguments: list[str]) -> int:
    """Parse, search, print."""
    options = parse(Subspace, arguments, verb="subspace")
    check_least(options, num_pairs=1, num_random=1, epochs=1, batch_size=1, thinking_steps=0, num_untrained=0)
    return run_instrument(
        "subspace", options, _search,
        of_trials="subspace makes pairs of levels.\n"
        "  In Python, fit_subspace takes InterchangePairs of any two histories, ψ changed or not.",
    )  # fmt: skip


def _search(agent: Agent, options: Subspace) -> Measured:
    from planprobe.verdict.figures.channels import draw_subspaces
    from planprobe.verdict.subspace_table import subspace_table

    same = ("ranks", "thinking_steps", "levels", "num_pairs", "num_untrained", "num_random", "epochs", "batch_size",
            "learning_rate", "seed")  # fmt: skip
    with progress(f"searching {agent.name}") as on_progress:
        table = subspace_table(
            agent, sites=list(options.sites), on_progress=lambda share, text: on_progress(share, 1, text),
            **{name: getattr(options, name) for name in same},
        )  # fmt: skip
    fits = {
        site: {
            "rank": fit.rank, "effect": asdict(fit.effect), "best_control": fit.best_control,
            "beyond": asdict(fit.beyond), "beyond_site": asdict(fit.beyond_site), "basis": fit.basis.tolist(),
        }
        for site, fit in table.fits.items()
    }  # fmt: skip
    facts = {"num_pairs": len(table.pairs), "fits": fits, "notes": table.notes}
    tables = {"rows": table.rows, "losses": table.losses}
    return Measured(table.level_sets(), facts, tables, partial(_print, agent, table), draw_subspaces)


def _print(agent: Agent, table: SubspaceTable) -> None:
    print_table(map(_short, table.rows), title=f"{agent.name}: pairs in which the base makes the source's move")
    for note in table.notes:
        say(note)


def _short(row: Row) -> Row:
    """What fits on a line; --json has all of it."""
    return {
        "site": row["site"], "directions": row["rank"], "condition": row["condition"],
        "source's move": interval_column(row, "hits"),
        "learned minus this": interval_column(row, "learned_minus_this", sign="+"), "levels": row["num_levels"],
    }  # fmt: skip
