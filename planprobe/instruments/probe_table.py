"""The probe table: what can be read at every site, tick and window, beside everything it could be read from without a plan.

    table = probe_table(opened, make_env, levels, "agent-approach-direction", random_policies=[...], planner=...)
    table.rows            # one a (label source, site, kernel): scores, every control, delta over the best one, p
    table.by_horizon      # recall by time to the event, the control beside it
    table.subsets         # at branch squares; where the agent's way and the optimal way differ

Stages: the agent plays every level; a few states of each are recorded, with labels and activations; every reader (probes
and controls alike) is fitted on the train levels, tuned on the valid levels and scored once on the test levels; the rows
are put together with intervals over levels and a Holm correction over the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from planprobe.core.errors import ShapeError
from planprobe.core.levels import LevelSet
from planprobe.core.play import EnvMaker
from planprobe.core.protocols import Policy
from planprobe.core.records import Row
from planprobe.instruments.addresses import select_sites
from planprobe.instruments.concepts import Concept, branch_squares, get_concept
from planprobe.instruments.controls import (
    WindowPCA, control_task_labels, fit_window_pca, majority_class, shuffle_label_maps, stack_history,
)  # fmt: skip
from planprobe.instruments.hooks import OpenedPolicy, open_policy
from planprobe.instruments.metrics import count_confusions, macro_f1
from planprobe.instruments.probe_rows import Cell, horizon_rows, subset_rows, table_rows
from planprobe.instruments.probes import L2_STRENGTHS, ProbeResult, fit_probes
from planprobe.instruments.recording import Planner, Recording, record_states
from planprobe.instruments.scoreboard import Scoreboard, Truth, differing_states, make_truth
from planprobe.instruments.splits import Split, split_by_level
from planprobe.instruments.square_rows import SquareRows, gather_windows, list_rows

ProgressCallback = Callable[[float, str], None]
AGENT, TWIN, RANDOM = "agent", "twin", "random_weights"
PLAYING = 0.4  # share of the time that playing and replaying take, for the progress bar
MIN_RANDOM_NETS = 2


@dataclass(frozen=True)
class ProbeTable:
    """Everything that was measured for one concept; rows as the module's text says.

    probes[label source, site, kernel]: the read-out of the first seed. notes: what a reader should know.
    """

    concept: str
    class_names: tuple[str, ...]
    rows: list[Row]
    by_horizon: list[Row]
    subsets: list[Row]
    probes: dict[tuple[str, str, int], ProbeResult] = field(repr=False)
    num_levels: int
    num_states: int
    solve_rate: float
    notes: list[str]

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
    sites: str | Sequence[str] = "ticks.*.*.hook_h",
    kernels: Sequence[int] = (1, 3),
    random_policies: Sequence[Policy] = (),
    twin: Policy | None = None,
    twin_sites: str | Sequence[str] = "ticks.*.*.hook_h",
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
        random_policies: untrained nets of the agent's architecture, two or more. twin: a memoryless net trained on the task.
        planner: observations -> optimal futures: adds the label source 'optimal' and the rows where the two sources differ.
        per_level, history, only_solved, max_steps: see `record_states`.
        seeds: how many splits of the levels; results are pooled by level over them. seed: of states, splits, controls.
        on_progress(fraction done, what is going on).
    Raises: TooFewLevelsError (under ten levels); UnknownConceptError; UnknownSiteError; ShapeError (a site has no squares).
    """
    concept, report = get_concept(concept), on_progress or (lambda fraction, text: None)
    nets = _open_nets(agent, sites, random_policies, twin, twin_sites)
    recording = record_states(
        agent, make_env, levels, concept, nets=nets, planner=planner, per_level=per_level, history=history,
        only_solved=only_solved, max_steps=max_steps, seed=seed,
        on_batch=lambda fraction: report(PLAYING * fraction, "playing and recording"),
    )  # fmt: skip
    bench = _Bench(recording, concept, l2_strengths)
    for number in range(seeds):
        begin, share = PLAYING + (1 - PLAYING) * number / seeds, (1 - PLAYING) / seeds
        for fraction, text in bench.run_seed(seed + number, kernels):
            report(begin + share * fraction, text)
    cells = [
        Cell(source, site, kernel, _controls_of(recording, bench, site, kernel))
        for source in recording.labels
        for site in recording.activations[AGENT]
        for kernel in kernels
    ]
    report(1.0, "done")
    return ProbeTable(
        concept=concept.name, class_names=concept.class_names,
        rows=table_rows(cells, bench.scoreboard, bench.probes, concept.name),
        by_horizon=horizon_rows(cells, bench.scoreboard, concept.name),
        subsets=subset_rows(cells, bench.scoreboard, concept.name), probes=bench.probes,
        num_levels=len(bench.levels), num_states=len(recording), solve_rate=float(recording.solved.float().mean()),
        notes=_notes(recording, bench, len(levels), len(random_policies), twin is not None),
    )  # fmt: skip


