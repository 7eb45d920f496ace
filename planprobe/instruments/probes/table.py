"""The probe table: what can be read at every site, tick and window, beside all it could be read from without a plan.

    table = probe_table(opened, make_env, levels, "agent-approach-direction", random_policies=[...], planner=...)
    table.rows            # one a (label source, site, reading): scores, every control, delta over the best one, p
    table.by_horizon      # recall by time to the event, the control beside it
    table.subsets         # at branch squares; where the agent's way and the optimal way differ
    probe_tables(..., "all")                                    # several concepts on one recording, by name

Stages: the agent plays every level; a few states of each are recorded, with labels and activations; every reader
(probes and controls alike) is fitted on the train levels, tuned on the valid levels and scored once on the test levels;
the rows are put together, with intervals over levels and a Holm correction over the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from planprobe.core.errors import ShapeError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.instruments.addresses import select_sites
from planprobe.instruments.concepts.catalog import Concept, StateConcept, expand_concepts, get_concept
from planprobe.instruments.hooks import OpenedPolicy, open_policy
from planprobe.instruments.probes import state_bench
from planprobe.instruments.probes.bench import AGENT, CLONE, TWIN, ProbeBench, Reading
from planprobe.instruments.probes.linear_probes import L2_STRENGTHS, ProbeResult, fit_probe
from planprobe.instruments.probes.number_probes import NumberProbeResult
from planprobe.instruments.probes.online_code import OnlineCode
from planprobe.instruments.probes.recording import OPTIMAL, Geometry, Planner, Recording, Watch, record_states
from planprobe.instruments.probes.rows import RANDOM, Cell, ProbeKey, horizon_rows, subset_rows, table_rows
from planprobe.instruments.probes.splits import refuse_training_levels, split_by_level
from planprobe.instruments.probes.square_bench import SquareBench
from planprobe.instruments.probes.square_rows import gather_windows, list_rows
from planprobe.instruments.probes.state_bench import StateBench
from planprobe.instruments.probes.workers import work_side_by_side

Sites = str | Sequence[str]
AnyConcept = str | Concept | StateConcept
ProgressCallback = Callable[[float, str], None]
PLAYING, FITTING = 0.3, 0.95  # shares of the time at which playing and fitting end, for the progress bar
MIN_RANDOM_NETS = 2
ALTERNATIVE = "alternative"


@dataclass(frozen=True)
class ProbeTable:
    """Everything that was measured for one concept; rows as the module's text says.

    measure: of the score that decides, a column of `rows`: 'macro_f1' for classes, 'r2' for numbers.
    probes[label source, site, reading]: the read-outs of the first split; a reading is the side of a window, or the
    name of a read-out of whole states. notes: what a reader should know.
    """

    concept: str
    class_names: tuple[str, ...]
    rows: list[Row]
    by_horizon: list[Row]
    subsets: list[Row]
    probes: dict[ProbeKey, ProbeResult | NumberProbeResult] = field(repr=False)
    num_levels: int
    num_states: int
    num_random_nets: int
    solve_rate: float
    notes: list[str] = field(default_factory=list)
    measure: str = "macro_f1"

    def best(self, *, labels: str = "behaviour", kernel: Reading | None = 1) -> Row:
        """The row that did best on the valid levels; kernel None: of any reading.

        Raises: ShapeError (the table has no such rows).
        """
        rows = [row for row in self.rows if row["labels"] == labels and kernel in (None, _reading(row))]
        if not rows:
            has = ", ".join(dict.fromkeys(f"{row['readout']} of '{row['labels']}'" for row in self.rows))
            raise ShapeError(f"this table has no {kernel} probes of '{labels}' labels. It has: {has or 'nothing'}.")
        return max(rows, key=lambda row: row[f"valid_{self.measure}"] or 0.0)

    def probe(self, row: Row) -> ProbeResult | NumberProbeResult:
        """The read-out behind a row."""
        return self.probes[str(row["labels"]), str(row["site"]), _reading(row)]


def probe_table(
    agent: OpenedPolicy, make_env: EnvMaker, levels: LevelSet, concept: AnyConcept, **options
) -> ProbeTable:
    """Probe one concept at every chosen site of an agent, with all controls; options and errors of `probe_tables`."""
    concept = get_concept(concept)
    tables = probe_tables(agent, make_env, levels, concept, **options)
    if concept.name not in tables:
        raise ShapeError(
            f"'{concept.name}' has the same label everywhere on these levels, or none: there is nothing to read.\n"
            "  Box concepts need boxes, distances a planner, an alternative plan a second way."
        )
    return tables[concept.name]


def probe_tables(
    agent: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    concepts: AnyConcept | Sequence[AnyConcept] = "all",
    *,
    sites: Sites = "ticks.*.*.hook_h",
    kernels: Sequence[int] = (1, 3),
    readouts: Sequence[str] = ("pooled", "agent", "flat"),
    random_policies: Sequence[Policy] = (),
    twin: Policy | None = None,
    twin_sites: Sites = "ticks.*.*.hook_h",
    clone: Policy | None = None,
    planner: Planner | None = None,
    alternative: Planner | None = None,
    geometry: Geometry | None = None,
    per_level: int = 6,
    history: int = 4,
    only_solved: bool = False,
    max_steps: int | None = None,
    l2_strengths: Sequence[float] | None = None,
    description_length: bool = False,
    seeds: int = 1,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
) -> dict[str, ProbeTable]:
    """Probe several concepts on one recording of an agent, with all controls: a table of each, by name.

    Concepts that show one label only on these levels (boxes in a maze) get no table. Squares and states are two
    families of rows; Holm's correction is over one table.

    Args:
        agent: opened policy. levels: held-out levels, each played once; they are split 60/20/20.
        concepts: names of `concepts.CONCEPTS`, concepts of one's own, or 'all' for `concepts.BATTERY`.
        sites: patterns of `select_sites`; spatial sites, where a concept of squares is among the concepts.
        kernels: of square probes; readouts: of state probes, see `state_rows.READOUTS`.
        random_policies: untrained nets of the agent's architecture, two or more. twin: a memoryless net, trained on the
            task; clone: one that imitates the agent (`subjects.training.imitate`).
        planner: observations -> optimal futures: adds the label source 'optimal', distances, and rows where the sources
            differ. alternative: second-best ways, adds that source. geometry: observations -> planes of the board.
        per_level, only_solved, max_steps: see `record_states`; history: frames of the observation controls.
        l2_strengths: candidates of probes of classes, chosen from on the valid levels; by default `probes.L2_STRENGTHS`
            for squares and `state_bench.L2_STRENGTHS` for states, whose rows are few beside their features.
        description_length: also how many bits a label costs in the online code given the activations (`online_code`),
            and given those of the untrained net that does best; concepts with classes.
        seeds: number of splits of the levels; results are pooled by level over them. seed: of everything drawn.
        on_progress(fraction done, what is going on).
    Raises: TrainingLevelsError (levels of a train split); TooFewLevelsError (under ten levels); UnknownConceptError;
        UnknownSiteError; ShapeError (no squares there).
    """
    refuse_training_levels(levels)
    chosen, report = expand_concepts(concepts), on_progress or (lambda fraction, text: None)
    nets = _open_nets(agent, sites, random_policies, {TWIN: twin, CLONE: clone}, twin_sites)
    planners = {OPTIMAL: planner, ALTERNATIVE: alternative}
    watch = Watch(chosen, nets, {name: plan for name, plan in planners.items() if plan is not None}, geometry, history)
    recording = record_states(
        agent, make_env, levels, watch, per_level=per_level, only_solved=only_solved, max_steps=max_steps, seed=seed,
        on_batch=lambda fraction: report(PLAYING * fraction, "playing and recording"),
    )  # fmt: skip
    split_by_level(
        recording.level_ids, seed=seed
    )  # too few levels should be said before anything else is found wanting
    benches = _make_benches(recording, chosen, l2_strengths)
    readings: list[Sequence[Reading]] = [kernels if isinstance(bench, SquareBench) else readouts for bench in benches]
    work = len(benches) * seeds
    for number in range(seeds):
        for place, (bench, reading) in enumerate(zip(benches, readings, strict=True)):
            for fraction, text in bench.run_split(seed + number, reading):
                done = (number * len(benches) + place + fraction) / work
                report(PLAYING + (FITTING - PLAYING) * done, text)
    tables = {}
    for bench, reading in zip(benches, readings, strict=True):
        codes = bench.code_lengths(reading, seed=seed) if description_length else {}
        assemble = partial(
            _assemble, bench, readings=reading, num_random_nets=len(random_policies), num_levels=len(levels),
            has_twin=TWIN in nets,
        )  # fmt: skip
        for table in work_side_by_side(assemble, bench.concepts):
            report(FITTING, f"scored {table.concept}")
            _enter_codes(table.rows, codes, len(random_policies))
            tables[table.concept] = table
    report(1.0, "done")
    return {concept.name: tables[concept.name] for concept in chosen if concept.name in tables}


def fit_site_probes(
    agent: OpenedPolicy,
    make_env: EnvMaker,
    levels: LevelSet,
    concept: str | Concept | StateConcept,
    *,
    sites: Sites,
    kernel: int = 1,
    per_level: int = 6,
    seed: int = 0,
    **recording_options,
) -> dict[str, ProbeResult]:
    """Read-outs of a concept of squares at each chosen site, without controls: to decode boards, and to steer along.

    What they show is no evidence of anything; that takes `probe_table`. Options of `record_states`.
    Raises: ShapeError (a concept of states).
    """
    found = get_concept(concept)
    if not isinstance(found, Concept):
        raise ShapeError(f"'{found.name}' is a concept of states; squares are read here. See probe_table.")
    recording = record_states(
        agent, make_env, levels, Watch([found], {AGENT: (agent, sites)}, {}, history=1), per_level=per_level, seed=seed,
        **recording_options,
    )  # fmt: skip
    rows = list_rows(recording.floor, recording.level_ids)
    split = split_by_level(rows.level_ids, seed=seed)
    labels = rows.take(recording.labels[found.name]["behaviour"].values)
    return {
        site: fit_probe(
            gather_windows(values, rows, kernel), labels, level_ids=rows.level_ids, split=split,
            num_classes=found.num_classes, kernel=kernel,
        )
        for site, values in recording.activations[AGENT].items()
    }  # fmt: skip


def _reading(row: Row) -> Reading:
    return int(row["kernel"]) if row["kernel"] is not None else str(row["readout"])


def _open_nets(
    agent: OpenedPolicy,
    sites: Sites,
    random_policies: Sequence[Policy],
    others: dict[str, Policy | None],
    other_sites: Sites,
) -> dict[str, tuple[OpenedPolicy, Sites]]:
    """Every net to record, by name, with its sites; a misspelt site fails here, before anything is played."""
    nets = {AGENT: (agent, sites)}
    for number, policy in enumerate(random_policies):
        nets[f"{RANDOM}_{number}"] = (_opened(policy), sites)
    nets |= {name: (_opened(policy), other_sites) for name, policy in others.items() if policy is not None}
    for net, patterns in nets.values():
        select_sites(net, patterns)
    return nets


def _opened(policy: Policy) -> OpenedPolicy:
    return policy if isinstance(policy, OpenedPolicy) else open_policy(policy)


def _make_benches(
    recording: Recording, concepts: Sequence[Concept | StateConcept], l2_strengths: Sequence[float] | None
) -> list[ProbeBench]:
    """One for squares, one for states, where they have anything to read."""
    squares = [concept for concept in concepts if isinstance(concept, Concept)]
    states = [concept for concept in concepts if isinstance(concept, StateConcept)]
    benches: list[ProbeBench] = []
    if squares:
        benches.append(SquareBench(recording, squares, l2_strengths or L2_STRENGTHS))
    if states:
        benches.append(StateBench(recording, states, l2_strengths or state_bench.L2_STRENGTHS))
    return [bench for bench in benches if bench.concepts]


def _assemble(
    bench: ProbeBench,
    concept: Concept | StateConcept,
    readings: Sequence[Reading],
    num_random_nets: int,
    num_levels: int,
    has_twin: bool,
) -> ProbeTable:
    recording, board = bench.recording, bench.boards[concept.name]
    cells = [
        Cell(source, site, reading, bench.controls_of(site, reading))
        for source in bench.truths[concept.name]
        for site in recording.activations[AGENT]
        for reading in readings
    ]
    table = ProbeTable(
        concept=concept.name,
        class_names=concept.class_names,
        rows=table_rows(cells, board, bench.probes[concept.name], concept.name),
        by_horizon=horizon_rows(cells, board, concept.name),
        subsets=subset_rows(cells, board, concept.name),
        probes=bench.probes[concept.name],
        num_levels=len(bench.levels),
        num_states=len(recording),
        num_random_nets=num_random_nets,
        solve_rate=float(recording.solved.double().mean()),
        measure=board.measure.name,
    )
    table.notes.extend(_notes(bench, table, num_levels, has_twin=has_twin))
    return table


def _enter_codes(rows: list[Row], codes: dict[tuple[str, str, str], OnlineCode], num_random_nets: int) -> None:
    """Bits a label and compression, where codes were made."""
    for row in rows:
        key = (str(row["concept"]), str(row["labels"]))
        place = f"{row['site']}|{_reading(row)}"
        own = codes.get((*key, f"{AGENT}|{place}"))
        if own is None or not own.num_rows:
            continue
        row |= {"bits_per_label": own.bits / own.num_rows, "compression": own.compression}
        others = [codes[(*key, f"{RANDOM}_{number}|{place}")].compression for number in range(num_random_nets)]
        row["control_compression"] = max(others, default=None)


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
    labels = recording.labels[table.concept].get(OPTIMAL)
    if labels is not None:
        has_labels = labels.is_row.flatten(1).any(1) if labels.is_row.ndim > 1 else labels.is_row
        unknown = float((~has_labels).float().mean())
        if unknown > 0:
            notes.append(f"{unknown:.1%} of the states have no optimal labels: no plan is known for them.")
    if bench.num_unconverged:
        notes.append(f"{bench.num_unconverged} fits stopped before they had converged.")
    return notes
