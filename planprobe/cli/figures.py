"""`planprobe figures`: figures follow from saved numbers, and this is how one makes sure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from planprobe.cli.arguments import ArgumentError, AsJson, Flag, optional, parse
from planprobe.cli.output import say, show
from planprobe.core.errors import OutputError
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.verdict.figures import FigureCheck


@dataclass(frozen=True)
class Figures:
    """Draw the figures of saved studies and experiments anew, or check that the stored ones follow from the numbers.

    Each becomes NAME.json (plotly) and NAME.html in the figures folder beside the numbers; the pages open offline as
    long as plotly.min.js lies beside them. With --check nothing is written, and the exit code is 1 where a stored
    figure differs or is missing.

    Examples:
      planprobe figures
      planprobe figures thinking steering --results results/drc12-rl-maze11-s0
      planprobe figures --check
      planprobe figures first-moves --results results/drc12-rl-maze11-s0 --svg paper
    """

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME", help_behavior_hint="(default: all)")] = ()
    """Which: overview, behaviour, thinking, first-moves, probe-sites, probe-delta, steering, ..."""
    results: Annotated[Path | None, optional("FOLDER", "everything under results/")] = None
    """Folder of a study or an experiment, or of several."""
    svg: Annotated[Path | None, optional("FOLDER", "JSON and HTML beside the numbers")] = None
    """Draw the figures of one study as NAME.svg, to this folder alone; needs kaleido and Chrome or Chromium."""
    check: Flag = False
    """Compare data hashes with the stored figures."""
    json: AsJson = False


def run(arguments: list[str]) -> int:
    """Parse, draw or compare, print."""
    from planprobe.cli.main import FAILED_CHECK

    options = parse(Figures, arguments, verb="figures")
    rows: list[Row] = []
    folders = _find_results(options.results, options.names)
    if options.svg is not None and len(folders) > 1:
        found = ", ".join(f"'{folder}'" for folder in folders)
        raise ArgumentError(
            f"--svg: several studies would write the same files: {found}.\n  Next: --results one of them."
        )
    for folder in folders:
        for figure in _rebuild(folder, options):
            rows.append({
                "study": str(folder), "figure": figure.name, "file": str(figure.path), "hash": figure.data_hash[:12],
                "same": figure.same,
            })  # fmt: skip
    if options.names and not rows:
        raise OutputError(f"the rows saved in '{folders[0]}' hold nothing to draw {' '.join(options.names)} from.")
    show(rows, rows, as_json=options.json)
    differing = [row for row in rows if not row["same"]]
    if options.check and differing:
        say(f"{len(differing)} of {len(rows)} stored figures do not follow from the saved numbers.")
        return FAILED_CHECK
    return 0


def _rebuild(folder: Path, options: Figures) -> list[FigureCheck]:
    from planprobe.experiments.writing import FINDINGS_FILE, rebuild_experiment_figures
    from planprobe.verdict.figures import rebuild_figures
    from planprobe.verdict.figures.vector import rebuild_svgs

    names = options.names or None
    if options.svg is not None:
        return rebuild_svgs(folder, options.svg, names, check=options.check)
    rebuild = rebuild_experiment_figures if (folder / FINDINGS_FILE).is_file() else rebuild_figures
    return rebuild(folder, names, check=options.check)


def _find_results(folder: Path | None, names: tuple[str, ...]) -> list[Path]:
    """The folder itself where it holds a study or an experiment, else those in it; named figures are a study's."""
    from planprobe.cli.study import RESULTS
    from planprobe.experiments.writing import FINDINGS_FILE
    from planprobe.verdict.results import VERDICT_FILE

    root = folder or RESULTS
    files = [root / VERDICT_FILE, root / FINDINGS_FILE, *sorted(root.glob(f"*/{VERDICT_FILE}"))]
    if not names:
        files += [*sorted(root.glob(f"*/{FINDINGS_FILE}")), *sorted(root.glob(f"experiments/*/{FINDINGS_FILE}"))]
    found = [path.parent for path in files if path.is_file()]
    if not found:
        raise OutputError(
            f"there is no study or experiment in '{root}'.\n"
            "  Next: planprobe study AGENT, planprobe run NAME, or --results FOLDER."
        )
    return found
