"""Many multinomial logistic regressions on the same rows at once: the solver behind every probe.

A probe table is thousands of small convex problems that share their features: several label maps (the concept, its
controls) times several L2 strengths. They are solved together, so that one pass over the features serves all of them,
and each is dropped when it has converged.

Method: L-BFGS, preconditioned with the Hessian at zero weights. There every row predicts the class frequencies p, so
the Hessian is exactly (diag(p) - p p') x X'X / N: a Kronecker product, inverted by two small eigendecompositions. That
removes the correlation between features, which is what makes plain L-BFGS slow on activations: 15-25 passes in place
of 100-200. Matrix products run in float32, loss and gradient sums in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import PlanprobeError

CHUNK_ROWS = 2048  # features and logits of a chunk stay in the cache between the two matrix products
HISTORY = 10
_ARMIJO, _SHRINK, _MAX_HALVINGS = 1e-4, 0.4, 20
_ROUNDING = 1e-7  # float32 logits: smaller differences in loss are noise


@dataclass(frozen=True)
class Solution:
    """P solved problems; axes (P, classes, D).

    weights (P, classes, D), biases (P, classes) float64; losses (P,): mean cross-entropy + l2 / 2 * |weights|^2;
    iterations (P,) int64; converged (P,) bool.
    """

    weights: Tensor
    biases: Tensor
    losses: Tensor
    iterations: Tensor
    converged: Tensor


@dataclass(frozen=True)
class _Problems:
    """features (N, D) float32; labels (V, N) int64, 0 where left out; kept (V, N) float32 or None (all rows kept);
    num_rows (V,) float64; variants (P,): the row of `labels` each problem reads; l2 (P,) float64."""

    features: Tensor
    labels: Tensor
    kept: Tensor | None
    num_rows: Tensor
    variants: Tensor
    l2: Tensor
    num_classes: int

    def loss_and_gradient(self, params: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of problems `ids` (P',) at params (P', classes, D + 1), bias last: (P',), like params."""
        num_problems, num_classes, width = params.shape
        flat = params.reshape(-1, width)
        weights, bias = flat[:, :-1].float(), flat[:, -1:].float()
        variants = self.variants[ids]
        loss, gradient = torch.zeros_like(self.l2[ids]), torch.zeros_like(flat)
        for start in range(0, len(self.features), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            x = self.features[rows]
            logits = torch.addmm(bias, weights, x.T).view(num_problems, num_classes, -1)
            kept = None if self.kept is None else self.kept[variants, rows][:, None]
            nll, residual = _softmax_residual(logits, self.labels[variants, rows][:, None], kept)
            loss += nll.sum((1, 2), dtype=torch.float64)
            residual = residual.view(len(flat), -1)
            gradient[:, :-1] += residual @ x
            gradient[:, -1] += residual.sum(1, dtype=torch.float64)
        num_rows, l2 = self.num_rows[variants], self.l2[ids]
        gradient = gradient.view_as(params) / num_rows[:, None, None]
        gradient[..., :-1] += l2[:, None, None] * params[..., :-1]
        return loss / num_rows + 0.5 * l2 * params[..., :-1].square().sum((1, 2)), gradient


def _softmax_residual(logits: Tensor, labels: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """-log p of the label (P, 1, n), and p - onehot(label) (P, classes, n), written over the logits."""
    logits -= logits.amax(1, keepdim=True)
    nll = -logits.gather(1, labels)
    logits.exp_()
    total = logits.sum(1, keepdim=True)
    logits /= total
    nll += total.log_()
    logits.scatter_add_(1, labels, torch.full_like(nll, -1.0))
    if kept is not None:
        logits *= kept
        nll *= kept
    return nll, logits


class _Preconditioner:
    """Inverse of the Hessian at zero weights and biases log p, for each problem."""

    def __init__(self, problems: _Problems, frequencies: Tensor, *, uncorrelated: bool) -> None:
        features, self.feature_basis = problems.features, None
        if uncorrelated:
            scales = features.double().square().mean(0)
        else:
            second_moment = (features.T @ features).double() / len(features)
            scales, self.feature_basis = torch.linalg.eigh(second_moment)
        frequencies = frequencies[problems.variants]
        spread = torch.diag_embed(frequencies) - frequencies[:, :, None] * frequencies[:, None, :]
        class_scales, self.class_basis = torch.linalg.eigh(spread)
        # the all-ones direction of the classes changes nothing but the penalty; a floor keeps it out of the way
        self.class_scales = class_scales.clamp_min(1e-4)
        self.curvature = self.class_scales[:, :, None] * scales.clamp_min(0) + problems.l2[:, None, None]

    def apply(self, gradient: Tensor, ids: Tensor) -> Tensor:
        """Inverse Hessian times gradient (P', classes, D + 1), of problems `ids` (P',)."""
        basis = self.class_basis[ids]
        rotated = basis.transpose(1, 2) @ gradient
        if self.feature_basis is None:
            weights = basis @ (rotated[..., :-1] / self.curvature[ids])
        else:
            weights = basis @ (rotated[..., :-1] @ self.feature_basis / self.curvature[ids]) @ self.feature_basis.T
        bias = basis @ (rotated[..., -1:] / self.class_scales[ids][..., None])
        return torch.cat([weights, bias], dim=-1)


class _History:
    """The last steps of the problems still running and how their gradients changed: the L-BFGS memory."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        product = (step * change).sum((1, 2))
        inverse = torch.where(product > 1e-14, 1 / product.clamp_min(1e-14), 0.0)  # 0: the pair is skipped
        self.pairs = [*self.pairs[-HISTORY + 1 :], (step, change, inverse)]

    def keep(self, mask: Tensor) -> None:
        self.pairs = [(step[mask], change[mask], inverse[mask]) for step, change, inverse in self.pairs]

    def direction(self, gradient: Tensor, preconditioner: _Preconditioner, ids: Tensor) -> Tensor:
        """Minus the approximate inverse Hessian times the gradient (P', classes, D + 1)."""
        remaining, weights = gradient.clone(), []
        for step, change, inverse in reversed(self.pairs):
            weight = inverse * (step * remaining).sum((1, 2))
            remaining -= weight[:, None, None] * change
            weights.append(weight)
        direction = preconditioner.apply(remaining, ids)
        if self.pairs:
            step, change, inverse = self.pairs[-1]
            curvature = (change * preconditioner.apply(change, ids)).sum((1, 2))
            scale = torch.where(inverse > 0, 1 / (inverse * curvature).clamp_min(1e-300), 1.0)
            direction *= scale[:, None, None]
        for (step, change, inverse), weight in zip(self.pairs, reversed(weights), strict=True):
            correction = weight - inverse * (change * direction).sum((1, 2))
            direction += correction[:, None, None] * step
        return -direction


def solve_softmax(
    features: Tensor,
    labels: Tensor,
    l2: Tensor,
    variants: Tensor,
    *,
    num_classes: int,
    uncorrelated: bool = False,
    tolerance: float = 1e-6,
    max_iterations: int = 300,
) -> Solution:
    """Minimise mean cross-entropy + l2 / 2 * |weights|^2 for P problems that share their features; biases are free.

    Problem p reads labels[variants[p]] and is penalised with l2[p]. The minimum is scikit-learn's
    LogisticRegression(C=1 / (N * l2)).

    Args:
        features: (N, D) float32, best centred and of a scale around one.
        labels: (V, N) integers in [0, num_classes); rows of -1 are left out of that variant.
        l2: (P,). variants: (P,) int64.
        uncorrelated: the features are, as coordinates of their span are (`linear_probes.into_span`), so that no
            basis need be found in which they would be; half of the time where features are as many as rows.
        tolerance: stop when the predicted decrease of the loss (the squared Newton decrement) is below it.
    Raises: PlanprobeError (features hold NaN or infinities).
    """
    problems, frequencies = _prepare(features, labels, l2, variants, num_classes)
    preconditioner = _Preconditioner(problems, frequencies, uncorrelated=uncorrelated)
    num_problems = len(variants)
    params = torch.zeros(num_problems, num_classes, features.shape[1] + 1, dtype=torch.float64, device=features.device)
    params[..., -1] = (frequencies.log() - frequencies.log().mean(1, keepdim=True))[variants]
    losses = torch.zeros_like(problems.l2)
    iterations = torch.full_like(variants, max_iterations)
    converged = torch.zeros_like(variants, dtype=torch.bool)
    ids, history = torch.arange(num_problems, device=features.device), _History()
    here = params.clone()
    loss, gradient = problems.loss_and_gradient(here, ids)
    for iteration in range(max_iterations):
        direction = history.direction(gradient, preconditioner, ids)
        slope = (direction * gradient).sum((1, 2))
        done = -slope < tolerance
        params[ids], losses[ids] = here, loss
        if bool(done.any()):
            iterations[ids[done]], converged[ids[done]] = iteration, True
            ids, here, loss, gradient = ids[~done], here[~done], loss[~done], gradient[~done]
            direction, slope = direction[~done], slope[~done]
            history.keep(~done)
        if len(ids) == 0:
            break
        there, loss, new_gradient = _line_search(problems, ids, here, loss, gradient, direction, slope)
        history.add(there - here, new_gradient - gradient)
        here, gradient = there, new_gradient
    params[ids], losses[ids] = here, loss
    return Solution(params[..., :-1], params[..., -1], losses, iterations, converged)


def _prepare(
    features: Tensor, labels: Tensor, l2: Tensor, variants: Tensor, num_classes: int
) -> tuple[_Problems, Tensor]:
    """The problems, and the class frequencies (V, classes) of each variant (one added to each count, never zero)."""
    if not bool(torch.isfinite(features).all()):
        raise PlanprobeError("features hold NaN or infinite values; a fit on them would be silently meaningless.")
    labels = labels.to(torch.int64)
    left_out = labels < 0
    counts = torch.stack([torch.bincount(row[row >= 0], minlength=num_classes) for row in labels]) + 1.0
    kept = (~left_out).float() if bool(left_out.any()) else None
    num_rows = (~left_out).sum(1).clamp_min(1).double()
    problems = _Problems(features.float(), labels.clamp_min(0), kept, num_rows, variants, l2.double(), num_classes)
    return problems, (counts / counts.sum(1, keepdim=True)).double()


def _line_search(
    problems: _Problems, ids: Tensor, here: Tensor, loss: Tensor, gradient: Tensor, direction: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Backtrack from a full step, each problem for itself: new params, loss and gradient."""
    there, new_loss, new_gradient = here.clone(), loss.clone(), gradient.clone()
    size, todo = torch.ones_like(loss), torch.arange(len(ids), device=ids.device)
    for _ in range(_MAX_HALVINGS):
        tried = here[todo] + size[todo, None, None] * direction[todo]
        there[todo] = tried
        new_loss[todo], new_gradient[todo] = problems.loss_and_gradient(tried, ids[todo])
        enough = loss[todo] + _ARMIJO * size[todo] * slope[todo] + _ROUNDING * (1 + loss[todo].abs())
        todo = todo[~(new_loss[todo] <= enough)]
        if len(todo) == 0:
            break
        size[todo] *= _SHRINK
    return there, new_loss, new_gradient