class _Bench:
    """Fits every reader on the same rows, one split of the levels after the other."""

    def __init__(self, recording: Recording, concept: Concept, l2_strengths: Sequence[float]) -> None:
        self.recording, self.num_classes, self.l2_strengths = recording, concept.num_classes, tuple(l2_strengths)
        self.rows = list_rows(recording.floor, recording.level_ids)
        self.levels, self.level_index = self.rows.level_ids.unique(return_inverse=True)
        self.scoreboard = Scoreboard(len(self.levels), self.num_classes)
        self.probes: dict[tuple[str, str, int], ProbeResult] = {}
        self.truths = self._truths()
        self.present = recording.recent[:, 0]
        self.past = stack_history(recording.recent, recording.seen)
        self.unconverged = 0

    def _truths(self) -> dict[str, Truth]:
        labels = self.recording.labels
        subsets = {"branch_squares": self.rows.take(branch_squares(self.recording.floor))}
        if "optimal" in labels:
            subsets["sources_differ"] = differing_states(labels["behaviour"], labels["optimal"])[self.rows.states]
        return {
            source: make_truth(
                *(self.rows.take(part).to(torch.int64) for part in (maps.values, maps.horizon, maps.pushes)), subsets
            )
            for source, maps in labels.items()
        }

    def num_features(self, site: str, kernel: int) -> int:
        return self.recording.activations[AGENT][site].shape[1] * kernel**2

    def run_seed(self, seed: int, kernels: Sequence[int]) -> Iterator[tuple[float, str]]:
        """Everything on one split; yields (fraction done, what comes next)."""
        split = split_by_level(self.rows.level_ids, seed=seed)
        concept_only = {source: {"": truth} for source, truth in self.truths.items()}
        with_decoys = {
            source: {"": truth, **self._decoys(source, split, seed)} for source, truth in self.truths.items()
        }
        self._add_majority(split)
        stages = list(self._stages(split, seed, kernels))
        for number, (name, kernel, make_features) in enumerate(stages):
            yield number / len(stages), f"probing {name}"
            of_agent = name.startswith(f"{AGENT}|")
            self._fit(name, kernel, make_features(), with_decoys if of_agent else concept_only, split)

    def _stages(
        self, split: Split, seed: int, kernels: Sequence[int]
    ) -> Iterator[tuple[str, int, Callable[[], Tensor]]]:
        """(reader, kernel, features (N, D)) of every set of features."""
        widths = sorted({self.num_features(site, k) for site in self.recording.activations[AGENT] for k in kernels})
        for name, planes in (("observation", self.present), ("history", self.past)):
            for kernel in (1, 3):
                yield f"{name}_{kernel}x{kernel}", kernel, lambda p=planes, k=kernel: gather_windows(p, self.rows, k)
            fitted: list[WindowPCA] = []

            def project(width: int, planes: Tensor = planes, fitted: list[WindowPCA] = fitted) -> Tensor:
                if not fitted:
                    fitted.append(
                        fit_window_pca(planes, self.rows, split.train, num_components=widths[-1], seed=seed)
                    )
                return fitted[0].project(planes, self.rows, width)

            for width in widths:
                yield f"{name}_full|{width}", 1, lambda project=project, width=width: project(width)
        for net, sites in self.recording.activations.items():
            for site, values in sites.items():
                for kernel in kernels:
                    yield f"{net}|{site}|{kernel}", kernel, lambda v=values, k=kernel: gather_windows(v, self.rows, k)

    def _decoys(self, source: str, split: Split, seed: int) -> dict[str, Truth]:
        """Label maps that a probe at the same site should not be able to read."""
        maps = self.recording.labels[source].values
        of_state = [torch.zeros(len(self.recording), dtype=torch.bool) for _ in split]
        for mask, rows in zip(of_state, split, strict=True):
            mask[self.rows.states[rows]] = True
        shuffled = self.rows.take(shuffle_label_maps(maps, self.recording.level_ids, tuple(of_state), seed=seed))
        labels = self.truths[source].labels
        train = labels[split.train]
        frequencies = torch.bincount(train[train >= 0], minlength=self.num_classes)
        task = control_task_labels(self.rows, self.present, frequencies, seed=seed).masked_fill(labels < 0, -1)
        return {
            "shuffled_labels": Truth(shuffled.to(torch.int64), {}, {}),
            "control_task": Truth(task, {}, {}),
        }

    def _add_majority(self, split: Split) -> None:
        test_rows = split.test.nonzero().squeeze(1)
        for source, truth in self.truths.items():
            answer = majority_class(truth.labels[split.train], self.num_classes)
            valid = truth.labels[split.valid]
            score = macro_f1(
                count_confusions(valid, torch.full_like(valid, answer), num_classes=self.num_classes).sum(0)
            )
            self.scoreboard.add(
                source, "majority", truth, test_rows, self.level_index,
                torch.full((len(test_rows),), answer, dtype=torch.int8), valid=float(score),
            )  # fmt: skip

    def _fit(
        self, name: str, kernel: int, features: Tensor, targets: dict[str, dict[str, Truth]], split: Split
    ) -> None:
        """Fit one set of features to every target at once and enter the results."""
        flat = [(source, decoy, truth) for source, truths in targets.items() for decoy, truth in truths.items()]
        results = fit_probes(
            features, torch.stack([truth.labels for _, _, truth in flat]), level_ids=self.rows.level_ids, split=split,
            num_classes=self.num_classes, l2_strengths=self.l2_strengths, kernel=kernel,
        )[0]  # fmt: skip
        test_rows = split.test.nonzero().squeeze(1)
        for (source, decoy, truth), result in zip(flat, results, strict=True):
            reader = f"{decoy}|{name}" if decoy else name
            self.scoreboard.add(
                source, reader, truth, test_rows, self.level_index, result.test_predictions, valid=result.valid_score
            )
            self.unconverged += not result.converged
            if name.startswith(f"{AGENT}|") and not decoy:
                self.probes.setdefault((source, name.split("|")[1], kernel), result)


