"""LEACE: take a concept out of an activation, so that no linear read-out can find it, and change as little as possible.

No linear probe beats a constant answer if and only if activation x and concept z (one-hot, or a number) have no
covariance. Of all affine maps that achieve this, the one that moves x least is

    x - Cov(x, W x) U U' W (x - mean),      W = Cov(x)^(-1/2),  U = an orthonormal basis of the columns of W Cov(x, z)

which is: whiten, project U out, undo the whitening. In other words, it takes from x what its own best linear guess of
z predicts of it. The guess may be made from more than the part of x that is edited (other sites, earlier ticks): the
guarantee is the same, the edit smaller.

Only means and covariances are needed; they are summed up in float64 batch after batch, so memory does not depend on the
number of rows. Source: Belrose et al. 2023, arXiv 2306.03819, theorems 4.1-4.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from planprobe.core.errors import PlanprobeError, ShapeError
from planprobe.core.rng import draw_normal

CHUNK_ROWS = 1 << 15
MIN_VARIANCE = 1e-9
"""Directions with less than this share of the largest variance are left alone: in float32 they hold rounding."""
MIN_CORRELATION = 1e-4  # of a whitened direction with the concept: what is less is rounding, and is not erased
_NORMAL = 401  # stream of the counter-based draws


class Moments:
    """Running mean and covariance of activations x (N, D) and concepts z (N, K), in float64."""

    def __init__(self, num_features: int, num_concepts: int) -> None:
        size = num_features + num_concepts
        self.num_features, self.num_rows = num_features, 0
        self.mean = torch.zeros(size, dtype=torch.float64)
        self._scatter = torch.zeros(size, size, dtype=torch.float64)

    def update(self, x: Tensor, z: Tensor) -> None:
        """Add rows x (N, D), z (N, K). Chan et al. 1983. Raises: ShapeError; PlanprobeError (NaN or infinite)."""
        if x.ndim != 2 or z.ndim != 2 or len(x) != len(z) or x.shape[1] + z.shape[1] != len(self.mean):
            raise ShapeError(
                f"activations {tuple(x.shape)} and concepts {tuple(z.shape)}: need (N, {self.num_features}) and "
                f"(N, {len(self.mean) - self.num_features})."
            )
        for start in range(0, len(x), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            both = torch.cat([x[rows].double(), z[rows].to(x.device).double()], dim=1).cpu()
            mean = both.mean(0)
            if not bool(mean.isfinite().all()):
                raise PlanprobeError("activations or concepts hold NaN or infinities; nothing can be erased from them.")
            both -= mean
            total, shift = self.num_rows + len(both), mean - self.mean
            self._scatter += both.T @ both + torch.outer(shift, shift) * (self.num_rows * len(both) / total)
            self.mean += shift * (len(both) / total)
            self.num_rows = total

    @property
    def covariance(self) -> Tensor:
        """(D, D)."""
        return self._scatter[: self.num_features, : self.num_features] / max(self.num_rows, 1)

    @property
    def cross_covariance(self) -> Tensor:
        """Of activations with concepts, (D, K)."""
        return self._scatter[: self.num_features, self.num_features :] / max(self.num_rows, 1)

    @property
    def concept_variance(self) -> float:
        """Summed over the K components."""
        return float(self._scatter.diagonal()[self.num_features :].sum()) / max(self.num_rows, 1)

    def explained(self) -> float:
        """Share of the concept's variance that the best linear guess from all D features accounts for, in [0, 1].

        Of the rows themselves: without any relation it is about D / N.
        """
        if self.concept_variance == 0:
            return 0.0
        whitened = Whitening(self, slice(None)).matrix @ self.cross_covariance
        return min(1.0, float(whitened.square().sum()) / self.concept_variance)


@dataclass(frozen=True)
class Whitening:
    """W = Cov^(-1/2) of some of the features, on the directions that vary. given: which ones."""

    moments: Moments
    given: slice

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Variances (r,), largest last, and their directions (D', r)."""
        variances, directions = torch.linalg.eigh(self.moments.covariance[self.given, self.given])
        varying = variances > MIN_VARIANCE * variances[-1].clamp(min=1e-300)
        return variances[varying], directions[:, varying]

    @cached_property
    def matrix(self) -> Tensor:
        """W, (D', D')."""
        variances, directions = self.spectrum
        return directions * variances.rsqrt() @ directions.T


