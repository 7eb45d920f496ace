"""What patches came to: scores of the patched, corrupted and clean runs, scaled so that 0 = corrupted and 1 = clean.

Scores of a run, for a pair with best moves a (clean) and b (corrupted):
- logit-difference: logit of a minus logit of b;
- kl: minus the divergence KL(clean policy || policy of the run), in nats;
- log-odds: of a against all other legal moves;
- route-agreement, where routes were walked: share of the clean run's route that is followed.

A scaled effect is a ratio of means over levels, (patched - corrupted) / (clean - corrupted): the mean of ratios would
be ruled by the pairs whose two runs hardly differ. Where the mean difference of the two runs is not clear of zero there
is no scale, and the value is nan with the reason beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from planprobe.core.errors import NoContrastError
from planprobe.core.pairs import HistoryPairs
from planprobe.core.records import Effect, Row
from planprobe.instruments.patching.patches import Patch
from planprobe.instruments.statistics.stats import NUM_RESAMPLES, bootstrap_table, cluster_bootstrap, ratio

UNITS = {"logit-difference": "logits", "kl": "nats", "log-odds": "nats", "route-agreement": "share of squares"}
NO_SQUARE, NO_SCALE = "no pair has such a square", "clean and corrupted runs do not clearly differ"


@dataclass(frozen=True)
class PatchEffects:
    """Scores of J patches on N pairs, float64.

    patched: measure -> (J, N), nan where the patch names nothing on that pair; corrupted, clean: measure -> (N,).
    right: 'clean' and 'corrupted' -> (N,) bool, the policy prefers the best move in that run. patches: the J.
    level_ids: (N,), the unit of intervals. estimates: (J, N) change of the logit difference that attribution patching
    foretells, where it was asked for.
    """

    patches: list[Patch]
    patched: dict[str, Tensor]
    corrupted: dict[str, Tensor]
    clean: dict[str, Tensor]
    right: dict[str, Tensor]
    level_ids: Tensor
    estimates: Tensor | None = None

    @property
    def measures(self) -> list[str]:
        return list(self.patched)

    def change(self, measure: str) -> Tensor:
        """Patched minus corrupted in the measure's own unit, (J, N)."""
        return self.patched[measure] - self.corrupted[measure]

    def gap(self, measure: str) -> Tensor:
        """Clean minus corrupted, (N,): what a scaled effect of 1 is worth."""
        return self.clean[measure] - self.corrupted[measure]

    def of_right_pairs(self) -> PatchEffects:
        """Only the pairs whose two runs the policy answers with the best move. Raises: NoContrastError (none)."""
        keep = self.right["clean"] & self.right["corrupted"]
        if not bool(keep.any()):
            raise NoContrastError(
                f"the policy prefers the best move in both runs on none of {len(keep)} pairs.\n"
                "  Use all pairs (only_right=False), more pairs, or an agent that solves the task."
            )
        one = {
            name: {key: value[keep] for key, value in getattr(self, name).items()} for name in ("corrupted", "clean")
        }
        return replace(
            self, **one, patched={name: value[:, keep] for name, value in self.patched.items()},
            right={name: value[keep] for name, value in self.right.items()}, level_ids=self.level_ids[keep],
            estimates=None if self.estimates is None else self.estimates[:, keep],
        )  # fmt: skip

    def baselines(self, *, seed: int = 0) -> list[Row]:
        """One row a measure: mean scores of both runs, and their difference with its interval over levels."""
        rows: list[Row] = []
        for measure in self.measures:
            gap = self._gap_effect(measure, seed)
            rows.append(
                {
                    "measure": measure, "unit": UNITS[measure], "corrupted": float(self.corrupted[measure].nanmean()),
                    "clean": float(self.clean[measure].nanmean()), "gap": gap.value, "gap_low": gap.low,
                    "gap_high": gap.high, "num_levels": gap.n, "num_pairs": len(self.level_ids),
                    "right_in_clean": float(self.right["clean"].double().mean()),
                    "right_in_corrupted": float(self.right["corrupted"].double().mean()),
                }
            )  # fmt: skip
        return rows

    def rows(self, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> list[Row]:
        """Tidy: one row a patch and measure.

        value, low, high: the scaled effect, 95 % interval over levels; raw, raw_low, raw_high: patched minus corrupted
        in `unit`; num_levels: that it rests on; estimate: the scaled effect that attribution foretells; reason: why
        there is no value.
        """
        rows: list[Row] = []
        for measure in self.measures:
            changes, gap = self.change(measure), self.gap(measure)
            clean_minus_corrupted = self._gap_effect(measure, seed)
            has_scale = clean_minus_corrupted.low > 0 or clean_minus_corrupted.high < 0
            mean = partial(bootstrap_table, statistic=ratio, num_resamples=num_resamples, seed=seed)
            none = [Effect(np.nan, np.nan, np.nan, 0, "")] * len(self.patches)
            scaled = mean(_sum_pairs(changes, gap, self.level_ids)) if has_scale else none
            raw = mean(_sum_pairs(changes, None, self.level_ids), unit=UNITS[measure])
            estimates = self._scaled_estimates(measure)
            for number, (patch, value, change) in enumerate(zip(self.patches, scaled, raw, strict=True)):
                reason = NO_SQUARE if not change.n else ("" if has_scale else NO_SCALE)
                row: Row = {**patch.labels, "measure": measure, "value": value.value, "low": value.low}
                row |= {"high": value.high, "raw": change.value, "raw_low": change.low, "raw_high": change.high}
                row |= {"unit": change.unit, "num_levels": change.n, "reason": reason}
                if estimates is not None:
                    row["estimate"] = float(estimates[number])
                rows.append(row)
        return rows

    def _gap_effect(self, measure: str, seed: int) -> Effect:
        sums = _sum_pairs(self.gap(measure)[None], None, self.level_ids)[0]
        return cluster_bootstrap(sums, ratio, unit=UNITS[measure], seed=seed)

    def _scaled_estimates(self, measure: str) -> np.ndarray | None:
        if self.estimates is None or measure != "logit-difference":
            return None
        sums = _sum_pairs(self.estimates, self.gap(measure), self.level_ids).sum(1)
        return ratio(sums)


def score_runs(
    pairs: HistoryPairs, patches: list[Patch], patched: Tensor, clean: Tensor, corrupted: Tensor, named: Tensor
) -> PatchEffects:
    """Scores from logits at the last step: patched (J, N, A), clean and corrupted (N, A); named (J, N) bool.

    Raises: NoContrastError (clean and corrupted logits are the same on every pair).
    """
    patched, clean, corrupted = (logits.double().cpu() for logits in (patched, clean, corrupted))
    if torch.equal(clean, corrupted):
        raise NoContrastError(
            f"the policy answers the clean and the corrupted run of all {len(pairs)} pairs alike (change "
            f"'{pairs.change}'): it does not see what was changed, so there is no effect to put back.\n"
            "  Next: another change, or let it think first (thinking steps) where it needs time to see."
        )
    score = {name: _score(logits, pairs, clean) for name, logits in (("clean", clean), ("corrupted", corrupted))}
    raw = _score(patched, pairs, clean)
    best = {"clean": (clean, pairs.clean_actions), "corrupted": (corrupted, pairs.corrupted_actions)}
    return PatchEffects(
        patches=patches,
        patched={name: value.masked_fill(~named, np.nan) for name, value in raw.items()},
        corrupted=score["corrupted"],
        clean=score["clean"],
        right={name: logits.argmax(-1) == actions.cpu() for name, (logits, actions) in best.items()},
        level_ids=pairs.level_ids.cpu(),
    )


def logit_difference(logits: Tensor, pairs: HistoryPairs) -> Tensor:
    """Logit of the clean run's best move minus that of the corrupted run's, (..., N) of logits (..., N, A)."""
    picked = [_at(logits, actions) for actions in (pairs.clean_actions, pairs.corrupted_actions)]
    return picked[0] - picked[1]


def _score(logits: Tensor, pairs: HistoryPairs, clean: Tensor) -> dict[str, Tensor]:
    """Every measure of logits (..., N, A)."""
    log_clean, log_policy = clean.log_softmax(-1), logits.log_softmax(-1)
    divergence = (log_clean.exp() * (log_clean - log_policy)).sum(-1).clamp(min=0)  # rounding may leave -1e-17
    others = pairs.legal.cpu().scatter(1, pairs.clean_actions.cpu()[:, None], False)
    against = logits.masked_fill(~others, -torch.inf).logsumexp(-1)
    return {
        "logit-difference": logit_difference(logits, pairs),
        "kl": -divergence,
        "log-odds": _at(logits, pairs.clean_actions) - against,
    }


def _at(logits: Tensor, actions: Tensor) -> Tensor:
    return logits.gather(-1, actions.to(logits.device).expand(logits.shape[:-1])[..., None]).squeeze(-1)


def _sum_pairs(above: Tensor, below: Tensor | None, level_ids: Tensor) -> np.ndarray:
    """Per level the sums of numerator and denominator, (J, levels, 2); below None counts the pairs, for a mean.

    Pairs without a numerator count in neither. A negative denominator turns both signs: `ratio` wants it positive.
    """
    known = ~above.isnan()
    weights = torch.ones_like(above) if below is None else below.expand_as(above)
    parts = torch.stack([above.nan_to_num(), weights]).masked_fill(~known, 0.0)
    _, places = level_ids.unique(return_inverse=True)
    sums = parts.new_zeros(*parts.shape[:2], int(places.max()) + 1).index_add_(2, places, parts)
    if below is not None and float(below.nansum()) < 0:
        sums = -sums
    return sums.permute(1, 2, 0).numpy()
