"""report.html: one file that opens anywhere, offline, made from a study's saved results.

Every string is escaped by the template, figures carry their data as JSON with '<' and '>' encoded, and plotly.js is
inlined once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from planprobe.core.records import Effect, Evidence
from planprobe.core.store import write_atomic
from planprobe.verdict.criteria import CRITERIA
from planprobe.verdict.figures import CONFIG, FIGURES, draw_figures
from planprobe.verdict.judge import LEANING, NOT_CALIBRATED, headline
from planprobe.verdict.results import Results, load_results

REPORT_FILE, TEMPLATE_FILE = "report.html", "report.html.jinja"
OUTCOMES = {"supported": "supported", "refuted": "refuted", "inconclusive": "not settled"}


def write_report(results_folder: str | Path) -> Path:
    """Write report.html beside the results it is made from. Raises: OutputError (no study there; cannot be written)."""
    folder = Path(results_folder)
    return write_atomic(folder / REPORT_FILE, render_report(load_results(folder)))


def render_report(results: Results) -> str:
    """The whole page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "number": number,
        "interval": interval,
        "p_value": p_value,
        "words": _words,
        "short_hash": _short_hash,
    }
    return environment.get_template(TEMPLATE_FILE).render(_content(results))


def number(value: float | None, signed: bool = False) -> str:
    """Three decimals, a minus sign as long as a plus, a dash where there is nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if signed else ''}.3f}".replace("-", "−")


def interval(effect: Effect, signed: bool = False) -> str:
    """'0.052 [0.031, 0.073]'."""
    return f"{number(effect.value, signed)} [{number(effect.low, signed)}, {number(effect.high, signed)}]"


def p_value(value: float | None) -> str:
    """'< .001' below that; a dash where nothing was tested."""
    return "< 0.001" if value is not None and value < 0.001 else number(value)


def _content(results: Results) -> dict[str, Any]:
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    verdict = results.verdict
    drawn = draw_figures(results)
    figures = [{"spec": FIGURES[name], "html": Markup(_embed(figure, name))} for name, figure in drawn.items()]
    provenance = verdict.provenance
    return {
        "plotly_js": Markup(get_plotlyjs()),
        "verdict": verdict,
        "headline": headline(verdict).replace(f" ({NOT_CALIBRATED})", ""),
        "reasons": [reason for reason in verdict.reasons if not reason.startswith(LEANING)],
        "leaning": [reason.removeprefix(LEANING) for reason in verdict.reasons if reason.startswith(LEANING)],
        "not_calibrated": None if verdict.calibrated else NOT_CALIBRATED,
        "detectors": [_detector(item, figures) for item in verdict.evidence],
        "figures": {figure["spec"].name: figure for figure in figures},
        "counted": "trials" if "trials" in provenance else "levels",
        "criteria": list(CRITERIA.values()),
        "agent_facts": provenance.get("agent", {}),
        "provenance": {key: value for key, value in provenance.items() if key != "agent"},
    }


def _detector(item: Evidence, figures: list[dict[str, Any]]) -> dict[str, Any]:
    controls = sorted(item.controls.items(), key=lambda pair: -_sortable(pair[1].value))
    own = [figure for figure in figures if figure["spec"].detector == item.detector]
    return {"item": item, "controls": controls, "figures": own, "outcome": OUTCOMES[item.outcome]}


def _embed(figure: Any, name: str) -> str:
    return figure.to_html(
        include_plotlyjs=False, full_html=False, config=CONFIG, div_id=f"figure-{name}",
        default_height=f"{figure.layout.height}px",
    )  # fmt: skip


def _sortable(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _short_hash(value: Any) -> str:
    """Whole hashes stay in verdict.json; a reader compares the first twelve digits. Lists without brackets."""
    text = ", ".join(f"{part}" for part in value) if isinstance(value, (list, tuple)) else f"{value}"
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
