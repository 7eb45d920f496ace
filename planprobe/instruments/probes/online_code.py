"""Minimum description length of a concept given activations: how much effort it takes to read it, in bits.

Labels are sent one block of levels after the other, each coded by a probe that was fitted on the blocks before; the
first goes uniformly. A concept that is written plainly is learnt from few levels and costs few bits; one that a probe
must dig out costs many, even where both end at the same accuracy. Compression is the uniform code's length over this
one's; 1 = nothing is gained.
Source: online (prequential) code, Voita & Titov 2020.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from planprobe.core.errors import TooFewLevelsError
from planprobe.core.rng import draw_bits
from planprobe.instruments.probes.linear_probes import into_span
from planprobe.instruments.probes.softmax_regression import solve_softmax

FRACTIONS = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0)


@dataclass(frozen=True)
class OnlineCode:
    """bits: of the whole message. uniform_bits: with every class equally likely. num_rows: labels sent.
    block_bits: of each block, first to last, per label (nan for an empty one)."""

    bits: float
    uniform_bits: float
    num_rows: int
    block_bits: tuple[float, ...]

    @property
    def compression(self) -> float:
        return self.uniform_bits / self.bits if self.bits > 0 else math.inf


def online_codes(
    features: Tensor,
    labels: Tensor,
    *,
    level_ids: Tensor,
    num_classes: int,
    l2: float = 1e-3,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> list[OnlineCode]:
    """The code lengths of V label maps given one set of features; each block's probes are fitted together.

    Blocks are of levels, in an order drawn once, so that no near-copy of a coded square was seen before. Probability is
    mixed with a thousandth of the uniform one: a probe that is sure and wrong costs ten bits a label and not infinity.

    Args:
        features: (N, D). labels: (V, N) or (N,), -1 left out. level_ids: (N,).
        l2: strength of every fit; one is enough, since what is compared is coded with the same. fractions: ends of the
            blocks, as shares of the levels, rising to 1.
    Raises: TooFewLevelsError (fewer levels than blocks).
    """
    labels = torch.atleast_2d(labels).to(torch.int64)
    levels, level_of_row = level_ids.unique(return_inverse=True)
    ends = [round(fraction * len(levels)) for fraction in fractions]
    if len(set(ends)) < len(ends) or ends[0] < 1:
        raise TooFewLevelsError(
            f"an online code of {len(fractions)} blocks needs levels in each of them; {len(levels)} levels give blocks "
            f"that end at {ends}. Play more levels, or take fewer blocks."
        )
    rank = draw_bits(seed, levels).argsort(stable=True).argsort()[level_of_row]
    strength = torch.full((len(labels),), l2, device=features.device)
    variants = torch.arange(len(labels), device=features.device)
    uniform = math.log2(num_classes)
    bits = [_count(labels, rank < ends[0]) * uniform]
    for start, end in itertools.pairwise(ends):
        seen, sent = rank < start, (rank >= start) & (rank < end)
        mean, scale = _scaling(features[seen])
        train, basis = into_span((features[seen].float() - mean) / scale)
        fit = solve_softmax(
            train, labels[:, seen], strength, variants, num_classes=num_classes, uncorrelated=basis is not None
        )
        rows = (features[sent].float() - mean) / scale
        rows = rows if basis is None else rows @ basis.T
        logits = torch.einsum("vcd,nd->vnc", fit.weights.float(), rows) + fit.biases.float()[:, None]
        bits.append(_code_length(logits, labels[:, sent]))
    per_block = torch.stack(bits, dim=1)
    edges = [0, *ends]
    counts = torch.stack([_count(labels, (rank >= a) & (rank < b)) for a, b in zip(edges, ends, strict=False)], dim=1)
    return [
        OnlineCode(
            float(own.sum()), float(number.sum()) * uniform, int(number.sum()), tuple((own / number).tolist())
        )
        for own, number in zip(per_block, counts, strict=True)
    ]  # fmt: skip


def _count(labels: Tensor, rows: Tensor) -> Tensor:
    return (labels[:, rows] >= 0).sum(1).double()


def _scaling(features: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(features.float(), dim=0, correction=0)
    varying = std > 1e-6 * mean.abs()
    return mean, std[varying].median() if bool(varying.any()) else torch.ones_like(std).mean()


def _code_length(logits: Tensor, labels: Tensor) -> Tensor:
    """Bits of each map (V,), from logits (V, n, classes) and labels (V, n)."""
    chances = logits.double().softmax(2) * 0.999 + 0.001 / logits.shape[2]
    own = chances.gather(2, labels.clamp(min=0)[..., None]).squeeze(2)
    return -(own.log2() * (labels >= 0)).sum(1)
