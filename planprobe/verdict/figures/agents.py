"""Figures about the agent itself: what it can do, before anything is said about how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planprobe.verdict.figures import theme
from planprobe.verdict.results import Results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

OVERVIEW = (
    "Each detector's effect beyond its best control with its 95 % interval over levels, divided by the smallest effect "
    "of interest. Blue: supported; red: refuted; grey: not settled."
)
BEHAVIOUR = (
    "Levels solved by greedy play, one episode a level, by the length of the optimal solution. Where the grey line "
    "stays behind, what the agent works out lives in its memory. Bands: 95 % intervals over levels."
)


def behaviour(results: Results) -> Figure | None:
    """Solve rate against the optimal number of moves: the agent, and the same net with its memory reset each step."""
    rows = results.rows("behaviour")
    if not rows:
        return None
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure = theme.make_figure(
        x_title="length of an optimal solution (moves)", y_title="levels solved (fraction)", right_labels=arms
    )
    for number, arm in enumerate(arms):
        part = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["moves"])
        columns: dict[str, Any] = {key: [row[key] for row in part] for key in ("value", "low", "high")}
        theme.add_line(
            figure, x=[row["moves"] for row in part], **columns, name=arm, subdued=number > 0,
            colour=theme.AGENT if number == 0 else theme.CONTROL, dash=theme.LINE_DASHES[min(number, 5)],
        )  # fmt: skip
    figure.update_yaxes(range=[-0.02, 1.03])
    return theme.finish(figure)


def overview(results: Results) -> Figure | None:
    """Every detector beyond its controls, in units of its own smallest effect of interest."""
    evidence = results.verdict.evidence
    if not evidence:
        return None
    figure = theme.make_figure(
        x_title="effect beyond the best control (1 = the smallest effect of interest, fixed beforehand)",
        y_title="", height=110 + 46 * len(evidence),
    )  # fmt: skip
    for item in reversed(evidence):
        beyond, unit = item.beyond_controls, item.min_effect
        colour = {"supported": theme.AGENT, "refuted": theme.ACCENT}.get(item.outcome, theme.MUTED)
        theme.add_points(
            figure, x=[beyond.value / unit], low=[beyond.low / unit], high=[beyond.high / unit], colour=colour,
            y=[f"{item.detector} {item.name.replace('_', ' ')}"], name=f"{item.detector}: {item.outcome}", across=True,
        )  # fmt: skip
    theme.mark_level(figure, x=0)
    theme.mark_level(figure, x=1, text="smallest of interest")
    return theme.as_list(figure)
