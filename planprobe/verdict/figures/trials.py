"""Agents that play trials: how they do stage by stage (D11), and whether they leave what they did before (D10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planprobe.core.records import Row
from planprobe.verdict.figures import theme
from planprobe.verdict.results import Results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TRIALS = (
    "Mean return of each stage of a trial (its episodes, or fifths of the only one) on the same held-out trials. Grey: "
    "reference players that are written down. Bands: 95 % intervals over trials."
)
ADAPTATION = (
    "Mean return by stage of a trial. Grey: the same agent with memory that is reset, or that belongs to another task; "
    "what it gains there it does not gain by what it remembers of this one. Bands: 95 % intervals over trials."
)
REVALUATION = (
    "Share of trials in which the agent takes the best course though it has never taken it. Grey: players with a "
    "cached course, and the agent with its memory reset. Whiskers: 95 % intervals over trials."
)
OWN = "memory kept"


def trials(results: Results) -> Figure | None:
    """Score by stage: the agent and the reference players."""
    return _by_stage(results.rows("trials"), "arm", "the agent")


def adaptation(results: Results) -> Figure | None:
    """Score by stage: memory kept, and every control of D11."""
    return _by_stage(results.rows("D11"), "condition", OWN)


def trial_revaluation(results: Results) -> Figure | None:
    """The score of D10 within trials, by condition and change."""
    rows = [row for row in results.rows("D10") if "thinking_steps_after" not in row and row["value"] is not None]
    if not rows:
        return None
    figure = theme.make_figure(
        x_title="better course taken (fraction of trials)", y_title="", height=110 + 46 * len(rows)
    )
    for row in reversed(rows):
        theme.add_points(
            figure, x=[row["value"]], y=[f"{row['condition']}, {row['change']}"], low=[row["low"]], high=[row["high"]],
            name=row["condition"], across=True, colour=theme.AGENT if row["condition"] == OWN else theme.CONTROL,
        )  # fmt: skip
    return theme.as_list(figure)


def _by_stage(rows: list[Row], series: str, own: str) -> Figure | None:
    if not rows:
        return None
    names = list(dict.fromkeys(row[series] for row in rows))
    stages = sorted({row["stage"] for row in rows})
    figure = theme.make_figure(x_title="stage of the trial", y_title="return", right_labels=names)
    for name in sorted(names, key=lambda name: name == own):  # the agent is drawn last, on top
        part = sorted((row for row in rows if row[series] == name), key=lambda row: row["stage"])
        columns: dict[str, Any] = {key: [row[key] for row in part] for key in ("value", "low", "high")}
        looks: dict[str, Any] = {} if name == own else {"colour": theme.CONTROL, "subdued": True, "dash": "dash"}
        theme.add_line(figure, x=[stages.index(row["stage"]) for row in part], **columns, name=name, **looks)
    return theme.finish(figure, tick_text=[str(stage) for stage in stages])
