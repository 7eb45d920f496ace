"""The bench of a probe table: every reader, probes and controls alike, fitted on the same rows and the same splits.

Names of readers are 'net|site|kernel' for anything read off a net, and the control's name elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from planprobe.instruments.concepts import Concept, branch_squares
from planprobe.instruments.controls import (
    CONTROL_TASK,
    SHUFFLED,
    WindowPCA,
    control_task_labels,
    fit_window_pca,
    majority_class,
    shuffle_label_maps,
    stack_history,
)
from planprobe.instruments.metrics import count_confusions, macro_f1
from planprobe.instruments.probes import ProbeResult, fit_probes
from planprobe.instruments.recording import Recording
from planprobe.instruments.scoreboard import Scoreboard, Truth, differing_states, make_truth
from planprobe.instruments.splits import Split, split_by_level
from planprobe.instruments.square_rows import gather_windows, list_rows

AGENT, TWIN, RANDOM, MAJORITY = "agent", "twin", "random_weights", "majority"
OBSERVED = ("observation", "history")
OBSERVED_KERNELS = (1, 3)

Stage = tuple[str, int, Callable[[], Tensor]]
"""A reader's name, its window, and the function that makes its features (N, D) when their turn comes."""


class ProbeBench:
    """Fits every reader, one split of the levels after the other; `scoreboard` and `probes` hold the outcome.

    probes[label source, site, kernel]: the agent's read-outs, of the first split.
    """

    def __init__(self, recording: Recording, concept: Concept, l2_strengths: Sequence[float]) -> None:
        self.recording, self.num_classes, self.l2_strengths = recording, concept.num_classes, tuple(l2_strengths)
        self.rows = list_rows(recording.floor, recording.level_ids)
        self.levels, self.level_index = self.rows.level_ids.unique(return_inverse=True)
        self.scoreboard = Scoreboard(len(self.levels), self.num_classes)
        self.probes: dict[tuple[str, str, int], ProbeResult] = {}
        self.truths = self._make_truths()
        self.present = recording.recent[:, 0]
        self.past = stack_history(recording.recent, recording.seen)
        self.num_unconverged = 0

    def run_split(self, seed: int, kernels: Sequence[int]) -> Iterator[tuple[float, str]]:
        """Everything on one split; yields (fraction done, what comes next)."""
        split = split_by_level(self.rows.level_ids, seed=seed)
        concept_only = {source: {"": truth} for source, truth in self.truths.items()}
        with_decoys = {
            source: {"": truth, **self._make_decoys(source, split, seed)} for source, truth in self.truths.items()
        }
        self._enter_majority(split)
        stages = [*self._observation_stages(split, seed, kernels), *self._net_stages(kernels)]
        for number, (reader, kernel, make_features) in enumerate(stages):
            yield number / len(stages), f"probing {reader}"
            targets = with_decoys if reader.startswith(f"{AGENT}|") else concept_only
            self._fit(reader, kernel, make_features(), targets, split)

    def controls_of(self, site: str, kernel: int) -> dict[str, list[str]]:
        """The readers behind each control of one cell; of several the one that does best on valid counts."""
        width = self._width(site, kernel)
        controls = {MAJORITY: [MAJORITY]}
        for name in OBSERVED:
            controls |= {f"{name}_{k}x{k}": [f"{name}_{k}x{k}"] for k in OBSERVED_KERNELS}
            controls[f"{name}_full"] = [f"{name}_full|{width}"]
        for net, sites in self.recording.activations.items():
            if net.startswith(RANDOM):
                controls[net] = [f"{net}|{site}|{kernel}"]
            if net == TWIN:
                controls[TWIN] = [f"{TWIN}|{layer}|{kernel}" for layer in sites]
        for decoy in (SHUFFLED, CONTROL_TASK):
            controls[decoy] = [f"{decoy}|{AGENT}|{site}|{kernel}"]
        return controls

    # what is predicted -----------------------------------------------------------------------------------------------
    def _make_truths(self) -> dict[str, Truth]:
        maps, rows = self.recording.labels, self.rows
        subsets = {"branch_squares": rows.take(branch_squares(self.recording.floor))}
        if "optimal" in maps:
            subsets["sources_differ"] = differing_states(maps["behaviour"], maps["optimal"])[rows.states]
        values = {source: rows.take(labels.values).to(torch.int64) for source, labels in maps.items()}
        return {
            source: make_truth(
                values[source],
                rows.take(labels.horizon),
                rows.take(labels.pushes),
                subsets=subsets,
                rival=next((other for name, other in values.items() if name != source), None),
            )
            for source, labels in maps.items()
        }

    def _make_decoys(self, source: str, split: Split, seed: int) -> dict[str, Truth]:
        """Label maps that a probe at the same site should not be able to read."""
        parts = []
        for mask in split:
            states = torch.zeros(len(self.recording), dtype=torch.bool, device=mask.device)
            states[self.rows.states[mask]] = True
            parts.append(states)
        values = self.recording.labels[source].values
        shuffled = shuffle_label_maps(values, self.recording.level_ids, tuple(parts), seed=seed)
        labels = self.truths[source].labels
        train = labels[split.train]
        frequencies = torch.bincount(train[train >= 0], minlength=self.num_classes)
        task = control_task_labels(self.rows, self.present, frequencies, seed=seed).masked_fill(labels < 0, -1)
        return {SHUFFLED: Truth(self.rows.take(shuffled).to(torch.int64)), CONTROL_TASK: Truth(task)}

    # from what it is predicted ---------------------------------------------------------------------------------------
    def _width(self, site: str, kernel: int) -> int:
        return self.recording.activations[AGENT][site].shape[1] * kernel**2

    def _observation_stages(self, split: Split, seed: int, kernels: Sequence[int]) -> Iterator[Stage]:
        widths = sorted({self._width(site, k) for site in self.recording.activations[AGENT] for k in kernels})
        for name, planes in zip(OBSERVED, (self.present, self.past), strict=True):
            for kernel in OBSERVED_KERNELS:
                yield f"{name}_{kernel}x{kernel}", kernel, lambda p=planes, k=kernel: gather_windows(p, self.rows, k)
            project = self._projector(planes, split, seed, widths[-1])
            for width in widths:
                yield f"{name}_full|{width}", 1, lambda project=project, width=width: project(width)

    def _projector(self, planes: Tensor, split: Split, seed: int, num_components: int) -> Callable[[int], Tensor]:
        """Features by number of principal components, which are fitted once, when first asked for."""
        fitted: list[WindowPCA] = []

        def project(width: int) -> Tensor:
            if not fitted:
                train = split.train
                fitted.append(fit_window_pca(planes, self.rows, train, num_components=num_components, seed=seed))
            return fitted[0].project(planes, self.rows, width)

        return project

    def _net_stages(self, kernels: Sequence[int]) -> Iterator[Stage]:
        for net, sites in self.recording.activations.items():
            for site, values in sites.items():
                for kernel in kernels:
                    yield f"{net}|{site}|{kernel}", kernel, lambda v=values, k=kernel: gather_windows(v, self.rows, k)

    # fitting ---------------------------------------------------------------------------------------------------------
    def _enter_majority(self, split: Split) -> None:
        test_rows = split.test.nonzero().squeeze(1)
        for source, truth in self.truths.items():
            answer = majority_class(truth.labels[split.train], self.num_classes)
            valid = truth.labels[split.valid]
            counts = count_confusions(valid, torch.full_like(valid, answer), num_classes=self.num_classes)
            predicted = torch.full_like(test_rows, answer)
            score = float(macro_f1(counts.sum(0)))
            self.scoreboard.add(source, MAJORITY, truth, test_rows, self.level_index, predicted, valid=score)

    def _fit(
        self, reader: str, kernel: int, features: Tensor, targets: dict[str, dict[str, Truth]], split: Split
    ) -> None:
        """Fit one set of features to every target at once and enter the results."""
        flat = [(source, decoy, truth) for source, truths in targets.items() for decoy, truth in truths.items()]
        results = fit_probes(
            features,
            torch.stack([truth.labels for _, _, truth in flat]),
            level_ids=self.rows.level_ids,
            split=split,
            num_classes=self.num_classes,
            l2_strengths=self.l2_strengths,
            kernel=kernel,
        )[0]
        test_rows = split.test.nonzero().squeeze(1)
        for (source, decoy, truth), result in zip(flat, results, strict=True):
            name = f"{decoy}|{reader}" if decoy else reader
            predicted = result.test_predictions
            self.scoreboard.add(source, name, truth, test_rows, self.level_index, predicted, valid=result.valid_score)
            self.num_unconverged += not result.converged
            if reader.startswith(f"{AGENT}|") and not decoy:
                self.probes.setdefault((source, reader.split("|")[1], kernel), result)