@dataclass(frozen=True)
class Eraser:
    """x -> x - left right (given - mean), with rank R; several erasers at once have a leading axis S.

    left (S, D, R), right (S, R, D'), mean (D'), float64. `given` is x itself unless it was fitted with more.
    """

    left: Tensor
    right: Tensor
    mean: Tensor

    @property
    def rank(self) -> int:
        return self.left.shape[-1]

    @property
    def num_draws(self) -> int:
        return len(self.left) if self.left.ndim == 3 else 1

    @property
    def moved(self) -> Tensor:
        """Mean squared length of the edit on the rows it was fitted on, (S,) or ()."""
        return self.left.square().sum((-2, -1))

    def erase(self, x: Tensor, *, given: Tensor | None = None, draws: Tensor | None = None) -> Tensor:
        """The edited activations, in the dtype and on the device of x.

        Args: x (..., D); given (..., D'), x by default. draws (B,): which of the S erasers is used on each of the B
            entries of the first axis; needed where there are several.
        """
        given = x if given is None else given
        if x.shape[-1] != self.left.shape[-2] or given.shape[-1] != len(self.mean):
            raise ShapeError(
                f"this eraser edits {self.left.shape[-2]} features and reads {len(self.mean)}, got {tuple(x.shape)} and"
                f" {tuple(given.shape)}."
            )
        if (draws is None) != (self.left.ndim == 2):
            raise ShapeError(f"{self.num_draws} erasers: say with draws=(B,) which one each entry gets, or index one.")
        left, right, mean = (part.to(x) for part in (self.left, self.right, self.mean))
        if draws is None:
            return x - (given - mean) @ right.T @ left.T
        flat = (given - mean).reshape(len(x), -1, given.shape[-1])
        moved = flat @ right[draws].transpose(1, 2) @ left[draws].transpose(1, 2)
        return x - moved.view(x.shape)


def fit_eraser(moments: Moments, *, own: slice = slice(None), given: slice | None = None) -> Eraser:
    """Erase the concept from the features `own`, guided by the features `given` (by default the same), which hold them.

    Raises: ShapeError (too few rows, a concept that does not vary, or `given` that does not hold `own`).
    """
    whitening, given = _whitening(moments, own, given)
    if moments.concept_variance == 0:
        raise ShapeError("the concept is the same on every row; there is nothing to erase. Take more levels or states.")
    directions, strengths, _ = torch.linalg.svd(whitening.matrix @ moments.cross_covariance[given], full_matrices=False)
    # one-hot classes sum to one, and a net may have been erased already: such directions would be drawn from rounding
    subspace = directions[:, strengths > MIN_CORRELATION * moments.concept_variance**0.5]
    return _erase_subspace(moments, whitening, subspace, own, given)


def fit_joint_erasers(moments: Moments, widths: list[int]) -> list[Eraser]:
    """Erase the concept from several sites at once: one eraser a block of the concatenated features.

    In a running net sites come one after the other, so block i is guided by the blocks up to i, as they were before
    they were edited. The result thus depends on the order of the blocks: each gives the guarantee, alone and all
    together (a joint linear read-out sees nothing if and only if no block has any covariance), but later blocks move
    less than if each were erased by itself.

    Args: widths: features of each block, in their order; they sum to D.
    """
    if sum(widths) != moments.num_features:
        raise ShapeError(f"blocks of {widths} features, but the moments are of {moments.num_features}.")
    ends = torch.tensor(widths).cumsum(0).tolist()
    blocks = zip(widths, ends, strict=True)
    return [fit_eraser(moments, own=slice(end - width, end), given=slice(0, end)) for width, end in blocks]


def random_erasers(
    moments: Moments,
    rank: int,
    num_draws: int,
    *,
    seed: int,
    moved: float | None = None,
    own: slice = slice(None),
    given: slice | None = None,
) -> Eraser:
    """The same affine form with random subspaces in place of the concept's: `num_draws` erasers of one rank.

    Draw i depends on (seed, i) alone. A random subspace of the whitened features moves x by what an average direction
    varies, which may be more or less than the concept's subspace does.

    Args: moved: mean squared length of every edit, to which each is scaled (a placebo of equal size; it then no longer
        takes out exactly its subspace). None = as it comes.
    """
    whitening, given = _whitening(moments, own, given)
    variances, directions = whitening.spectrum
    rank = min(rank, len(variances))
    draws, entries = torch.arange(num_draws)[:, None], torch.arange(len(variances) * rank)
    normal = draw_normal(seed, _NORMAL, draws, entries).double().view(num_draws, len(variances), rank)
    eraser = _erase_subspace(moments, whitening, directions @ torch.linalg.qr(normal).Q, own, given)
    if moved is None:
        return eraser
    scale = (moved / eraser.moved.clamp(min=1e-300)).sqrt()
    return replace(eraser, left=eraser.left * scale[:, None, None])


def _whitening(moments: Moments, own: slice, given: slice | None) -> tuple[Whitening, slice]:
    if moments.num_rows < 2:
        raise ShapeError(f"an eraser is fitted on two rows or more, got {moments.num_rows}.")
    given = own if given is None else given
    read, edited = (set(range(moments.num_features)[part]) for part in (given, own))
    if not edited <= read:
        raise ShapeError(f"features {own} are edited, but only {given} are read: the guess must see what it edits.")
    return Whitening(moments, given), given


def _erase_subspace(moments: Moments, whitening: Whitening, subspace: Tensor, own: slice, given: slice) -> Eraser:
    """Take out what a subspace (..., D', R) of the whitened features says of `own`."""
    right = subspace.transpose(-2, -1) @ whitening.matrix
    left = moments.covariance[own, given] @ right.transpose(-2, -1)
    return Eraser(left, right, moments.mean[: moments.num_features][given].clone())
