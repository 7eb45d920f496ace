"""Ridge regression in closed form, for many targets and strengths at once: the solver behind probes of numbers.

Targets that are known on the same rows share one eigendecomposition, and with it every strength costs one product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import PlanprobeError


@dataclass(frozen=True)
class RidgeSolution:
    """V targets at S strengths. weights (V, S, D), biases (V, S) float64; losses (V, S): half the mean squared error
    + l2 / 2 * |weights|²."""

    weights: Tensor
    biases: Tensor
    losses: Tensor


def solve_ridge(features: Tensor, targets: Tensor, l2: Tensor) -> RidgeSolution:
    """Minimise half the mean squared error + l2 / 2 * |weights|² for every target and strength; biases are free.

    The minimum is scikit-learn's Ridge(alpha=N * l2), N the rows that the target is known on.

    Args: features (N, D), best centred and of a scale around one; targets (V, N), nan left out; l2 (S,), above zero.
    Raises: PlanprobeError (features hold NaN or infinities).
    """
    if not bool(torch.isfinite(features).all()):
        raise PlanprobeError("features hold NaN or infinite values; a fit on them would be silently meaningless.")
    features, targets, l2 = features.double(), targets.double(), l2.double()
    masks, group = (~targets.isnan()).unique(dim=0, return_inverse=True)
    shape = (len(targets), len(l2))
    weights = torch.zeros(*shape, features.shape[1], dtype=torch.float64, device=features.device)
    biases = torch.zeros(shape, dtype=torch.float64, device=features.device)
    losses = torch.zeros_like(biases)
    for number, mask in enumerate(masks):
        members = (group == number).nonzero().squeeze(1)
        if bool(mask.any()):
            found = _solve_group(features[mask], targets[members][:, mask], l2)
            weights[members], biases[members], losses[members] = found
    return RidgeSolution(weights, biases, losses)


def _solve_group(x: Tensor, y: Tensor, l2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Targets y (V, N) all known: weights (V, S, D), biases (V, S), losses (V, S)."""
    num_rows = len(x)
    mean_x, mean_y = x.mean(0), y.mean(1)
    x, y = x - mean_x, y - mean_y[:, None]
    if x.shape[1] <= num_rows:
        scales, basis = torch.linalg.eigh(x.T @ x / num_rows)
        shrunk = (y @ x / num_rows @ basis)[:, None] / (scales.clamp(min=0) + l2[:, None])
        weights = shrunk @ basis.T
    else:  # fewer rows than features: the same solution from the rows' side
        scales, basis = torch.linalg.eigh(x @ x.T / num_rows)
        shrunk = (y @ basis)[:, None] / (scales.clamp(min=0) + l2[:, None])
        weights = shrunk @ basis.T @ x / num_rows
    errors = y[:, None] - weights @ x.T
    losses = 0.5 * errors.square().mean(2) + 0.5 * l2 * weights.square().sum(2)
    return weights, mean_y[:, None] - weights @ mean_x, losses
