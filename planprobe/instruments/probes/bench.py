"""The bench of probe tables: every reader, probes and controls alike, fitted on the same rows and the same splits.

Names of readers are 'net|site|reading' for anything read off a net, and the control's name elsewhere. A reading is the
side of a window (probes of squares) or the name of a read-out (probes of states). One set of features serves every
concept, label source and decoy at once: those with equally many classes are solved together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from planprobe.instruments.concepts.labels import Concept, StateConcept
from planprobe.instruments.probes.controls import CONTROL_TASK, SHUFFLED, majority_class, shuffle_label_maps
from planprobe.instruments.probes.linear_probes import L2_STRENGTHS, TOLERANCE, ProbeResult, fit_probes
from planprobe.instruments.probes.measures import Measure, class_measure, is_labelled, number_measure
from planprobe.instruments.probes.number_probes import NumberProbeResult, fit_number_probes
from planprobe.instruments.probes.online_code import OnlineCode, online_codes
from planprobe.instruments.probes.recording import Recording
from planprobe.instruments.probes.rows import RANDOM
from planprobe.instruments.probes.scoreboard import Scoreboard, Truth
from planprobe.instruments.probes.splits import Split, split_by_level
from planprobe.instruments.probes.workers import work_side_by_side

AGENT, TWIN, CLONE, MAJORITY = "agent", "twin", "clone", "majority"
BEST_LAYER = (TWIN, CLONE)  # nets of another architecture: their best layer is the control

Reading = int | str
Stage = tuple[str, int, Callable[[], Tensor]]
"""A reader's name, its window (1 where it is none), and the function that makes its features (N, D) in their turn."""
AnyConcept = TypeVar("AnyConcept", Concept, StateConcept)


@dataclass(frozen=True)
class Target:
    """One label map to be read: of a concept by a source, or a decoy of it ('' = the labels themselves)."""

    concept: str
    source: str
    decoy: str
    truth: Truth
    num_classes: int


Fit = tuple[Target, ProbeResult | NumberProbeResult]


