"""Linear probes: can a concept be read off an activation by one matrix, on levels that the matrix has never seen?

A probe is a multinomial logistic regression from what a k x k window of a site holds to the class of its central
square. It is fitted on the train levels, its L2 strength is chosen on the valid levels, and the test levels are read
once, with the chosen one. What it finds is *present* in the activations. Whether that is more than the observation
shows is the business of the controls (`controls`), whether the net uses it that of steering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import ShapeError
from planprobe.instruments.probes.softmax_regression import solve_softmax
from planprobe.instruments.probes.splits import Split, check_split
from planprobe.instruments.statistics.metrics import count_confusions, macro_f1

L2_STRENGTHS = (1e-5, 1e-4, 1e-3)
TOLERANCE = 1e-6  # predicted decrease of the loss at which a fit stops


@dataclass(frozen=True)
class ProbeResult:
    """One fitted read-out and how it did.

    weights (classes, D), biases (classes,) float32: in the scale of the features as they were given.
    directions (classes, D): each class's weights at unit norm; zero where a class has none.
    l2: the chosen strength, on scaled features and mean loss. loss: penalised, on the train rows.
    converged: of the solver. valid_score: macro-F1 on the valid rows, by which l2 was chosen; not a number to report.
    test_level_ids (L,) sorted; test_counts (L, classes, classes) int64: confusions of each test level, true by row.
    test_predictions (test rows,) int8: in the order of the rows.
    kernel: side of the window, columns ordered as by `square_rows.gather_windows`.
    """

    weights: Tensor
    biases: Tensor
    directions: Tensor
    l2: float
    loss: float
    converged: bool
    valid_score: float
    test_level_ids: np.ndarray
    test_counts: np.ndarray
    test_predictions: Tensor
    num_train_rows: int
    kernel: int = 1

    @property
    def num_classes(self) -> int:
        return len(self.biases)

    @property
    def num_channels(self) -> int:
        return self.weights.shape[1] // self.kernel**2

    @property
    def test_score(self) -> float:
        """Macro-F1 on the test rows."""
        return float(macro_f1(self.test_counts.sum(0)))

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, classes)."""
        return features.float() @ self.weights.T + self.biases

    def read_board(self, activations: Tensor) -> Tensor:
        """The probe on every square of a site, (B, C, H, W) -> logits (B, classes, H, W)."""
        if activations.ndim != 4 or activations.shape[1] != self.num_channels:
            raise ShapeError(
                f"this probe reads {self.num_channels} channels through a {self.kernel}x{self.kernel} window, "
                f"got activations of shape {tuple(activations.shape)}."
            )
        windows = self.weights.view(self.num_classes, self.kernel, self.kernel, self.num_channels)
        return F.conv2d(activations.float(), windows.permute(0, 3, 1, 2), self.biases, padding=self.kernel // 2)


def fit_probes(
    features: Tensor,
    labels: Tensor,
    *,
    level_ids: Tensor,
    split: Split,
    num_classes: int,
    l2_strengths: Sequence[float] = L2_STRENGTHS,
    kernel: int = 1,
    tolerance: float = TOLERANCE,
) -> list[list[ProbeResult]]:
    """Fit a probe of every label map on every set of features; all problems on one set are solved together.

    Rows of one level must stay on one side of the split (`splits.split_by_level`): neighbouring steps are near-copies,
    and splitting them makes any probe look good.

    Features are centred and divided by one number, the median of their standard deviations over the train rows, so that
    l2 means the same at every site. Not each by its own: then the weights of nearly dead channels, divided by next to
    nothing, would own the direction that steering writes, and a rotation of the channels would change the probe.

    Args:
        features: (S, N, D), S sites, ticks or nets on the same N rows; (N, D) counts as one set.
        labels: (V, N) class of each row in [0, num_classes), V concepts or controls; rows of -1 are left out. (N,)
            counts as one.
        level_ids: (N,), the unit of counts and intervals.
        l2_strengths: candidates, mean-loss scale.
        tolerance: see `solve_softmax`.
    Returns: results[s][v].
    Raises: ShapeError (the inputs disagree about N, a part of the split holds no row, or a level lies in two parts);
    PlanprobeError (NaN).
    """
    features = features if features.ndim == 3 else features[None]
    labels = torch.atleast_2d(labels).to(torch.int64)
    sizes = {features.shape[1], labels.shape[1], len(level_ids), *(len(mask) for mask in split)}
    if len(sizes) > 1 or not all(bool(mask.any()) for mask in split):
        raise ShapeError(
            f"features {tuple(features.shape)}, labels {tuple(labels.shape)}, level_ids {tuple(level_ids.shape)}, split"
            f" {[int(mask.sum()) for mask in split]}: need (S, N, D), (V, N), (N,) and rows in every part of the split."
        )
    check_split(level_ids, split)
    # a class out of range would be counted as another one
    if int(labels.max()) >= num_classes:
        raise ShapeError(f"labels go up to {int(labels.max())}, but there are {num_classes} classes.")
    parts = [mask.nonzero().squeeze(1) for mask in split]
    levels, level_index = np.unique(level_ids[parts[2]].cpu().numpy(), return_inverse=True)
    strengths = torch.tensor(list(l2_strengths), dtype=torch.float64, device=features.device)
    return [
        _fit_set(one, labels, parts, levels, level_index, num_classes, strengths, kernel, tolerance) for one in features
    ]


def fit_probe(features: Tensor, labels: Tensor, **options) -> ProbeResult:
    """One probe: features (N, D), labels (N,); options of `fit_probes`."""
    return fit_probes(features, labels, **options)[0][0]


def _fit_set(
    features: Tensor,
    labels: Tensor,
    parts: list[Tensor],
    levels: np.ndarray,
    level_index: np.ndarray,
    num_classes: int,
    strengths: Tensor,
    kernel: int,
    tolerance: float,
) -> list[ProbeResult]:
    """Probes of V label maps on one set of features (N, D)."""
    train, valid, test = (features[rows].float() for rows in parts)
    std, mean = torch.std_mean(train, dim=0, correction=0)
    varying = std > 1e-6 * mean.abs()
    scale = std[varying].median() if bool(varying.any()) else torch.ones_like(std).mean()
    train -= mean
    train /= scale
    train, basis = into_span(train)
    num_maps, num_strengths = len(labels), len(strengths)
    solution = solve_softmax(
        train, labels[:, parts[0]], strengths.repeat(num_maps), torch.arange(num_maps).repeat_interleave(num_strengths),
        num_classes=num_classes, uncorrelated=basis is not None, tolerance=tolerance,
    )  # fmt: skip
    weights = (solution.weights if basis is None else solution.weights @ basis.double()) / scale
    biases = solution.biases - weights @ mean.double()
    weights, biases = weights.float(), biases.float()
    valid_scores = _scores(valid, labels[:, parts[1]], weights, biases, num_classes)
    chosen = valid_scores.reshape(num_maps, num_strengths)
    # of equal scores the stronger penalty; a map without valid rows has nan everywhere and takes the strongest
    best = num_strengths - 1 - np.nan_to_num(chosen, nan=-1.0)[:, ::-1].argmax(1)
    results = []
    for number, row in enumerate(np.arange(num_maps) * num_strengths + best):
        predictions = _predict(test, weights[row : row + 1], biases[row : row + 1])[0]
        counts = count_confusions(
            labels[number, parts[2]], predictions, num_classes=num_classes,
            level_index=torch.as_tensor(level_index, device=predictions.device), num_levels=len(levels),
        )  # fmt: skip
        results.append(
            ProbeResult(
                weights=weights[row], biases=biases[row], directions=F.normalize(weights[row], dim=1),
                l2=float(strengths[best[number]]), loss=float(solution.losses[row]),
                converged=bool(solution.converged[row]), valid_score=float(valid_scores[row]), test_level_ids=levels,
                test_counts=counts, test_predictions=predictions,
                num_train_rows=int((labels[number, parts[0]] >= 0).sum()), kernel=kernel,
            )
        )  # fmt: skip
    return results


def into_span(features: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows (N, D) in coordinates of their own span where D > N, (N, R), and the orthonormal basis (R, D) of it.

    The axes are the principal ones, so that no two coordinates are correlated about zero.
    Weights outside the span would cost penalty and change no logit, so the minimum stays what it was.
    """
    if features.shape[1] <= len(features):
        return features, None
    _, scales, basis = torch.linalg.svd(features, full_matrices=False)
    basis = basis[scales > 1e-6 * scales[0]] if bool(scales[0] > 0) else basis[:1]
    return features @ basis.T, basis


def _predict(features: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Predicted class of P probes on N rows, (P, N) int8; weights (P, classes, D)."""
    logits = torch.addmm(biases.reshape(-1, 1), weights.flatten(0, 1), features.T)
    return logits.view(*biases.shape, -1).argmax(1).to(torch.int8)


def _scores(features: Tensor, labels: Tensor, weights: Tensor, biases: Tensor, num_classes: int) -> np.ndarray:
    """Macro-F1 of P probes, (P,); probes of one label map stand together."""
    predictions = _predict(features, weights, biases).unflatten(0, (len(labels), -1))
    counts = [
        count_confusions(true, predicted, num_classes=num_classes)[:, 0]
        for true, predicted in zip(labels, predictions, strict=True)
    ]
    return macro_f1(np.concatenate(counts))
