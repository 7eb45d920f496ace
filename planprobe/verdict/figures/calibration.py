"""What every detector said of every family of organisms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planprobe.core.records import Row
from planprobe.verdict.figures import theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def calibration(rows: list[Row]) -> Figure:
    """Detector x family: the share of organisms of which a detector said 'supported'. rows: as `calibrate.case_rows`.

    A frame marks families of which its claim is true by construction, a dash those about which it is silent: everything
    in a frame should be dark, everything else white.
    """
    import plotly.graph_objects as go

    detectors = sorted({str(row["detector"]) for row in rows}, key=lambda name: int(name[1:]))
    families = list(dict.fromkeys(str(row["family"]) for row in rows))
    shares, texts, shapes = [], [], []
    for y, family in enumerate(families):
        cells = [[r for r in rows if r["family"] == family and r["detector"] == detector] for detector in detectors]
        counts = [sum(row["outcome"] == "supported" for row in cell) for cell in cells]
        shares.append([count / len(cell) if cell else None for count, cell in zip(counts, cells, strict=True)])
        texts.append([_text(count, cell) for count, cell in zip(counts, cells, strict=True)])
        shapes += [_frame(x, y) for x, cell in enumerate(cells) if cell and cell[0]["claim_holds"]]
    figure = theme.make_figure(x_title="detector", y_title="family of organisms", height=120 + 34 * len(families))
    figure.add_trace(
        go.Heatmap(
            x=detectors, y=families, z=shares, text=texts, texttemplate="%{text}", zmin=0, zmax=1, showscale=False,
            colorscale=[[0, "white"], [1, theme.AGENT]], xgap=3, ygap=3,
        )
    )  # fmt: skip
    figure.update_layout(shapes=shapes)
    return figure


def _text(count: int, cell: list[Row]) -> str:
    if not cell:
        return ""
    return f"{count} of {len(cell)}" + (" -" if cell[0]["claim_holds"] is None else "")


def _frame(x: int, y: int) -> dict:
    return {
        "type": "rect", "x0": x - 0.49, "x1": x + 0.49, "y0": y - 0.47, "y1": y + 0.47, "xref": "x", "yref": "y",
        "line": {"width": 1.5},
    }  # fmt: skip
