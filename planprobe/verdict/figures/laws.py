"""D2, D3 and D10: the time that first moves take, and what they do when a wall is toggled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planprobe.verdict.figures import theme
from planprobe.verdict.results import Results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

DISTANCE = (
    "Lag, the thinking steps during which the first move is still worse than after the longest look, against the "
    "distance to the goal; two open moves at each start, one of them right. Grey: after looking at a blank frame or at "
    "another level. Bands: 95 % intervals over layouts."
)
CANDIDATES = (
    "Lag against the number of candidate routes at one distance. A sweep over all squares at once is flat, a search "
    "that takes candidates one by one rises."
)
REVALUATION = (
    "Share of first moves that are right on the changed board only, by thinking steps after the change. Grey: the same "
    "memory on the board as it was, and no memory at all."
)


def distance_law(results: Results) -> Figure | None:
    """Lag by distance, with the controls."""
    return _lag(results, "D2", "distance", "moves from start to goal", int)


def candidate_law(results: Results) -> Figure | None:
    """Lag by number of candidates, with the controls."""
    return _lag(results, "D3", "doublings", "candidate routes", lambda doublings: round(2**doublings))


def revaluation(results: Results) -> Figure | None:
    """Share of new moves by thinking steps after the change."""
    rows = [row for row in results.rows("D10") if "thinking_steps_after" in row]
    if not rows:
        return None
    names = list(dict.fromkeys(row["condition"] for row in rows))
    counts = sorted({row["thinking_steps_after"] for row in rows})
    figure = theme.make_figure(
        x_title="thinking steps on the new board before the move", y_title="new optimal first moves (fraction)",
        right_labels=names,
    )  # fmt: skip
    for name in sorted(names, key=lambda name: name == "new board"):
        part = sorted((row for row in rows if row["condition"] == name), key=lambda row: row["thinking_steps_after"])
        columns = {key: [row[f"new_move{ending}"] for row in part] for key, ending in _COLUMNS.items()}
        _add(figure, [counts.index(row["thinking_steps_after"]) for row in part], columns, name, name == "new board")
    return theme.finish(figure, tick_text=[str(count) for count in counts])


def _lag(results: Results, detector: str, rung: str, x_title: str, convert: Callable[[float], int]) -> Figure | None:
    rows = results.rows(detector)
    if not rows:
        return None
    names = list(dict.fromkeys(row["variant"] for row in rows))
    rungs = sorted({row[rung] for row in rows})
    figure = theme.make_figure(x_title=x_title, y_title="lag (thinking steps)", right_labels=["the agent", *names])
    for name in sorted(names, key=lambda name: name == "thinking"):
        part = sorted((row for row in rows if row["variant"] == name), key=lambda row: row[rung])
        columns = {key: [row[f"lag{ending}"] for row in part] for key, ending in _COLUMNS.items()}
        agent = name == "thinking"
        _add(figure, [rungs.index(row[rung]) for row in part], columns, "the agent" if agent else name, agent)
    theme.mark_level(figure, y=0)
    return theme.finish(figure, tick_text=[str(convert(each)) for each in rungs])


def _add(figure: Figure, x: list[int], columns: dict[str, list], name: str, agent: bool) -> None:
    looks = {} if agent else {"colour": theme.CONTROL, "subdued": True, "dash": "dash"}
    theme.add_line(figure, x=x, **columns, name=name, **looks)


_COLUMNS = {"value": "", "low": "_low", "high": "_high"}
