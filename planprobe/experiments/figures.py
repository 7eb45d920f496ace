"""Figures of tables whose numbers have intervals: lines over a numeric column, points on a list of names.

Both are made of saved rows alone, and give back a function of an experiment's tables, as `catalog.load_figures` wants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planprobe.core.records import Row
from planprobe.verdict.figures import theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Tables = dict[str, list[Row]]
Draw = Callable[[Tables], "Figure | dict[str, Figure] | None"]
"""Saved tables -> a figure, several by name, or None where they hold nothing for it."""
_COLOURS = (theme.AGENT, theme.ACCENT, theme.SECOND, theme.INK)


def lines(
    table: str,
    *,
    x: str,
    series: str,
    x_title: str,
    y_title: str,
    where: Mapping[str, Any] | None = None,
    grey: Sequence[str] = (),
    level: float | None = None,
) -> Draw:
    """A line with its band for each name in column `series`, over the numeric column `x`.

    where: only rows with these values. grey: names that are controls or reference players. level: a line across.
    """

    def draw(tables: Tables) -> Figure | None:
        rows = _matching(tables, table, where)
        if not rows:
            return None
        names = list(dict.fromkeys(str(row[series]) for row in rows))
        figure = theme.make_figure(x_title=x_title, y_title=y_title, right_labels=names)
        for name in sorted(names, key=lambda name: name not in grey):  # what matters is drawn last, on top
            part = sorted((row for row in rows if str(row[series]) == name), key=lambda row: row[x])
            columns = {key: [row[key] for row in part] for key in ("value", "low", "high")}
            theme.add_line(figure, x=[row[x] for row in part], **columns, name=name, **_looks(name, names, grey))
        if level is not None:
            theme.mark_level(figure, y=level)
        return theme.finish(figure)

    return draw


def for_each(column: str, table: str, draw: Draw) -> Draw:
    """One figure for each value that a column of the table has, drawn from the rows with that value."""

    def draw_all(tables: Tables) -> dict[str, Figure]:
        rows = tables.get(table, [])
        drawn = {
            str(value): draw({**tables, table: [row for row in rows if row.get(column) == value]})
            for value in dict.fromkeys(row.get(column) for row in rows)
        }
        return {value: figure for value, figure in drawn.items() if figure is not None}  # pyright: ignore

    return draw_all


def points(
    table: str,
    *,
    label: str,
    x_title: str,
    where: Mapping[str, Any] | None = None,
    series: str | None = None,
    grey: Sequence[str] = (),
    level: float | None = None,
) -> Draw:
    """A point with its whiskers on a line of its own for each name in column `label`, the first on top.

    series: a column whose values stand beside each other in colours of their own, told apart by a legend.
    where, grey (labels, or series), level: as in `lines`.
    """

    def draw(tables: Tables) -> Figure | None:
        rows = _matching(tables, table, where)
        if not rows:
            return None
        labels = list(dict.fromkeys(str(row[label]) for row in rows))
        kinds = list(dict.fromkeys(_kind(row, label, series, grey) for row in rows))
        figure = theme.make_figure(x_title=x_title, y_title="", height=120 + 26 * len(labels) * (1 + bool(series)))
        for number, kind in enumerate(kinds):
            part = [row for row in rows if _kind(row, label, series, grey) == kind]
            offset = 0.6 * ((number + 0.5) / len(kinds) - 0.5) if series else 0.0
            columns: dict[str, Any] = {key: [row[key] for row in part] for key in ("low", "high")}
            theme.add_points(
                figure, x=[row["value"] for row in part], y=[-labels.index(str(row[label])) - offset for row in part],
                **columns, name=kind, across=True, colour=_looks(kind, kinds, grey)["colour"],
            )  # fmt: skip
        figure.update_yaxes(tickvals=[-n for n in range(len(labels))], ticktext=[theme.plain(name) for name in labels])
        if level is not None:
            theme.mark_level(figure, x=level)
        if series:
            figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.12, "x": 0})
        return theme.as_list(theme.finish(figure))

    return draw


def _kind(row: Row, label: str, series: str | None, grey: Sequence[str]) -> str:
    """What a point is coloured by: its series, or else whether its label is a grey one."""
    if series:
        return str(row[series])
    return next((name for name in grey if name == str(row[label])), "measured")


def _matching(tables: Tables, table: str, where: Mapping[str, Any] | None) -> list[Row]:
    """Rows of a table with the wanted values and a value to draw; no limits (a single seed) are drawn as no whisker."""
    return [
        {**row, **{side: row["value"] if row.get(side) is None else row[side] for side in ("low", "high")}}
        for row in tables.get(table, [])
        if row.get("value") is not None and (where or {}).items() <= row.items()
    ]


def _looks(name: str, names: Sequence[str], grey: Sequence[str]) -> dict[str, Any]:
    if name in grey:
        return {"colour": theme.CONTROL, "subdued": True, "dash": "dash"}
    number = [each for each in names if each not in grey].index(name)
    return {"colour": _COLOURS[number % len(_COLOURS)], "dash": theme.LINE_DASHES[number // len(_COLOURS) % 6]}
