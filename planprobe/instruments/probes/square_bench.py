"""The bench of square probes: rows are floor squares of states, a reading is the side of a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from planprobe.instruments.concepts.catalog import branch_squares
from planprobe.instruments.concepts.labels import Concept, Labels
from planprobe.instruments.probes.bench import AGENT, ProbeBench, Reading, Stage
from planprobe.instruments.probes.controls import control_task_labels, fit_window_pca, stack_history
from planprobe.instruments.probes.scoreboard import Truth, differing_states, make_truth
from planprobe.instruments.probes.splits import Split
from planprobe.instruments.probes.square_rows import gather_windows, list_rows
from planprobe.instruments.probes.workers import once

OBSERVED = ("observation", "history")
OBSERVED_KERNELS = (1, 3)
GEOMETRY = "geometry"


class SquareBench(ProbeBench[Concept]):
    """Probes of concepts of squares; arguments of `ProbeBench`."""

    def _list_rows(self) -> Tensor:
        recording = self.recording
        self.rows = list_rows(recording.floor, recording.level_ids)
        self.present = recording.recent[:, 0]
        self.past = stack_history(recording.recent, recording.seen)
        return self.rows.level_ids

    def _make_truths(self, concept: Concept) -> dict[str, Truth]:
        maps, rows = self._label_maps(concept.name), self.rows
        subsets = {"branch_squares": rows.take(branch_squares(self.recording.floor))}
        if "optimal" in maps:
            subsets["sources_differ"] = differing_states(maps["behaviour"], maps["optimal"])[rows.states]
        values = {source: rows.take(labels.values).to(torch.int64) for source, labels in maps.items()}
        rivals = {source: next((each for name, each in values.items() if name != source), None) for source in values}
        return {
            source: make_truth(
                values[source],
                rows.take(labels.horizon),
                rows.take(labels.pushes),
                subsets=subsets,
                rival=rivals[source],
            )
            for source, labels in maps.items()
        }

    def _label_maps(self, concept: str) -> dict[str, Labels]:
        return {name: each for name, each in self.recording.labels[concept].items() if isinstance(each, Labels)}

    def _take(self, maps: Tensor) -> Tensor:
        return self.rows.take(maps)

    def _control_task(self, target: Truth, split: Split, num_classes: int, seed: int) -> Tensor:
        train = target.labels[split.train]
        frequencies = torch.bincount(train[train >= 0], minlength=num_classes)
        task = control_task_labels(self.rows, self.present, frequencies, seed=seed)
        return task.masked_fill(target.labels < 0, -1)

    def _features(self, values: Tensor, reading: Reading) -> Tensor:
        return gather_windows(values, self.rows, int(reading))

    def _width(self, site: str, reading: Reading) -> int:
        return self.recording.activations[AGENT][site].shape[1] * int(reading) ** 2

    def _observed_stages(self, split: Split, seed: int, readings: Sequence[Reading]) -> Iterator[Stage]:
        widths = sorted({self._width(site, k) for site in self.recording.activations[AGENT] for k in readings})
        for name, planes in zip(OBSERVED, (self.present, self.past), strict=True):
            for kernel in OBSERVED_KERNELS:
                yield f"{name}_{kernel}x{kernel}", kernel, lambda p=planes, k=kernel: self._features(p, k)
            project = self._projector(planes, split, seed, widths[-1])
            for width in widths:
                yield f"{name}_full|{width}", 1, lambda project=project, width=width: project(width)
        if self.recording.geometry is not None:
            # the board's arrows beside what is seen, so that it can only say more than the observation does
            planes = torch.cat([self.present.half(), self.recording.geometry], dim=1)
            for kernel in OBSERVED_KERNELS:
                yield f"{GEOMETRY}_{kernel}x{kernel}", kernel, lambda p=planes, k=kernel: self._features(p, k)

    def _observed_controls(self, site: str, reading: Reading) -> dict[str, list[str]]:
        controls = {}
        for name in (*OBSERVED, *([GEOMETRY] if self.recording.geometry is not None else [])):
            controls |= {f"{name}_{k}x{k}": [f"{name}_{k}x{k}"] for k in OBSERVED_KERNELS}
            if name in OBSERVED:
                controls[f"{name}_full"] = [f"{name}_full|{self._width(site, reading)}"]
        return controls

    def _projector(self, planes: Tensor, split: Split, seed: int, num_components: int) -> Callable[[int], Tensor]:
        """Features by number of principal components, which are fitted once, when first asked for."""
        fitted = once(lambda: fit_window_pca(planes, self.rows, split.train, num_components=num_components, seed=seed))
        return lambda width: fitted().project(planes, self.rows, width)
