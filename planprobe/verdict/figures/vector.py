"""Figures as SVG, for a paper or a README: drawn from saved rows by kaleido, each marked with the hash of its data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from planprobe.core.errors import OutputError
from planprobe.core.store import write_atomic
from planprobe.verdict.figures import FigureCheck, draw_figures, figure_hash
from planprobe.verdict.results import load_results

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SIZE = {"width": 700, "height": 360}
_MARK = re.compile(r"<!-- planprobe data ([0-9a-f]+) -->")


def rebuild_svgs(
    results_folder: str | Path, folder: str | Path, names: Iterable[str] | None = None, *, check: bool = False
) -> list[FigureCheck]:
    """Draw figures of a study as FOLDER/NAME.svg, one FigureCheck each.

    Args: as `rebuild_figures`; check: only compare the hash that each file carries, write nothing.
    Raises: UnknownNameError; OutputError (no study, nothing to draw with, or it cannot be written).
    """
    checks = []
    for name, figure in draw_figures(load_results(results_folder), names).items():
        path = Path(folder) / f"{name}.svg"
        if not check:
            save_svg(figure, path)
        checks.append(FigureCheck(name, path, figure_hash(figure), svg_hash(path)))
    return checks


def save_svg(figure: Figure, path: Path) -> None:
    """Write one figure. Raises: OutputError (kaleido or its browser is missing, or the file cannot be written)."""
    try:
        text = figure.to_image(format="svg", **SIZE).decode()
    except (ImportError, ValueError, RuntimeError) as error:  # plotly and kaleido know no common one
        raise OutputError(
            f"cannot draw '{path}': {(str(error).strip() or type(error).__name__).splitlines()[0]}\n"
            "  Next: pip install 'planprobe[figures]', and Chrome or Chromium, which draws."
        ) from None
    write_atomic(path, f"{text}\n<!-- planprobe data {figure_hash(figure)} -->\n")


def svg_hash(path: Path) -> str | None:
    """Hash of the data that a stored file was drawn from; None where there is no file, or it does not say."""
    marks = _MARK.findall(path.read_text()) if path.is_file() else []
    return marks[-1] if marks else None
