"""D7: whether the agent acts on a plan that was written into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planprobe.core.records import Row
from planprobe.verdict.figures import theme
from planprobe.verdict.results import Results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STEERING = (
    "Levels that the agent leaves by the long way, by the strength of the edit (arm 'both'), on the levels on which "
    "strengths are chosen. Grey: directions that should not work, of the same norm. 95 % intervals over levels."
)
ARMS = (
    "The levels that are reported, at the strength chosen on the others: each arm with the fitted directions (blue) "
    "and with every control (grey). Small grey bars: 95th centile over single draws of a control. Where 'block' does "
    "as well as 'both', the agent was kept from one way, not given another."
)
TRAINED, NO_EDIT = "trained", "no edit"
TITLES = {"trained": "fitted directions"}


def steering(results: Results) -> Figure | None:
    """Success by strength, the fitted directions against each control."""
    return _by_strength(results.rows("D7"))


def steering_arms(results: Results) -> Figure | None:
    """The factorial on the reported levels: arm x source."""
    return _by_arm(results.rows("D7"))


def draw_steering(rows: Sequence[Row]) -> dict[str, Figure]:
    """'steering' and 'steering-arms' from saved rows of plan steering, those with nothing to show left out."""
    drawn = {"steering": _by_strength(rows), "steering-arms": _by_arm(rows)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _by_strength(rows: Sequence[Row]) -> Figure | None:
    rows = [row for row in rows if row["half"] == "choice" and row["arm"] in ("both", "none")]
    strengths = sorted({row["alpha"] for row in rows if row["source"] != NO_EDIT})
    if not strengths:
        return None
    sources: list[str] = [name for name in dict.fromkeys(row["source"] for row in rows) if name != NO_EDIT]
    figure = theme.make_figure(
        x_title="strength α (times a direction of unit norm)", y_title="levels left by the long way (fraction)",
        right_labels=[TITLES.get(name, name) for name in sources],
    )  # fmt: skip
    start = [row for row in rows if row["source"] == NO_EDIT]
    place = {alpha: number for number, alpha in enumerate([0.0, *strengths])}
    dashes = iter(("dash", "dot", "dashdot", "longdash", "longdashdot"))
    for source in sorted(sources, key=lambda name: name == TRAINED):
        part = start + sorted((row for row in rows if row["source"] == source), key=lambda row: row["alpha"])
        own = source == TRAINED
        theme.add_line(
            figure, x=[place[row["alpha"]] for row in part], value=[row["success"] for row in part],
            low=[row["success_low"] for row in part], high=[row["success_high"] for row in part],
            name=TITLES.get(source, source), colour=theme.AGENT if own else theme.CONTROL, subdued=not own,
            dash="solid" if own else next(dashes, "dash"),
        )  # fmt: skip
    figure.update_yaxes(range=[-0.02, 1.03])
    return theme.finish(figure, tick_text=[f"{alpha:g}" for alpha in place])


def _by_arm(rows: Sequence[Row]) -> Figure | None:
    rows = [row for row in rows if row["half"] == "report"]
    if not rows:
        return None
    lines = [(f"{row['arm']} · {_source(row)}" if row["arm"] != "none" else "no edit", row) for row in _in_order(rows)]
    figure = theme.make_figure(
        x_title="levels left by the long way (fraction)", y_title="", height=110 + 24 * len(lines)
    )
    for title, row in reversed(lines):
        own = row["source"] == TRAINED
        theme.add_points(
            figure, x=[row["success"]], y=[title], low=[row["success_low"]], high=[row["success_high"]], name=title,
            across=True, colour=theme.AGENT if own else theme.CONTROL, size=10 if own else 7,
        )  # fmt: skip
    _mark_centiles(figure, lines)
    figure.update_xaxes(range=[-0.02, 1.02])
    return theme.as_list(figure)


def _mark_centiles(figure: Figure, lines: list[tuple[str, Row]]) -> None:
    import plotly.graph_objects as go

    several = [(title, row) for title, row in lines if row["num_tables"] > 1]
    figure.add_trace(
        go.Scatter(
            x=[row["success_p95_of_tables"] for _, row in several], y=[title for title, _ in several], mode="markers",
            name="95th centile of draws", hovertemplate="95th centile of draws: %{x:.3f}<extra></extra>",
            marker={"symbol": "line-ns", "size": 11, "line": {"width": 2, "color": theme.FAINT}},
        )
    )  # fmt: skip


def _source(row: Row) -> str:
    title = TITLES.get(str(row["source"]), str(row["source"]))
    draws = f" × {row['num_tables']}" if row["num_tables"] > 1 else ""
    return f"{title}{draws}, α {row['alpha']:g}"


def _in_order(rows: list[Row]) -> list[Row]:
    arms = ["none", "both", "direct", "block"]
    return sorted(rows, key=lambda row: (arms.index(row["arm"]), row["source"] != TRAINED, -row["success"]))
