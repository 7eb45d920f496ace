"""D4: what of a plan can be read from the agent, beside everything it could be read from without one."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from planprobe.core.records import Row
from planprobe.verdict.figures import theme
from planprobe.verdict.results import Results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SITES = (
    "Macro-F1 of a linear read-out of the agent's future moves at every site, on levels it has never seen, through "
    "windows of one square (solid) and more (dashed). Grey: the best control of the same window. Bands: 95 % intervals "
    "over levels."
)
DELTA = (
    "The same less the best control, for labels from the agent's own future (blue) and from an optimal plan (green). "
    "Whiskers: 95 % intervals over levels; the dotted line is the smallest effect of interest."
)
CONTROLS = (
    "The agent's read-out and each of its controls, on the same rows, at the site that did best on the valid levels."
)
HORIZON = (
    "Share of squares read right by the time until the agent enters them, at the same site. A plan reaches further "
    "ahead than what the board gives away; 'never' are squares that the agent does not enter again."
)
OWN, JUDGED_KERNEL = "behaviour", 1


def probe_sites(results: Results) -> Figure | None:
    """Score by site, the agent and the best control, one pair of lines a window."""
    rows = [row for row in _cells(results) if row["labels"] == OWN]
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: (*_track(row), -1 if row["tick"] is None else row["tick"], row["site"]))
    sites = list(dict.fromkeys(row["site"] for row in rows))
    kernels = sorted({row["kernel"] for row in rows})
    names = {k: (f"the agent, {k}×{k}", f"best control, {k}×{k}") for k in kernels}
    labels = [name for pair in names.values() for name in pair]
    figure = theme.make_figure(x_title="site", y_title="macro-F1 on held-out levels", right_labels=labels)
    place = {site: number for number, site in enumerate(sites)}
    for kernel, dash in zip(kernels, theme.LINE_DASHES, strict=False):
        for track, group in groupby((row for row in rows if row["kernel"] == kernel), _track):
            part = list(group)
            x, last = [place[row["site"]] for row in part], track == _track(rows[-1])
            own, other = names[kernel]
            best: dict[str, Any] = {key: [_best_control(row)[key] for row in part] for key in ("value", "low", "high")}
            theme.add_line(figure, x=x, **best, name=other, colour=theme.CONTROL, dash=dash, subdued=True, label=last)
            score: dict[str, Any] = {key: [row[column] for row in part] for key, column in _score("macro_f1").items()}
            theme.add_line(figure, x=x, **score, name=own, dash=dash, label=last)
    return theme.finish(figure, tick_text=[site_title(rows, site) for site in sites])


def probe_delta(results: Results) -> Figure | None:
    """What is beyond the best control in every cell of the table."""
    rows = [row for row in _cells(results) if row["delta"] is not None]
    if not rows:
        return None
    figure = theme.make_figure(x_title="macro-F1 beyond the best control", y_title="", height=110 + 22 * len(rows))
    for row in reversed(rows):
        title = f"{row['labels']} · {site_title(rows, row['site'])} · {row['kernel']}×{row['kernel']}"
        theme.add_points(
            figure, x=[row["delta"]], low=[row["delta_low"]], high=[row["delta_high"]], y=[title], across=True,
            name=f"over {row['best_control']}", colour=theme.AGENT if row["labels"] == OWN else theme.SECOND,
        )  # fmt: skip
    least = next((item.min_effect for item in results.verdict.evidence if item.detector == "D4"), None)
    theme.mark_level(figure, x=0)
    theme.mark_level(figure, x=least, text="smallest of interest")
    return theme.as_list(figure)


def probe_controls(results: Results) -> Figure | None:
    """The best cell beside each of its controls."""
    row = best_cell(results)
    if row is None:
        return None
    names = [key[len("control_") : -len("_low")] for key in row if key.startswith("control_") and key.endswith("_low")]
    scores = {name.replace("_", " "): _control(row, name) for name in names}
    controls = sorted(
        ((name, score) for name, score in scores.items() if score["value"] is not None),
        key=lambda pair: pair[1]["value"],
    )
    figure = theme.make_figure(x_title="macro-F1 on held-out levels", y_title="", height=130 + 24 * len(controls))
    for name, score in controls:
        _add_row(figure, name, score, theme.CONTROL, 7)
    own = {key: row[column] for key, column in _score("macro_f1").items()}
    _add_row(
        figure, f"the agent, {site_title([row], row['site'])}, {row['kernel']}×{row['kernel']}", own, theme.AGENT, 9
    )
    return theme.as_list(figure)


def probe_horizon(results: Results) -> Figure | None:
    """Recall by steps to the event at the best cell, the best control beside it."""
    best = best_cell(results)
    rows = [
        row
        for row in results.rows("D4")
        if row.get("bin") and row["unit"] == "steps" and row.get("recall") is not None and best is not None
        and all(row[key] == best[key] for key in ("labels", "site", "kernel"))
    ]  # fmt: skip
    if not rows:
        return None
    names = ("the agent", "best control")
    figure = theme.make_figure(
        x_title="steps until the agent enters the square", y_title="squares read right (fraction)", right_labels=names
    )
    events = [row for row in rows if row["bin"] != "never"]  # 'never' is no time, so no line leads to it
    for name, column in zip(reversed(names), ("control_recall", "recall"), strict=True):
        own = name == names[0]
        look: dict[str, Any] = {"name": name, "colour": theme.AGENT if own else theme.CONTROL}
        for first, part in ((0, events), (len(events), rows[len(events) :])):
            if not part:
                continue
            columns: dict[str, Any] = {key: [row[of] for row in part] for key, of in _score(column).items()}
            columns["x"] = list(range(first, first + len(part)))
            if part is events:
                theme.add_line(figure, **columns, **look, subdued=not own, dash="solid" if own else "dash")
            else:
                theme.add_points(figure, y=columns.pop("value"), **columns, **look, size=9 if own else 6)
    figure.update_yaxes(range=[-0.02, 1.03])
    return theme.finish(figure, tick_text=[str(row["bin"]) for row in rows])


def best_cell(results: Results) -> Row | None:
    """The row that D4 is judged at: of the agent's own labels and one square, the best on the valid levels."""
    rows = [row for row in _cells(results) if row["labels"] == OWN and row["kernel"] == JUDGED_KERNEL]
    return max(rows, key=lambda row: row["valid_macro_f1"] or 0.0, default=None)


