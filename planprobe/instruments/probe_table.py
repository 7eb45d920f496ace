"""The probe table: what can be read at every site, tick and window, beside all it could be read from without a plan.

    table = probe_table(opened, make_env, levels, "agent-approach-direction", random_policies=[...], planner=...)
    table.rows            # one a (label source, site, kernel): scores, every control, delta over the best one, p
    table.by_horizon      # recall by time to the event, the control beside it
    table.subsets         # at branch squares; where the agent's way and the optimal way differ

Stages: the agent plays every level; a few states of each are recorded, with labels and activations; every reader
(probes and controls alike) is fitted on the train levels, tuned on the valid levels and scored once on the test levels;
the rows are put together, with intervals over levels and a Holm correction over the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from planprobe.core.errors import ShapeError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.instruments.addresses import select_sites
from planprobe.instruments.concepts import Concept, get_concept
from planprobe.instruments.hooks import OpenedPolicy, open_policy
from planprobe.instruments.probe_bench import AGENT, RANDOM, TWIN, ProbeBench
from planprobe.instruments.probe_rows import Cell, horizon_rows, subset_rows, table_rows
from planprobe.instruments.probes import L2_STRENGTHS, ProbeResult, fit_probe
from planprobe.instruments.recording import Planner, record_states
from planprobe.instruments.splits import split_by_level
from planprobe.instruments.square_rows import gather_windows, list_rows

Sites = str | Sequence[str]
ProgressCallback = Callable[[float, str], None]
PLAYING = 0.4  # share of the time that playing and replaying take, for the progress bar
MIN_RANDOM_NETS = 2


@dataclass(frozen=True)
class ProbeTable:
    """Everything that was measured for one concept; rows as the module's text says.

    probes[label source, site, kernel]: the read-outs of the first split. notes: what a reader should know.
    """

    concept: str
    class_names: tuple[str, ...]
    rows: list[Row]
    by_horizon: list[Row]
    subsets: list[Row]
    probes: dict[tuple[str, str, int], ProbeResult] = field(repr=False)
    num_levels: int
    num_states: int
    num_random_nets: int
    solve_rate: float
    notes: list[str] = field(default_factory=list)

    def best(self, *, labels: str = "behaviour", kernel: int = 1) -> Row:
        """The row that did best on the valid levels. Raises: ShapeError (the table has no such rows)."""
        rows = [row for row in self.rows if row["labels"] == labels and row["kernel"] == kernel]
        if not rows:
            raise ShapeError(f"this table has no {kernel}x{kernel} probes of '{labels}' labels.")
        return max(rows, key=lambda row: row["valid_macro_f1"] or 0.0)

    def probe(self, row: Row) -> ProbeResult:
        """The read-out behind a row."""
        return self.probes[str(row["labels"]), str(row["site"]), int(row["kernel"] or 1)]


def probe_table(
    agent: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    concept: str | Concept,
    *,
    sites: Sites = "ticks.*.*.hook_h",
    kernels: Sequence[int] = (1, 3),
    random_policies: Sequence[Policy] = (),
    twin: Policy | None = None,
    twin_sites: Sites = "ticks.*.*.hook_h",
    planner: Planner | None = None,
    per_level: int = 6,
    history: int = 4,
    only_solved: bool = False,
    max_steps: int | None = None,
    l2_strengths: Sequence[float] = L2_STRENGTHS,
    seeds: int = 1,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
) -> ProbeTable:
    """Probe one concept at every chosen site of an agent, with all controls.

    Args:
        agent: opened policy. levels: held-out levels, each played once; they are split 60/20/20.
        sites: patterns of `select_sites`, spatial sites; 'ticks.*.*.hook_c' for cells in place of hidden states.
        random_policies: untrained nets of the agent's architecture, two or more. twin: a memoryless net, trained.
        planner: observations -> optimal futures: adds the label source 'optimal', and rows where the sources differ.
        per_level, history, only_solved, max_steps: see `record_states`.
        seeds: number of splits of the levels; results are pooled by level over them. seed: of everything drawn.
        on_progress(fraction done, what is going on).
    Raises: TooFewLevelsError (under ten levels); UnknownConceptError; UnknownSiteError; ShapeError (no squares there).
    """
    concept, report = get_concept(concept), on_progress or (lambda fraction, text: None)
    nets = _open_nets(agent, sites, random_policies, twin, twin_sites)
    recording = record_states(
        agent, make_env, levels, concept, nets=nets, planner=planner, per_level=per_level, history=history,
        only_solved=only_solved, max_steps=max_steps, seed=seed,
        on_batch=lambda fraction: report(PLAYING * fraction, "playing and recording"),
    )  # fmt: skip
    bench = ProbeBench(recording, concept, l2_strengths)
    for number in range(seeds):
        for fraction, text in bench.run_split(seed + number, kernels):
            report(PLAYING + (1 - PLAYING) * (number + fraction) / seeds, text)
    table = _assemble(bench, concept, kernels, num_random_nets=len(random_policies))
    table.notes.extend(_notes(bench, table, len(levels), has_twin=twin is not None))
    report(1.0, "done")
    return table


def fit_site_probes(
    agent: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    concept: str | Concept,
    *,
    sites: Sites,
    kernel: int = 1,
    per_level: int = 6,
    seed: int = 0,
    **recording_options,
) -> dict[str, ProbeResult]:
    """Read-outs of a concept at each chosen site, without controls: for decoding boards and for steering directions.

    What they show is no evidence of anything; that takes `probe_table`. Options of `record_states`.
    """
    concept = get_concept(concept)
    recording = record_states(
        agent, make_env, levels, concept, nets={AGENT: (agent, sites)}, per_level=per_level, seed=seed,
        **recording_options,
    )  # fmt: skip
    rows = list_rows(recording.floor, recording.level_ids)
    split = split_by_level(rows.level_ids, seed=seed)
    labels = rows.take(recording.labels["behaviour"].values)
    return {
        site: fit_probe(
            gather_windows(values, rows, kernel), labels, level_ids=rows.level_ids, split=split,
            num_classes=concept.num_classes, kernel=kernel,
        )
        for site, values in recording.activations[AGENT].items()
    }  # fmt: skip


def _open_nets(
    agent: OpenedPolicy, sites: Sites, random_policies: Sequence[Policy], twin: Policy | None, twin_sites: Sites
) -> dict[str, tuple[OpenedPolicy, Sites]]:
    """Every net to record, by name, with its sites; a misspelt site fails here, before anything is played."""
    nets = {AGENT: (agent, sites)}
    for number, policy in enumerate(random_policies):
        nets[f"{RANDOM}_{number}"] = (_opened(policy), sites)
    if twin is not None:
        nets[TWIN] = (_opened(twin), twin_sites)
    for net, patterns in nets.values():
        select_sites(net, patterns)
    return nets


def _opened(policy: Policy) -> OpenedPolicy:
    return policy if isinstance(policy, OpenedPolicy) else open_policy(policy)


def _assemble(bench: ProbeBench, concept: Concept, kernels: Sequence[int], *, num_random_nets: int) -> ProbeTable:
    recording, board = bench.recording, bench.scoreboard
    cells = [
        Cell(source, site, kernel, bench.controls_of(site, kernel))
        for source in recording.labels
        for site in recording.activations[AGENT]
        for kernel in kernels
    ]
    return ProbeTable(
        concept=concept.name,
        class_names=concept.class_names,
        rows=table_rows(cells, board, bench.probes, concept.name),
        by_horizon=horizon_rows(cells, board, concept.name),
        subsets=subset_rows(cells, board, concept.name),
        probes=bench.probes,
        num_levels=len(bench.levels),
        num_states=len(recording),
        num_random_nets=num_random_nets,
        solve_rate=float(recording.solved.float().mean()),
    )


def _notes(bench: ProbeBench, table: ProbeTable, num_levels: int, *, has_twin: bool) -> list[str]:
    notes, recording = [], bench.recording
    if table.num_random_nets < MIN_RANDOM_NETS:
        notes.append(
            f"Nets with random weights: {table.num_random_nets}; as a control it takes {MIN_RANDOM_NETS} or more."
        )
    if not has_twin:
        notes.append("No memoryless twin was given, so that control is missing.")
    if len(bench.levels) < num_levels:
        notes.append(f"States come from {len(bench.levels)} of {num_levels} levels.")
    if "optimal" in recording.labels:
        unknown = (~recording.labels["optimal"].is_row & recording.floor).flatten(1).any(1).float().mean()
        if unknown > 0:
            notes.append(f"{float(unknown):.1%} of the states have no optimal labels: no plan is known for them.")
    if bench.num_unconverged:
        notes.append(f"{bench.num_unconverged} fits stopped before they had converged.")
    return notes
