"""Learned subspaces, and what single channels code: drawn from saved rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planprobe.core.records import Row
from planprobe.verdict.figures import theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LEARNED = "learned subspace"
_CONTROL_SUFFIX = ", other levels"


def draw_subspaces(rows: Sequence[Row]) -> dict[str, Figure]:
    """'subspaces' from the rows of `subspace_table`, where there are any.

    Held-out pairs in which the base makes the source's move after a swap inside the learned subspace (blue), and after
    every control (grey). 'whole site' is what a swap can do there at most. 95 % intervals over levels.
    """
    if not rows:
        return {}
    several = len({row["site"] for row in rows}) > 1
    lines = [(f"{row['site']} · {row['condition']}" if several else str(row["condition"]), row) for row in rows]
    figure = theme.make_figure(
        x_title="pairs in which the base makes the source's move (fraction)", y_title="", height=110 + 24 * len(lines)
    )
    for name, row in reversed(lines):
        own = row["condition"] == LEARNED
        theme.add_points(
            figure, x=[row["hits"]], y=[name], low=[row["hits_low"]], high=[row["hits_high"]], name=name, across=True,
            colour=theme.AGENT if own else theme.CONTROL, size=10 if own else 7,
        )  # fmt: skip
    figure.update_xaxes(range=[-0.02, 1.02])
    return {"subspaces": theme.as_list(figure)}


def draw_alignment(rows: Sequence[Row]) -> dict[str, Figure]:
    """One figure a site, 'alignment-0', ..., from the rows of `align_table`.

    Correlation of each channel with the map that it follows best, on held-out levels (blue where it makes a role), and
    with that map of other levels (grey). 95 % intervals over levels.
    """
    sites = list(dict.fromkeys(row["site"] for row in rows))
    return {
        f"alignment-{number}": _draw_channels([row for row in rows if row["site"] == site])
        for number, site in enumerate(sites)
    }


def _draw_channels(rows: list[Row]) -> Figure:
    figure = theme.make_figure(
        x_title=f"correlation, {rows[0]['site']}", y_title="", height=110 + 24 * len(rows)
    )  # fmt: skip
    for row in reversed(rows):
        offset = f"{row['row_offset']:+d}, {row['column_offset']:+d}"
        name = f"{row['channel']} · {row['best_role']} at {offset}"
        theme.add_points(
            figure, x=[row["control"]], y=[name], low=[row["control"]], high=[row["control"]],
            name=f"{name}{_CONTROL_SUFFIX}", across=True, colour=theme.FAINT, size=6,
        )  # fmt: skip
        theme.add_points(
            figure, x=[row["correlation"]], y=[name], low=[row["correlation_low"]], high=[row["correlation_high"]],
            name=name, across=True, colour=theme.AGENT if row["role"] else theme.CONTROL,
        )  # fmt: skip
    theme.mark_level(figure, x=0.0)
    return theme.as_list(figure)
