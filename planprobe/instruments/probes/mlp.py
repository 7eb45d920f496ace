"""A read-out with one hidden layer: what is in a set of features, though no linear map shows it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from planprobe.core.errors import ShapeError
from planprobe.instruments.probes.splits import Split, check_split

HIDDEN, UPDATES, BATCH_ROWS, LEARNING_RATE = 64, 400, 512, 5e-3
CHECK_EVERY = 50


@dataclass(frozen=True)
class NumberMLP:
    """Fitted: (N, D) -> (N, V) float32. valid_loss: mean squared error on scaled numbers, by which it was stopped."""

    layers: nn.Sequential
    feature_scale: tuple[Tensor, Tensor]
    number_scale: tuple[Tensor, Tensor]
    valid_loss: float

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        mean, spread = self.feature_scale
        middle, width = self.number_scale
        return self.layers((features.float() - mean) / spread) * width + middle


def fit_mlp(
    features: Tensor,
    numbers: Tensor,
    *,
    level_ids: Tensor,
    split: Split,
    hidden: int = HIDDEN,
    num_updates: int = UPDATES,
    seed: int = 0,
) -> NumberMLP:
    """Least squares by Adam on batches of train rows, kept where the valid rows were fitted best.

    Args: features (N, D); numbers (N, V); level_ids (N,), the unit of the split. seed: of first weights and batches.
    Raises: ShapeError (the inputs disagree about N, a part of the split is empty, or a level lies in two parts).
    """
    sizes = {len(features), len(numbers), len(level_ids), *(len(mask) for mask in split)}
    if len(sizes) > 1 or numbers.ndim != 2 or not all(bool(mask.any()) for mask in split):
        raise ShapeError(
            f"features {tuple(features.shape)}, numbers {tuple(numbers.shape)}, level_ids {tuple(level_ids.shape)}: "
            "need (N, D), (N, V), (N,) and rows in every part of the split."
        )
    check_split(level_ids, split)
    feature_scale, number_scale = _scale(features[split.train]), _scale(numbers[split.train])
    x, y = (
        (part.float() - scale[0]) / scale[1] for part, scale in ((features, feature_scale), (numbers, number_scale))
    )
    train_x, train_y, valid_x, valid_y = x[split.train], y[split.train], x[split.valid], y[split.valid]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, y.shape[1]))
    optimiser = torch.optim.Adam(layers.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=num_updates)
    best, kept = torch.inf, layers.state_dict()
    for update in range(1, num_updates + 1):
        rows = torch.randint(len(train_x), (min(BATCH_ROWS, len(train_x)),), generator=generator)
        optimiser.zero_grad(set_to_none=True)
        nn.functional.mse_loss(layers(train_x[rows]), train_y[rows]).backward()
        optimiser.step()
        schedule.step()
        if update % CHECK_EVERY == 0 or update == num_updates:
            with torch.no_grad():
                loss = float(nn.functional.mse_loss(layers(valid_x), valid_y))
            if loss < best:
                best, kept = loss, {name: value.clone() for name, value in layers.state_dict().items()}
    layers.load_state_dict(kept)
    return NumberMLP(layers.requires_grad_(False), feature_scale, number_scale, best)


def _scale(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column (V,); a constant column has spread one."""
    spread, mean = torch.std_mean(values.float(), dim=0, correction=0)
    return mean, torch.where(spread > 1e-6, spread, 1.0)
