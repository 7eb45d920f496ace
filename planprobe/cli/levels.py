"""`planprobe levels`: make, solve, convert and look at level files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from planprobe.cli.arguments import ArgumentError, AsJson, optional, parse_one_of
from planprobe.cli.output import print_table, show
from planprobe.core.records import Row

if TYPE_CHECKING:
    from planprobe.core.levels import LevelSet

NOT_SOLVED = "not solved within budget"
LevelFile = Annotated[Positional[Path], arg(metavar="FILE", help="Level file: .xsb or Boxoban's .txt.")]


@dataclass(frozen=True)
class Generate:
    """Generate levels, all different up to rotation and reflection. The same seed gives the same levels.

    A split keeps to its tenth of all layouts, so that a 'test' file never holds a level of anybody's 'train'.

    Examples:
      planprobe levels generate --task sokoban --size 7 --boxes 1 2 --num 100 --out levels.xsb
      planprobe levels generate --task maze --size 15 --split test          # to stdout
    """

    task: Literal["maze", "sokoban"] = "sokoban"
    """What kind."""
    size: Annotated[int | None, optional("INT", "7 for Sokoban, 11 for mazes")] = None
    """Squares a side, outer wall included."""
    boxes: Annotated[tuple[int, int], arg(metavar="FEWEST MOST")] = (1, 2)
    """Boxes a Sokoban level has."""
    braid: Annotated[tuple[float, float], arg(metavar="LOW HIGH")] = (0.0, 0.5)
    """Share of a maze's dead ends that are opened into loops."""
    num: Annotated[int, arg(metavar="INT")] = 100
    """How many."""
    split: Literal["train", "valid", "test", "all"] = "all"
    """Only levels of this split."""
    seed: Annotated[int, arg(metavar="INT")] = 0
    """Any number from 0."""
    out: Annotated[Path | None, optional("FILE", "stdout")] = None
    """Where to."""
    json: AsJson = False


@dataclass(frozen=True)
class Solve:
    """Solve every level optimally: fewest moves, or fewest pushes.

    Examples:
      planprobe levels solve levels.xsb
      planprobe levels solve levels.xsb --metric pushes --json
    """

    file: LevelFile
    metric: Literal["moves", "pushes"] = "moves"
    """What to keep low; pushes is many times faster on large boards."""
    max_nodes: Annotated[int, arg(metavar="INT")] = 200_000
    """Give a level up after so many states: 'not solved within budget', which says nothing of whether it can be."""
    json: AsJson = False


@dataclass(frozen=True)
class Convert:
    """Read a level file, however ragged, and write it clean.

    Examples:
      planprobe levels convert old_collection.sok clean.xsb
      planprobe levels convert mine.xsb mine.txt --style boxoban
    """

    source: LevelFile
    target: Annotated[Positional[Path], arg(metavar="OUT", help="File to write.")]
    style: Literal["xsb", "boxoban"] = "xsb"
    """xsb takes everything; boxoban knows no box or player on a target."""
    json: AsJson = False


@dataclass(frozen=True)
class Show:
    """Draw one level of a file.

    Examples:
      planprobe levels show levels.xsb --index 3
    """

    file: LevelFile
    index: Annotated[int, arg(metavar="INT")] = 0
    """Which one, from 0, size by size in order of first appearance."""
    json: AsJson = False


def run(arguments: list[str]) -> int:
    """Parse and hand over."""
    choices = {"generate": Generate, "solve": Solve, "convert": Convert, "show": Show}
    options = parse_one_of(choices, arguments, verb="levels")
    return {Generate: _generate, Solve: _solve, Convert: _convert, Show: _show}[type(options)](options)


def _generate(options: Generate) -> int:
    from planprobe.subjects.envs.generate_maze import generate_mazes
    from planprobe.subjects.envs.generate_sokoban import generate_sokoban
    from planprobe.subjects.envs.level_text import level_to_text, write_levels

    if options.num < 1 or options.seed < 0:
        raise ArgumentError(f"--num {options.num} --seed {options.seed}: needs at least one level, and a seed from 0.")
    shared = {"seed": options.seed, "split": None if options.split == "all" else options.split}
    if options.task == "maze":
        levels = generate_mazes(options.num, size=options.size or 11, braid=options.braid, **shared)
    else:
        levels = generate_sokoban(options.num, size=options.size or 7, num_boxes=options.boxes, **shared)
    summary = _describe([levels]) | {"file": options.out and str(options.out), "sha256": levels.hash()}
    if options.out is not None:
        write_levels(options.out, levels)
        show(summary, [summary], as_json=options.json)
        return 0
    drawings = [level_to_text(board, int(player)) for board, player in zip(levels.boards, levels.players, strict=True)]
    if options.json:
        show(summary | {"drawings": drawings}, [], as_json=True)
    else:
        print("".join(f"; {number}\n{drawing}\n\n" for number, drawing in enumerate(drawings, start=1)), end="")
    return 0


def _solve(options: Solve) -> int:
    from planprobe.subjects.envs.level_text import read_levels
    from planprobe.subjects.envs.solver import solve_levels

    if options.max_nodes < 1:
        raise ArgumentError(f"--max-nodes {options.max_nodes}: needs at least one.")
    rows: list[Row] = []
    for levels in read_levels(options.file):
        for solution in solve_levels(levels, metric=options.metric, max_nodes=options.max_nodes):
            found = solution.status == "solved"
            rows.append({
                "index": len(rows), "board": f"{levels.height}x{levels.width}",
                "status": NOT_SOLVED if solution.status == "budget" else solution.status,
                "moves": solution.num_moves if found else None, "pushes": solution.num_pushes if found else None,
                "states": solution.num_nodes, "solution": "".join("udlr"[action] for action in solution.actions),
            })  # fmt: skip
    show({"file": str(options.file), "metric": options.metric, "rows": rows}, rows, as_json=options.json)
    return 0


def _convert(options: Convert) -> int:
    from planprobe.subjects.envs.level_text import read_levels, write_levels

    sets = read_levels(options.source)
    write_levels(options.target, sets, style=options.style)
    summary = _describe(sets) | {"file": str(options.target), "style": options.style}
    show(summary, [summary], as_json=options.json)
    return 0


def _show(options: Show) -> int:
    from planprobe.subjects.envs.level_text import level_to_text, read_levels

    sets = read_levels(options.file)
    singles = [levels[i] for levels in sets for i in range(len(levels))]
    if not 0 <= options.index < len(singles):
        raise ArgumentError(f"--index {options.index}: '{options.file}' holds levels 0 to {len(singles) - 1}.")
    level = singles[options.index]
    drawing = level_to_text(level.boards[0], int(level.players[0]))
    facts: Row = {"index": options.index, **_describe([level]), "sha256": level.hash()}
    if options.json:
        show(facts | {"rows": drawing.split("\n")}, [], as_json=True)
    else:
        print(drawing)
        print_table([facts])
    return 0


def _describe(sets: list[LevelSet]) -> Row:
    """How many levels, of which sizes and numbers of boxes."""
    from planprobe.core.grid import BOX

    sizes = [f"{levels.height}x{levels.width}" for levels in sets]
    boxes = Counter(int(n) for levels in sets for n in ((levels.boards & BOX) != 0).flatten(1).sum(1))
    return {
        "levels": sum(len(levels) for levels in sets), "boards": ", ".join(sizes),
        "boxes": ", ".join(f"{number} ({count}x)" for number, count in sorted(boxes.items())),
    }  # fmt: skip
