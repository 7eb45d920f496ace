"""Linear probes of numbers (steps left, a value, a belief): ridge regression, split and chosen as in `probes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from planprobe.core.errors import ShapeError
from planprobe.instruments.probes.ridge_regression import solve_ridge
from planprobe.instruments.probes.splits import Split, check_split
from planprobe.instruments.statistics.metrics import count_moments, r_squared

RIDGE_STRENGTHS = (1e-4, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class NumberProbeResult:
    """One fitted read-out of V numbers and how it did.

    weights (V, D), biases (V,) float32: in the scales of features and numbers as they were given. directions (V, D):
    weights at unit norm. l2: the chosen strength, on scaled features and numbers. loss: penalised, mean over the V.
    valid_score: R² on the valid rows, by which l2 was chosen; not a number to report.
    test_level_ids (L,) sorted; test_moments (L, V, 6): see `metrics.count_moments`.
    test_predictions (test rows, V) float32.
    """

    weights: Tensor
    biases: Tensor
    directions: Tensor
    l2: float
    loss: float
    valid_score: float
    test_level_ids: np.ndarray
    test_moments: np.ndarray
    test_predictions: Tensor
    num_train_rows: int
    converged: bool = True

    @property
    def test_score(self) -> float:
        """R² on the test rows."""
        return float(r_squared(self.test_moments.sum(0)))

    def predict(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, V)."""
        return features.float() @ self.weights.T + self.biases


def fit_number_probes(
    features: Tensor,
    targets: Sequence[Tensor],
    *,
    level_ids: Tensor,
    split: Split,
    l2_strengths: Sequence[float] = RIDGE_STRENGTHS,
) -> list[NumberProbeResult]:
    """A probe of each target on one set of features (N, D); all of them in one solver.

    Features are scaled as in `probes.fit_probes`; numbers are centred and divided by their standard deviation over the
    train rows, so that l2 means the same for steps and for probabilities. One strength serves a target's V numbers.

    Args: targets: each (N,) or (N, V), rows with nan left out. level_ids, split: as `fit_probes`.
    Raises: ShapeError (the inputs disagree about N); PlanprobeError (NaN in the features).
    """
    targets = [target.float().view(len(target), -1) for target in targets]
    sizes = {len(features), len(level_ids), *(len(target) for target in targets), *(len(mask) for mask in split)}
    if len(sizes) > 1 or not all(bool(mask.any()) for mask in split):
        raise ShapeError(
            f"features {tuple(features.shape)}, targets {[tuple(target.shape) for target in targets]}, level_ids "
            f"{tuple(level_ids.shape)}: need (N, D), (N, V), (N,) and rows in every part of the split."
        )
    check_split(level_ids, split)
    train, valid, test = (features[mask].float() for mask in split)
    std, mean = torch.std_mean(train, dim=0, correction=0)
    varying = std > 1e-6 * mean.abs()
    scale = std[varying].median() if bool(varying.any()) else torch.ones_like(std).mean()
    columns = torch.cat([target[split.train] for target in targets], dim=1)
    middle, spread = _mean_and_spread(columns)
    strengths = torch.tensor(list(l2_strengths), dtype=torch.float64, device=features.device)
    solution = solve_ridge((train - mean) / scale, ((columns - middle) / spread).T, strengths)
    weights = solution.weights * spread[:, None, None].double() / scale
    biases = solution.biases * spread[:, None].double() + middle[:, None] - weights @ mean.double()
    weights, biases = weights.float(), biases.float()
    levels, level_index = np.unique(level_ids[split.test].cpu().numpy(), return_inverse=True)
    level_index = torch.as_tensor(level_index, device=features.device)
    results, start = [], 0
    for target in targets:
        own = slice(start, start + target.shape[1])
        start = own.stop
        scores = np.array(
            [
                float(r_squared(count_moments(target[split.valid], _read(valid, weights[own, s], biases[own, s]))[0]))
                for s in range(len(strengths))
            ]
        )
        # of equal scores the stronger penalty, as for classes
        best = len(scores) - 1 - int(np.nan_to_num(scores, nan=-np.inf)[::-1].argmax())
        predictions = _read(test, weights[own, best], biases[own, best])
        results.append(
            NumberProbeResult(
                weights=weights[own, best], biases=biases[own, best],
                directions=F.normalize(weights[own, best], dim=1), l2=float(strengths[best]),
                loss=float(solution.losses[own, best].mean()), valid_score=float(scores[best]), test_level_ids=levels,
                test_moments=count_moments(
                    target[split.test], predictions, level_index=level_index, num_levels=len(levels)
                ),
                test_predictions=predictions, num_train_rows=int((~target[split.train].isnan().any(1)).sum()),
            )
        )  # fmt: skip
    return results


def _read(features: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    return features @ weights.T + biases


def _mean_and_spread(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Of each column of (N, V), nan left out; a constant column has spread one."""
    known = ~columns.isnan()
    count = known.sum(0).clamp(min=1)
    middle = columns.nan_to_num().sum(0) / count
    spread = (((columns - middle).nan_to_num() ** 2).sum(0) / count).sqrt()
    return middle, torch.where(spread > 1e-6 * middle.abs().clamp(min=1e-6), spread, 1.0)
