"""Patches: where, along site, tick, step, square or path, an activation of the clean run brings its move back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from planprobe.core.records import Row
from planprobe.verdict.figures import theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MEASURE = "logit-difference"


def draw_patching(rows: Sequence[Row], *, measure: str = MEASURE) -> dict[str, Figure]:
    """The figures that saved rows of `patch_table` have something for: 'patch-sites', 'patch-squares', 'patch-path'."""
    rows = [row for row in rows if row["measure"] == measure]
    draw: dict[str, Callable[[list[Row]], Figure | None]] = {
        "patch-sites": patch_sites, "patch-squares": patch_squares, "patch-path": patch_path,
    }  # fmt: skip
    drawn = {name: make(rows) for name, make in draw.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def patch_sites(rows: list[Row]) -> Figure | None:
    """Effect of putting one site of the clean run into the corrupted one, whole boards, by tick and step.

    0 = as if nothing was put in, 1 = as in the clean run. Grey cells have no value.
    """
    whole = [row for row in rows if "tick" in row and row["row"] is None and row.get("channels", "all") == "all"]
    if not whole:
        return None
    lines = list(dict.fromkeys(_site_of_any_tick(row) for row in whole))
    places = sorted({(_number(row["step"]), _number(row["tick"])) for row in whole})
    cells = {(_site_of_any_tick(row), (_number(row["step"]), _number(row["tick"]))): row["value"] for row in whole}
    titles = [_place_name(place, places) for place in places]
    figure = theme.make_figure(
        x_title="step and tick", y_title="", height=120 + 30 * len(lines), right_labels=["effect 0.00"]
    )
    values = [[cells.get((line, place)) for place in places] for line in lines]
    _add_map(figure, titles, lines, values)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", autorange="reversed")
    return figure


def patch_squares(rows: list[Row]) -> Figure | None:
    """The same for single squares, as a map of the board, for the site, step and channel group of the largest effect.

    A mean over pairs of different boards: it shows where on the board the information lies, not where on the plan.
    """
    single = [row for row in rows if row.get("row") is not None]
    known = [row for row in single if _is_number(row["value"])]
    if not known:
        return None
    best = max(known, key=lambda row: abs(row["value"]))
    keys = ("site", "step", "channels")
    chosen = [row for row in single if all(row.get(key) == best.get(key) for key in keys)]
    height, width = (1 + max(int(row[axis]) for row in chosen) for axis in ("row", "column"))
    values: list[list] = [[None] * width for _ in range(height)]
    for row in chosen:
        values[int(row["row"])][int(row["column"])] = row["value"]
    title = f"column, {best['site']}, step {'all' if best['step'] is None else best['step']}"
    figure = theme.make_figure(x_title=title, y_title="row", height=420, right_labels=["effect 0.00"])
    _add_map(figure, list(range(width)), list(range(height)), values)
    figure.update_yaxes(autorange="reversed", scaleanchor="x", showgrid=False)
    return figure


def patch_path(rows: list[Row]) -> Figure | None:
    """Effect on the present move of the square of the clean plan that lies so many moves ahead (blue).

    Beside it that of a floor square off both plans (grey). 95 % intervals over levels.
    """
    along = [row for row in rows if row.get("distance") is not None and _is_number(row["value"])]
    if not along:
        return None
    first = along[0]["site"]
    along = [row for row in along if row["site"] == first]
    names = list(dict.fromkeys(str(row["squares"]) for row in along))
    figure = theme.make_figure(
        x_title=f"moves ahead on the clean plan, {first}", y_title="effect on the present move (0 corrupted, 1 clean)",
        right_labels=names,
    )  # fmt: skip
    for name in names:
        part = sorted((row for row in along if row["squares"] == name), key=lambda row: row["distance"])
        own = name == "plan"
        theme.add_line(
            figure, x=[row["distance"] for row in part], value=[row["value"] for row in part],
            low=[row["low"] for row in part], high=[row["high"] for row in part], name=name,
            colour=theme.AGENT if own else theme.CONTROL, subdued=not own, dash="solid" if own else "dash",
        )  # fmt: skip
    theme.mark_level(figure, y=0.0)
    return theme.finish(figure)


def _add_map(figure: Figure, x: list, y: list, values: list[list]) -> None:
    import plotly.graph_objects as go

    shown = [[value if _is_number(value) else None for value in line] for line in values]
    colours = [[0.0, theme.ACCENT], [0.5, "white"], [1.0, theme.AGENT]]
    figure.add_trace(
        go.Heatmap(
            x=x, y=[theme.plain(str(name)) if isinstance(name, str) else name for name in y], z=shown, name="effect",
            colorscale=colours, zmid=0.0, xgap=1, ygap=1, colorbar={"title": {"text": "effect"}, "outlinewidth": 0},
            hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(plot_bgcolor=theme.GRID)


def _site_of_any_tick(row: Row) -> str:
    """'layer 0 · hook_h' for a site of a tick, else its name."""
    site = str(row["site"])
    return site if row["tick"] is None else f"layer {int(row['layer'])} · {site.rpartition('.')[2]}"


def _place_name(place: tuple[int, int], places: list[tuple[int, int]]) -> str:
    step, tick = place
    parts = ["all steps" if step < 0 else f"step {step}"] if len({each[0] for each in places}) > 1 else []
    return " · ".join([*parts, "no tick" if tick < 0 else f"tick {tick}"])


def _number(value) -> int:
    return -1 if value is None or (isinstance(value, float) and math.isnan(value)) else int(value)


def _is_number(value) -> bool:
    return value is not None and not math.isnan(value)
