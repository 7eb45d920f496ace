"""D5 and D6: how well the plan is read from tick to tick, and which of its squares can be read first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planprobe.verdict.figures import theme
from planprobe.verdict.results import Results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

REFINEMENT = (
    "Macro-F1 of reading the way ahead from single squares, tick by tick on the frozen first observation: with the "
    "read-out of the last tick throughout, and with one fitted anew at each tick. Grey: controls, at both ends. Bands: "
    "95 % intervals over levels."
)
ORDER = (
    "Ticks at which a square of the way is read wrongly, by its place on the way, of squares that come to be read. A "
    "way found from the agent forward rises, one found from the goal back falls, one that appears as a whole is flat "
    "within each level; long ways, further right, are few."
)
_ENDINGS = {"value": "", "low": "_low", "high": "_high"}
FIXED, OWN = "read-out of the last tick", "read-out of each tick"


def plan_refinement(results: Results) -> Figure | None:
    """Both scores by tick, with the controls."""
    rows = results.rows("D5")
    if not rows:
        return None
    controls = [name for name in dict.fromkeys(row["net"] for row in rows) if name != "agent"]
    figure = theme.make_figure(x_title="tick", y_title="macro-F1", right_labels=[FIXED, OWN, *controls])
    looks = {"colour": theme.CONTROL, "subdued": True, "dash": "dash"}
    lines: list[tuple[str, str, str, dict[str, Any]]] = [
        *((control, "own", control, looks) for control in controls),
        ("agent", "own", OWN, {"colour": theme.SECOND}),
        ("agent", "fixed", FIXED, {}),
    ]
    for net, kind, name, look in lines:
        part = [row for row in rows if row["net"] == net]
        columns: dict[str, Any] = {key: [row[f"{kind}{ending}"] for row in part] for key, ending in _ENDINGS.items()}
        theme.add_line(figure, x=[row["tick"] for row in part], **columns, name=str(name), **look)
    return theme.finish(figure)


def decoding_order(results: Results) -> Figure | None:
    """Lag by place on the way."""
    rows = [row for row in results.rows("D6") if row["table"] == "order"]
    if not rows:
        return None
    figure = theme.make_figure(x_title="square of the way, from the agent", y_title="lag (ticks)", right_labels=["lag"])
    columns: dict[str, Any] = {key: [row[f"lag{ending}"] for row in rows] for key, ending in _ENDINGS.items()}
    theme.add_line(figure, x=[row["square"] for row in rows], **columns, name="lag")
    return theme.finish(figure)