def _open_nets(
    agent: OpenedPolicy, sites: str | Sequence[str], random_policies: Sequence[Policy], twin: Policy | None, twin_sites
) -> dict[str, tuple[OpenedPolicy, str | Sequence[str]]]:
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


def _controls_of(recording: Recording, bench: _Bench, site: str, kernel: int) -> dict[str, list[str]]:
    """Readers behind each control of one cell; of several the best on valid counts."""
    width = bench.num_features(site, kernel)
    controls = {"majority": ["majority"]}
    for name in ("observation", "history"):
        controls |= {f"{name}_{k}x{k}": [f"{name}_{k}x{k}"] for k in (1, 3)}
        controls[f"{name}_full"] = [f"{name}_full|{width}"]
    for net, sites in recording.activations.items():
        if net.startswith(RANDOM) and site in sites:
            controls[net] = [f"{net}|{site}|{kernel}"]
        if net == TWIN:
            controls[TWIN] = [f"{TWIN}|{other}|{kernel}" for other in sites]
    for decoy in ("shuffled_labels", "control_task"):
        controls[decoy] = [f"{decoy}|{AGENT}|{site}|{kernel}"]
    return controls


def _notes(recording: Recording, bench: _Bench, num_levels: int, num_random: int, has_twin: bool) -> list[str]:
    notes = []
    if num_random < MIN_RANDOM_NETS:
        notes.append(f"{num_random} nets with random weights were given; {MIN_RANDOM_NETS} or more make a control.")
    if not has_twin:
        notes.append("no memoryless twin was given, so that control is missing.")
    if len(bench.levels) < num_levels:
        notes.append(f"states come from {len(bench.levels)} of {num_levels} levels.")
    if "optimal" in recording.labels:
        unknown = (~recording.labels["optimal"].is_row & recording.floor).flatten(1).any(1).float().mean()
        if unknown > 0:
            notes.append(f"no optimal plan is known for {float(unknown):.1%} of the states; they carry no optimal labels.")
    if bench.unconverged:
        notes.append(f"{bench.unconverged} fits stopped before they had converged.")
    return notes