class ProbeBench(ABC, Generic[AnyConcept]):
    """Fits every reader, one split of the levels after the other; `boards` and `probes` hold the outcome.

    boards[concept]: a scoreboard. probes[concept][label source, site, reading]: the agent's read-outs, of the first
    split. constant: concepts of which the recording shows one class only; they are left out.
    """

    tolerance = TOLERANCE  # of `solve_softmax`, for concepts with classes

    def __init__(
        self, recording: Recording, concepts: Sequence[AnyConcept], l2_strengths: Sequence[float] = L2_STRENGTHS
    ) -> None:
        self.recording, self.l2_strengths = recording, tuple(l2_strengths)
        self.row_level_ids = self._list_rows()
        self.levels, self.level_index = self.row_level_ids.unique(return_inverse=True)
        truths = {concept.name: self._make_truths(concept) for concept in concepts}
        self.concepts = [concept for concept in concepts if _is_varied(truths[concept.name])]
        self.constant = [concept.name for concept in concepts if not _is_varied(truths[concept.name])]
        self.truths = {concept.name: truths[concept.name] for concept in self.concepts}
        self.boards = {each.name: Scoreboard(len(self.levels), measure_of(each)) for each in self.concepts}
        self.probes: dict[str, dict[tuple[str, str, Reading], ProbeResult | NumberProbeResult]] = {
            concept.name: {} for concept in self.concepts
        }
        self.num_unconverged = 0
        self._test_rows = torch.empty(
            0, dtype=torch.int64
        )  # of the present split; every reader's answers refer to them

    def run_split(self, seed: int, readings: Sequence[Reading]) -> Iterator[tuple[float, str]]:
        """Everything on one split; yields (fraction done, what was done last)."""
        split = split_by_level(self.row_level_ids, seed=seed)
        self._test_rows = split.test.nonzero().squeeze(1)
        targets = self._list_targets(split, seed)
        plain = [target for target in targets if not target.decoy]
        self._enter_majority(plain, split)
        stages = [*self._observed_stages(split, seed, readings), *self._net_stages(readings)]

        def fit(stage: Stage) -> list[Fit]:
            reader, kernel, make_features = stage
            chosen = targets if reader.startswith(f"{AGENT}|") else plain
            return self._fit(kernel, make_features(), chosen, split)

        for number, ((reader, _, _), fits) in enumerate(zip(stages, work_side_by_side(fit, stages), strict=True), 1):
            for target, result in fits:
                self._enter(reader, target, result)
            yield number / len(stages), f"probing {reader}"

    def code_lengths(self, readings: Sequence[Reading], *, seed: int) -> dict[tuple[str, str, str], OnlineCode]:
        """Online codes of every concept with classes, by (concept, label source, reader), of the agent and nets with
        random weights."""
        plain = [
            (concept, source, truth) for concept in self.concepts for source, truth in self.truths[concept.name].items()
        ]
        codes: dict[tuple[str, str, str], OnlineCode] = {}
        for reader, _, make_features in self._net_stages(readings):
            if not reader.startswith((f"{AGENT}|", RANDOM)):
                continue
            features = make_features()
            for num_classes in sorted({concept.num_classes for concept, _, _ in plain} - {0}):
                group = [each for each in plain if each[0].num_classes == num_classes]
                found = online_codes(
                    features, torch.stack([truth.labels for _, _, truth in group]), level_ids=self.row_level_ids,
                    num_classes=num_classes, seed=seed,
                )  # fmt: skip
                codes |= {
                    (concept.name, source, reader): code
                    for (concept, source, _), code in zip(group, found, strict=True)
                }
        return codes

    def controls_of(self, site: str, reading: Reading) -> dict[str, list[str]]:
        """The readers behind each control of one cell; of several the one that does best on valid counts."""
        controls = {MAJORITY: [MAJORITY], **self._observed_controls(site, reading)}
        for net, sites in self.recording.activations.items():
            if net.startswith(RANDOM):
                controls[net] = [f"{net}|{site}|{reading}"]
            if net in BEST_LAYER:
                controls[net] = [f"{net}|{layer}|{reading}" for layer in sites]
        for decoy in (SHUFFLED, CONTROL_TASK):
            controls[decoy] = [f"{decoy}|{AGENT}|{site}|{reading}"]
        return controls

    # what a kind of rows defines -------------------------------------------------------------------------------------
    @abstractmethod
    def _list_rows(self) -> Tensor:
        """Set up the rows; the level of each, (N,)."""

    @abstractmethod
    def _make_truths(self, concept: AnyConcept) -> dict[str, Truth]:
        """What is known about the rows, by label source."""

    @abstractmethod
    def _take(self, maps: Tensor) -> Tensor:
        """Values of the rows from values of the states."""

    @abstractmethod
    def _control_task(self, target: Truth, split: Split, num_classes: int, seed: int) -> Tensor:
        """Labels that depend on nothing but a place and what stands there."""

    @abstractmethod
    def _features(self, values: Tensor, reading: Reading) -> Tensor:
        """What a read-out sees on each row, (N, D)."""

    @abstractmethod
    def _observed_stages(self, split: Split, seed: int, readings: Sequence[Reading]) -> Iterator[Stage]:
        """Readers of what was seen."""

    @abstractmethod
    def _observed_controls(self, site: str, reading: Reading) -> dict[str, list[str]]:
        """Those of them that stand beside one cell."""

    # shared ----------------------------------------------------------------------------------------------------------
    def _list_targets(self, split: Split, seed: int) -> list[Target]:
        targets = []
        for concept in self.concepts:
            for source, truth in self.truths[concept.name].items():
                task = self._control_task(truth, split, concept.num_classes, seed)
                shuffled = self._shuffle(concept.name, source, split, seed)
                truths = {"": truth, SHUFFLED: Truth(shuffled), CONTROL_TASK: Truth(task)}
                targets += [
                    Target(concept.name, source, decoy, labels, concept.num_classes) for decoy, labels in truths.items()
                ]
        return targets

    def _shuffle(self, concept: str, source: str, split: Split, seed: int) -> Tensor:
        """Labels of other levels of the same part of the split."""
        level_ids, parts = self.recording.level_ids, []
        for mask in split:
            parts.append(torch.isin(level_ids, self.row_level_ids[mask].unique()))
        values = self.recording.labels[concept][source].values
        shuffled = self._take(shuffle_label_maps(values, level_ids, tuple(parts), seed=seed))
        return shuffled if shuffled.is_floating_point() else shuffled.to(torch.int64)

    def _net_stages(self, readings: Sequence[Reading]) -> Iterator[Stage]:
        for net, sites in self.recording.activations.items():
            for site, values in sites.items():
                for reading in readings:
                    kernel = reading if isinstance(reading, int) else 1
                    yield f"{net}|{site}|{reading}", kernel, lambda v=values, r=reading: self._features(v, r)

    def _enter_majority(self, targets: Sequence[Target], split: Split) -> None:
        """The constant that does best on the train rows: the most frequent class, or the mean."""
        test_rows = self._test_rows
        for target in targets:
            labels, board = target.truth.labels, self.boards[target.concept]
            train, valid = labels[split.train], labels[split.valid]
            if target.num_classes:
                answer = torch.tensor(majority_class(train, target.num_classes), device=labels.device)
            else:
                answer = train[is_labelled(train)].mean(0)
            counts = board.measure.count(valid, answer.expand(valid.shape))
            score = float(board.measure.score(counts.sum(0)))
            predicted = answer.expand(labels[test_rows].shape)
            board.add(target.source, MAJORITY, target.truth, test_rows, self.level_index, predicted, valid=score)

    def _fit(self, kernel: int, features: Tensor, targets: Sequence[Target], split: Split) -> list[Fit]:
        """One set of features fitted to every target, those with equally many classes at once."""
        fits: list[Fit] = []
        for num_classes in sorted({target.num_classes for target in targets}):
            group = [target for target in targets if target.num_classes == num_classes]
            fits += zip(group, self._solve(features, group, split, num_classes, kernel), strict=True)
        return fits

    def _enter(self, reader: str, target: Target, result: ProbeResult | NumberProbeResult) -> None:
        name = f"{target.decoy}|{reader}" if target.decoy else reader
        predicted, valid = result.test_predictions, result.valid_score
        board = self.boards[target.concept]
        board.add(target.source, name, target.truth, self._test_rows, self.level_index, predicted, valid=valid)
        self.num_unconverged += not result.converged
        if reader.startswith(f"{AGENT}|") and not target.decoy:
            _, site, reading = reader.split("|")
            key = (target.source, site, int(reading) if reading.isdigit() else reading)
            self.probes[target.concept].setdefault(key, result)

    def _solve(
        self, features: Tensor, group: Sequence[Target], split: Split, num_classes: int, kernel: int
    ) -> Sequence[ProbeResult | NumberProbeResult]:
        labels = [target.truth.labels for target in group]
        if not num_classes:
            return fit_number_probes(features, labels, level_ids=self.row_level_ids, split=split)
        return fit_probes(
            features, torch.stack(labels), level_ids=self.row_level_ids, split=split, num_classes=num_classes,
            l2_strengths=self.l2_strengths, kernel=kernel, tolerance=self.tolerance,
        )[0]  # fmt: skip


def measure_of(concept: Concept | StateConcept) -> Measure:
    """How its predictions are scored."""
    return class_measure(concept.num_classes) if concept.num_classes else number_measure()


def _is_varied(truths: dict[str, Truth]) -> bool:
    """Whether some label source shows two different labels: with one, there is nothing to read."""
    return any(len(truth.labels[is_labelled(truth.labels)].unique(dim=0)) > 1 for truth in truths.values())