def site_title(rows: list[Row], site: str) -> str:
    """'layer 1, tick 2 of h' for a site of a ticked net, in counts from one; else its name."""
    row = next(row for row in rows if row["site"] == site)
    if row["tick"] is None or row["layer"] is None:
        return site
    return f"layer {row['layer'] + 1:g}, tick {row['tick'] + 1:g}, {site.rpartition('hook_')[2]}"


def _track(row: Row) -> tuple:
    """Sites that a line joins, tick after tick: those of one hook and layer; hidden states come first."""
    hook = str(row["site"]).rpartition("hook_")[2]
    return hook != "h", hook, -1 if row["layer"] is None else row["layer"]


def _add_row(figure: Figure, title: str, score: dict[str, float], colour: str, size: int) -> None:
    theme.add_points(
        figure, x=[score["value"]], low=[score["low"]], high=[score["high"]], y=[title], across=True, name=title,
        colour=colour, size=size,
    )  # fmt: skip


def _cells(results: Results) -> list[Row]:
    return [row for row in results.rows("D4") if row.get("valid_macro_f1") is not None]


def _score(name: str) -> dict[str, str]:
    return {"value": name, "low": f"{name}_low", "high": f"{name}_high"}


def _control(row: Row, name: str) -> dict[str, float]:
    return {key: row[column] for key, column in _score(f"control_{name}").items()}


def _best_control(row: Row) -> dict[str, float]:
    """Score of the best control; where several seeds chose several, of the one that was chosen first."""
    return _control(row, str(row["best_control"]).split(" / ")[0])
