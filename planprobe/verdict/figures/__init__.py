"""Every figure of a study: drawn from saved results and nothing else, as plotly JSON and HTML that opens offline.

A figure is known by the hash of its data (not of its looks): `rebuild_figures(folder, check=True)` draws every figure
anew from the saved rows and compares hashes, so that a stored figure that no longer follows from its numbers is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planprobe.core.errors import OutputError, unknown_name
from planprobe.core.store import write_atomic
from planprobe.verdict.figures import agents, forming, laws, probes, steering, thinking, trials
from planprobe.verdict.results import Results, data_hash, load_results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FOLDER, LIBRARY_FILE = "figures", "plotly.min.js"
CONFIG = {"displayModeBar": False, "responsive": True, "displaylogo": False}


@dataclass(frozen=True)
class FigureSpec:
    """How a figure is made. draw: saved results -> figure, or None where the results hold nothing for it.

    detector: the detector that it belongs to, None for the study as a whole. caption: how to read it.
    """

    name: str
    detector: str | None
    caption: str
    draw: Callable[[Results], Figure | None]


FIGURES: dict[str, FigureSpec] = {
    spec.name: spec
    for spec in (
        FigureSpec("overview", None, agents.OVERVIEW, agents.overview),
        FigureSpec("behaviour", None, agents.BEHAVIOUR, agents.behaviour),
        FigureSpec("thinking", "D1", thinking.THINKING, thinking.thinking),
        FigureSpec("first-moves", "D1", thinking.FIRST_MOVES, thinking.first_moves),
        FigureSpec("distance-law", "D2", laws.DISTANCE, laws.distance_law),
        FigureSpec("candidate-law", "D3", laws.CANDIDATES, laws.candidate_law),
        FigureSpec("revaluation", "D10", laws.REVALUATION, laws.revaluation),
        FigureSpec("trials", None, trials.TRIALS, trials.trials),
        FigureSpec("adaptation", "D11", trials.ADAPTATION, trials.adaptation),
        FigureSpec("trial-revaluation", "D10", trials.REVALUATION, trials.trial_revaluation),
        FigureSpec("probe-sites", "D4", probes.SITES, probes.probe_sites),
        FigureSpec("probe-delta", "D4", probes.DELTA, probes.probe_delta),
        FigureSpec("probe-controls", "D4", probes.CONTROLS, probes.probe_controls),
        FigureSpec("probe-horizon", "D4", probes.HORIZON, probes.probe_horizon),
        FigureSpec("plan-refinement", "D5", forming.REFINEMENT, forming.plan_refinement),
        FigureSpec("decoding-order", "D6", forming.ORDER, forming.decoding_order),
        FigureSpec("steering", "D7", steering.STEERING, steering.steering),
        FigureSpec("steering-arms", "D7", steering.ARMS, steering.steering_arms),
    )
}


@dataclass(frozen=True)
class FigureCheck:
    """A figure rebuilt from saved rows. stored_hash: of the data in the stored file, None where there is no file."""

    name: str
    path: Path
    data_hash: str
    stored_hash: str | None

    @property
    def same(self) -> bool:
        return self.data_hash == self.stored_hash


def rebuild_figures(
    results_folder: str | Path, names: Iterable[str] | None = None, *, check: bool = False
) -> list[FigureCheck]:
    """Draw the figures of a study anew from its saved rows, one FigureCheck each.

    Args: names: which figures, all by default. check: only compare with the stored files, write nothing.
    Raises: UnknownNameError (no such figure); OutputError (no study in the folder, or it cannot be written).
    """
    folder = Path(results_folder)
    drawn = draw_figures(load_results(folder), names)
    if check and names is None:  # a stored figure that nothing draws any more must not pass in silence
        drawn |= {path.stem: None for path in (folder / FOLDER).glob("*.json") if path.stem not in drawn}
    elif not check and names is None:  # a study over an older one must not leave its figures behind
        for name in FIGURES.keys() - drawn.keys():
            for ending in (".json", ".html"):
                (folder / FOLDER / f"{name}{ending}").unlink(missing_ok=True)
    checks = []
    for name, figure in drawn.items():
        path = folder / FOLDER / f"{name}.json"
        stored = stored_hash(path)
        if not check and figure is not None:
            stored = save_figure(figure, path)
        checks.append(FigureCheck(name, path, figure_hash(figure) if figure is not None else "", stored))
    return checks


def draw_figures(results: Results, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Figures by name, in the order of `FIGURES`, those with nothing to show left out."""
    wanted = list(FIGURES) if names is None else list(names)
    for name in wanted:
        if name not in FIGURES:
            raise unknown_name("figure", name, FIGURES, where="a study")
    drawn = {name: FIGURES[name].draw(results) for name in FIGURES if name in wanted}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def figure_hash(figure: Figure) -> str:
    """Hash of what is drawn: the data of every trace, without colours, sizes and layout."""
    return _hash_traces(json.loads(_to_json(figure))["data"])


def save_figure(figure: Figure, path: Path) -> str:
    """Write NAME.json and, beside it, NAME.html; returns the data hash. Raises: OutputError (cannot be written).

    The page opens offline: it reads plotly.js from the folder, where one copy (5 MB) serves all pages.
    """
    text = _to_json(figure)
    write_atomic(path, text + "\n")
    page = figure.to_html(include_plotlyjs="directory", full_html=True, config=CONFIG, div_id=path.stem)
    write_atomic(path.with_suffix(".html"), page)
    _save_library(path.parent / LIBRARY_FILE)
    return _hash_traces(json.loads(text)["data"])


def _save_library(path: Path) -> None:
    """plotly.js of the version that wrote the pages; left alone where it is there already."""
    from plotly.offline import get_plotlyjs

    library = get_plotlyjs().encode()
    if not path.is_file() or path.read_bytes() != library:
        write_atomic(path, library)


def load_figure(results_folder: str | Path, name: str) -> Figure:
    """A stored figure. Raises: OutputError (it was not saved there)."""
    from plotly import io

    path = Path(results_folder) / FOLDER / f"{name}.json"
    try:
        return io.from_json(path.read_text())
    except (OSError, ValueError) as error:
        raise OutputError(f"'{path}' is no figure: {error}.\n  Draw it with: planprobe figures {name}") from None


def stored_hash(path: Path) -> str | None:
    """Hash of the data in a stored figure, None where there is none."""
    try:
        return _hash_traces(json.loads(path.read_text())["data"])
    except (OSError, ValueError, KeyError):
        return None


def _to_json(figure: Figure) -> str:
    text = figure.to_json()
    assert text is not None  # plotly's type says that it may be
    return text


def _hash_traces(traces: list[dict[str, Any]]) -> str:
    data = ("type", "name", "x", "y", "z", "text", "customdata")
    kept = [{key: trace[key] for key in data if key in trace} for trace in traces]
    for trace, whole in zip(kept, traces, strict=True):
        for error in ("error_x", "error_y"):
            trace[error] = [whole.get(error, {}).get(side) for side in ("array", "arrayminus")]
    return data_hash(kept)
