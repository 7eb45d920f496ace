"""Probes of one site: our solver on every label map, decoy and strength at once, against scikit-learn one at a time.

Both minimise the same loss on the same rows, and the losses are compared before the times are: a ratio between solvers
that stop at different places would mean nothing.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.stopwatch import report
from planprobe.instruments.probes.softmax_regression import solve_softmax

ROWS, CLASSES = 6000, 5
CHANNELS, KERNELS = 16, (1, 3)
CONCEPTS, DECOYS = 4, 2  # label maps of one site: concepts, each with its shuffled and random twin
STRENGTHS = (1e-5, 1e-4, 1e-3)
SCIKIT_PROBLEMS = 4  # of them all, spread evenly: one at a time takes long
MAX_GAP = 1e-5  # of the penalised mean loss
TOLERANCE = 1e-7  # of both solvers; tighter than the table's own, so that losses agree


def main() -> None:
    for kernel in KERNELS:
        features, labels = make_data(CHANNELS * kernel**2)
        variants = torch.arange(len(labels)).repeat_interleave(len(STRENGTHS))
        l2 = torch.tensor(STRENGTHS).repeat(len(labels)).double()
        began = time.perf_counter()
        solution = solve_softmax(features, labels, l2, variants, num_classes=CLASSES, tolerance=TOLERANCE)
        ours = (time.perf_counter() - began) / len(l2)
        chosen = np.linspace(0, len(l2) - 1, SCIKIT_PROBLEMS).astype(int).tolist()
        began = time.perf_counter()
        fits = [fit_scikit(features, labels[variants[problem]], float(l2[problem])) for problem in chosen]
        theirs = (time.perf_counter() - began) / len(chosen)
        gaps = [
            float(solution.losses[problem]) - loss_of(features, labels[variants[problem]], fit, float(l2[problem]))
            for problem, fit in zip(chosen, fits, strict=True)
        ]
        numbers = {
            "scikit-learn / ours, per probe": theirs / ours,
            "ours, ms a probe": 1000 * ours,
            "scikit-learn, ms a probe": 1000 * theirs,
            f"largest gap in loss, x {MAX_GAP:.0e}": max(gaps) / MAX_GAP,
        }
        title = f"probes {kernel}x{kernel}: {ROWS} rows, {features.shape[1]} features, {len(l2)} problems"
        report(title, numbers, "", "ratio >= 10 x, gap <= 1")


def make_data(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows like activations (bounded, correlated), and maps that are read from them, shuffled or random."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    features = torch.tanh(2 * torch.randn(ROWS, width, generator=generator) @ mixing)
    features = (features - features.mean(0)) / features.std(0).median()
    maps = []
    for _ in range(CONCEPTS):
        logits = features @ torch.randn(width, CLASSES, generator=generator) * 2 / width**0.5
        logits[:, 0] += 2.0
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
        maps += [labels, *(labels[torch.randperm(ROWS, generator=generator)] for _ in range(DECOYS))]
    return features, torch.stack(maps)


def fit_scikit(features: torch.Tensor, labels: torch.Tensor, l2: float) -> LogisticRegression:
    model = LogisticRegression(C=1 / (len(labels) * l2), tol=TOLERANCE, max_iter=5000)
    return model.fit(features.numpy(), labels.numpy())


def loss_of(features: torch.Tensor, labels: torch.Tensor, fit: LogisticRegression, l2: float) -> float:
    weights, biases = torch.tensor(fit.coef_).double(), torch.tensor(fit.intercept_).double()
    nll = torch.nn.functional.cross_entropy(features.double() @ weights.T + biases, labels)
    return float(nll + 0.5 * l2 * weights.square().sum())


if __name__ == "__main__":
    main()
