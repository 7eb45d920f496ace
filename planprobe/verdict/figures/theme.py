"""One look for every figure: the agent in one dark colour, controls in grey, every point with its interval.

Lines are labelled at their end, so that no reader has to carry colours from a legend. Text from files is escaped:
plotly reads a little HTML in its labels.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

INK, MUTED, FAINT, GRID = "#22303a", "#7d8a93", "#c3cbd1", "#eceff1"
AGENT, ACCENT, SECOND, CONTROL = "#14507a", "#b5482a", "#5a8f3c", "#98a3ab"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
LINE_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
PIXELS_A_CHARACTER = 6.6  # of a 12 px label


def make_figure(*, x_title: str, y_title: str, height: int = 360, right_labels: Sequence[str] = ()) -> Figure:
    """An empty figure in the house style; titles say the unit, `right_labels` are the labels to leave room for."""
    import plotly.graph_objects as go

    longest = max((len(label) for label in right_labels), default=0)
    axis = {
        "showgrid": False, "zeroline": False, "linecolor": FAINT, "ticks": "outside", "tickcolor": FAINT, "ticklen": 4,
        "title": {"font": {"size": 13}, "standoff": 10}, "tickfont": {"size": 12, "color": MUTED}, "automargin": True,
    }  # fmt: skip
    figure = go.Figure()
    figure.update_layout(
        template="none", height=height, showlegend=False, hovermode="closest", dragmode=False,
        font={"family": FONT, "size": 13, "color": INK}, paper_bgcolor="white", plot_bgcolor="white",
        margin={"l": 64, "r": 24 + PIXELS_A_CHARACTER * longest, "t": 26, "b": 56},
        xaxis={**axis, "title": {**axis["title"], "text": plain(x_title)}},
        yaxis={**axis, "showgrid": True, "gridcolor": GRID, "title": {**axis["title"], "text": plain(y_title)}},
        hoverlabel={"font": {"family": FONT, "size": 12}, "bgcolor": "white", "bordercolor": FAINT},
    )  # fmt: skip
    return figure


def plain(text: str) -> str:
    """Text as it is, with nothing that plotly would read as HTML."""
    return html.escape(text, quote=False)


def add_line(
    figure: Figure,
    *,
    x: Sequence[float],
    value: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    name: str,
    colour: str = AGENT,
    dash: str = "solid",
    subdued: bool = False,
    label: bool = True,
) -> None:
    """A measured line with its 95 % band and, where `label`, its name at the right end."""
    import plotly.graph_objects as go

    band = {"fill": "toself", "fillcolor": _clear(colour, 0.10 if subdued else 0.16), "line": {"width": 0}}
    figure.add_trace(
        go.Scatter(
            x=[*x, *reversed(x)], y=[*high, *reversed(low)], **band, hoverinfo="skip", mode="lines",
            name=f"{plain(name)}, 95 % interval",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=list(x), y=list(value), mode="lines+markers", name=plain(name), customdata=_limits(low, high),
            line={"color": colour, "width": 1.5 if subdued else 2.5, "dash": dash},
            marker={"size": 5 if subdued else 7, "color": colour}, hovertemplate=_hover("%{y:.3f}"),
        )
    )  # fmt: skip
    if label:
        _label_end(figure, x[-1], value[-1], name, MUTED if subdued else colour)


def add_points(
    figure: Figure,
    *,
    x: Sequence,
    y: Sequence,
    low: Sequence[float],
    high: Sequence[float],
    name: str,
    across: bool = False,
    colour: str = AGENT,
    size: int = 9,
    label: bool = False,
    rise: int = 0,
) -> None:
    """Points with 95 % whiskers. across: the value runs along x, else along y. rise: of the label, in pixels."""
    import plotly.graph_objects as go

    values = x if across else y
    whisker = {
        "type": "data", "symmetric": False, "color": colour, "thickness": 1.6, "width": 0,
        "array": [b - a for a, b in zip(values, high, strict=True)],
        "arrayminus": [a - b for a, b in zip(values, low, strict=True)],
    }  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=list(x), y=list(y), mode="markers", name=plain(name), customdata=_limits(low, high),
            marker={"size": size, "color": colour}, **{"error_x" if across else "error_y": whisker},
            hovertemplate=_hover("%{x:.3f}" if across else "%{y:.3f}"),
        )
    )  # fmt: skip
    if label:
        _label_end(figure, x[-1], y[-1], name, MUTED if colour == CONTROL else colour, rise)


def finish(figure: Figure, *, tick_text: Sequence[str] | None = None) -> Figure:
    """Last touches: room around numeric x, names of evenly spaced ticks, end labels that do not overlap."""
    numbers = [v for trace in _traces(figure) for v in (trace.x or ()) if isinstance(v, (int, float))]
    if numbers:
        room = 0.03 * max(max(numbers) - min(numbers), 1e-9)
        figure.update_xaxes(range=[min(numbers) - room, max(numbers) + room])
    if tick_text is not None:
        figure.update_xaxes(tickvals=list(range(len(tick_text))), ticktext=[plain(text) for text in tick_text])
    _spread_labels(figure)
    return figure


def mark_level(figure: Figure, *, y: float | None = None, x: float | None = None, text: str = "") -> None:
    """A thin reference line: zero, chance, or the smallest effect of interest."""
    line = {"color": FAINT, "width": 1.2, "dash": "dot"}
    note = {"font": {"size": 11, "color": MUTED}}
    if y is not None:
        figure.add_hline(y=y, line=line, annotation_text=plain(text), annotation={**note, "xanchor": "left", "x": 0})
    if x is not None:
        figure.add_vline(x=x, line=line, annotation_text=plain(text), annotation={**note, "yanchor": "bottom", "y": 1})


def as_list(figure: Figure) -> Figure:
    """A list of named rows in place of a numeric y axis."""
    figure.update_yaxes(showgrid=True, linecolor="white", ticks="", tickfont={"color": INK, "size": 12.5})
    return figure


def _traces(figure: Figure) -> Any:
    return figure.data


def _label_end(figure: Figure, x: float, y: float, name: str, colour: str, rise: int = 0) -> None:
    figure.add_annotation(
        x=x, y=y, text=plain(name), showarrow=False, xanchor="left", xshift=9, yshift=rise,
        font={"color": colour, "size": 12},
    )  # fmt: skip


def _spread_labels(figure: Figure, *, gap: float = 0.06) -> None:
    """Move labels at the same x apart where they would overlap, by at least `gap` of the height that is drawn."""
    values = [v for trace in _traces(figure) for v in (trace.y or ()) if isinstance(v, (int, float))]
    values += [v for trace in _traces(figure) for pair in (trace.customdata or ()) for v in pair]
    notes = [note for note in figure.layout.annotations if note.xshift and not note.yshift]
    if not values:
        return
    shown = figure.layout.yaxis.range or (min(values), max(values))
    least = gap * max(shown[1] - shown[0], 1e-9)
    for x in {note.x for note in notes}:
        labels = sorted((note for note in notes if note.x == x), key=lambda note: note.y)
        for note, height in zip(labels, _spread([note.y for note in labels], least, shown[1]), strict=True):
            note.y = height


def _spread(heights: list[float], least: float, highest: float) -> list[float]:
    """Increasing numbers moved apart until each is `least` above the one before; none goes over `highest`."""
    heights = list(heights)
    for _ in range(100):
        for number, (below, above) in enumerate(pairwise(tuple(heights))):
            overlap = least - (above - below)
            if overlap > 0:
                heights[number] -= overlap / 2
                heights[number + 1] += overlap / 2
    ceiling = highest
    for number in reversed(range(len(heights))):
        heights[number] = min(heights[number], ceiling)
        ceiling = heights[number] - least
    return heights


def _limits(low: Sequence[float], high: Sequence[float]) -> list[list[float]]:
    return [[a, b] for a, b in zip(low, high, strict=True)]


def _hover(value: str) -> str:
    return f"%{{fullData.name}}<br>{value} [%{{customdata[0]:.3f}}, %{{customdata[1]:.3f}}]<extra></extra>"


def _clear(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
