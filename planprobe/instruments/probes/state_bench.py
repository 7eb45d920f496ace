"""The bench of state probes: a row is a state, a reading one of `state_rows.READOUTS`.

Controls are those of square probes, read as a whole: the observation and its history flattened, pooled, around the
agent, and in as many principal components as the probe has features; the arrows of the static geometry around the agent
and flattened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from planprobe.core.rng import draw_uniform
from planprobe.instruments.concepts.catalog import branch_squares
from planprobe.instruments.concepts.labels import StateConcept, StateLabels
from planprobe.instruments.probes.bench import AGENT, ProbeBench, Reading, Stage
from planprobe.instruments.probes.controls import stack_history
from planprobe.instruments.probes.scoreboard import Truth
from planprobe.instruments.probes.splits import Split
from planprobe.instruments.probes.state_rows import StateRows, fit_board_pca, gather_states
from planprobe.instruments.probes.workers import once

SEEN_READOUTS = {"observation": ("pooled", "around", "flat"), "history": ("flat",), "geometry": ("around", "flat")}
FULL = ("observation", "history")
L2_STRENGTHS = (1e-3, 1e-2, 1e-1)  # a few hundred rows of up to thousands of features: weaker ones only memorise


class StateBench(ProbeBench[StateConcept]):
    """Probes of concepts of states; arguments of `ProbeBench`."""

    tolerance = 1e-7  # with about as many features as rows a fit goes on for tens of times what it foretells

    def _list_rows(self) -> Tensor:
        recording = self.recording
        board = (recording.floor.shape[1], recording.floor.shape[2])
        self.rows = StateRows(recording.positions, recording.level_ids, board)
        present = recording.recent[:, 0]
        self.seen = {"observation": present, "history": stack_history(recording.recent, recording.seen)}
        if recording.geometry is not None:
            self.seen["geometry"] = torch.cat([present.half(), recording.geometry], dim=1)
        return recording.level_ids

    def _make_truths(self, concept: StateConcept) -> dict[str, Truth]:
        maps = {
            source: labels.values
            for source, labels in self.recording.labels[concept.name].items()
            if isinstance(labels, StateLabels)
        }
        branches = branch_squares(self.recording.floor).flatten(1)
        subsets = {"branch_states": branches.gather(1, self.rows.positions[:, None]).squeeze(1)}
        if concept.num_classes and "optimal" in maps:
            own, best = maps["behaviour"] if "behaviour" in maps else maps["optimal"], maps["optimal"]
            subsets["sources_differ"] = (own != best) & (own >= 0) & (best >= 0)
        return {source: Truth(values, subsets=subsets) for source, values in maps.items()}

    def _take(self, maps: Tensor) -> Tensor:
        return maps

    def _control_task(self, target: Truth, split: Split, num_classes: int, seed: int) -> Tensor:
        """A class, or number, for each square that the agent may stand on, drawn once at random."""
        labels = target.labels
        if not num_classes:
            draws = draw_uniform(seed, self.rows.positions[:, None], torch.arange(labels.shape[1]))
            return draws.masked_fill(labels.isnan(), torch.nan)
        train = labels[split.train]
        frequencies = torch.bincount(train[train >= 0], minlength=num_classes).double()
        edges = (frequencies / frequencies.sum().clamp(min=1)).cumsum(0)
        draws = draw_uniform(seed, self.rows.positions).double()
        return torch.searchsorted(edges, draws, right=True).clamp(max=num_classes - 1).masked_fill(labels < 0, -1)

    def _features(self, values: Tensor, reading: Reading) -> Tensor:
        return gather_states(values, self.rows, str(reading))

    def _width(self, site: str, reading: Reading) -> int:
        shape = self.recording.activations[AGENT][site].shape[1:]
        if len(shape) == 1:
            return shape[0]
        height, width = self.rows.board
        return shape[0] * {"pooled": 2, "agent": 1, "around": 9, "flat": height * width}[str(reading)]

    def _observed_stages(self, split: Split, seed: int, readings: Sequence[Reading]) -> Iterator[Stage]:
        widths = sorted({self._width(site, each) for site in self.recording.activations[AGENT] for each in readings})
        for name, planes in self.seen.items():
            for readout in SEEN_READOUTS[name]:
                yield f"{name}_{readout}", 1, lambda p=planes, r=readout: self._features(p, r)
            if name in FULL:
                project = _projector(planes.flatten(1), split, widths[-1])
                for width in widths:
                    yield f"{name}_full|{width}", 1, lambda project=project, width=width: project(width)

    def _observed_controls(self, site: str, reading: Reading) -> dict[str, list[str]]:
        controls = {}
        for name in self.seen:
            controls |= {f"{name}_{readout}": [f"{name}_{readout}"] for readout in SEEN_READOUTS[name]}
            if name in FULL:
                controls[f"{name}_full"] = [f"{name}_full|{self._width(site, reading)}"]
        return controls


def _projector(flat: Tensor, split: Split, num_components: int) -> Callable[[int], Tensor]:
    """Features by number of principal components, which are fitted once, when first asked for."""
    fitted = once(lambda: fit_board_pca(flat, split.train, num_components=num_components))
    return lambda width: fitted().project(flat, width)
