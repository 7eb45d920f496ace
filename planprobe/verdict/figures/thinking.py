"""D1: what the agent does better when it may look at the first observation for longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planprobe.core.records import Row
from planprobe.verdict.figures import theme
from planprobe.verdict.results import Results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

THINKING = (
    "Solve rate against steps spent on the frozen first observation before the first action. Grey: the same with "
    "memory that cannot hold a plan for this level (reset each step; a blank frame; noise of the same scale; another "
    "level), at the number of steps that is judged. Bands and whiskers: 95 % intervals over levels."
)
FIRST_MOVES = (
    "The same, as the share of first moves that lie on a shortest route. This shows thinking at the moment it ends; a "
    "solve rate also holds everything that happens later."
)


def thinking(results: Results) -> Figure | None:
    """Solve rate by thinking steps, with the controls."""
    return _draw(results, "solved", "levels solved (fraction)")


def first_moves(results: Results) -> Figure | None:
    """Share of optimal first moves by thinking steps, with the controls."""
    return _draw(results, "first_move", "optimal first moves (fraction)")


def _draw(results: Results, measure: str, y_title: str) -> Figure | None:
    rows = [row for row in results.rows("D1") if row.get(f"{measure}_rate") is not None and row["levels"] == "all"]
    counts = sorted({row["thinking_steps"] for row in rows})
    agent = _of(rows, "thinking")
    if len(agent) < 2:
        return None
    controls = [name for name in dict.fromkeys(row["variant"] for row in rows) if name != "thinking"]
    figure = theme.make_figure(
        x_title="thinking steps before the first action", y_title=y_title, right_labels=["the agent", *controls]
    )
    place = {count: number for number, count in enumerate(counts)}
    for name in controls:
        part = _of(rows, name)
        columns = _columns(part, measure, place)
        if len(part) > 1:
            theme.add_line(figure, **columns, name=name, colour=theme.CONTROL, subdued=True, dash="dash")
        else:
            points = {"y": columns.pop("value"), **columns}
            rise = 0 if points["x"][0] else 24  # at no thinking steps the agent's own line would run through the label
            theme.add_points(figure, **points, name=name, colour=theme.CONTROL, size=7, label=True, rise=rise)
    theme.add_line(figure, **_columns(agent, measure, place), name="the agent")
    return theme.finish(figure, tick_text=[str(count) for count in counts])


def _of(rows: list[Row], variant: str) -> list[Row]:
    return sorted((row for row in rows if row["variant"] == variant), key=lambda row: row["thinking_steps"])


def _columns(rows: list[Row], measure: str, place: dict) -> dict[str, Any]:
    columns = {key: [row[f"{measure}_{column}"] for row in rows] for key, column in _NAMES.items()}
    return {"x": [place[row["thinking_steps"]] for row in rows], **columns}


_NAMES = {"value": "rate", "low": "rate_low", "high": "rate_high"}
