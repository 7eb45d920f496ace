"""Returns and losses: recurrent PPO and IMPALA's V-trace, on the same batch and the same unroll.

Returns run *through* episode ends and stop at trial ends: the only flag used here is `trial_done`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.subjects.recipe import TrainingRecipe
from planprobe.subjects.training.collect import Batch


def gae(rewards: Tensor, values: Tensor, done: Tensor, last_value: Tensor, *, gamma: float, lam: float) -> Tensor:
    """Advantages (T, B) by generalised advantage estimation (Schulman 2016); `done` cuts after its step."""
    next_values = torch.cat([values[1:], last_value[None]])
    keep = gamma * (~done).to(values.dtype)
    deltas = rewards + keep * next_values - values
    advantages = torch.empty_like(values)
    running = torch.zeros_like(last_value)
    for t in reversed(range(len(rewards))):
        running = deltas[t] + lam * keep[t] * running
        advantages[t] = running
    return advantages


def vtrace(
    log_ratios: Tensor, rewards: Tensor, values: Tensor, done: Tensor, last_value: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """V-trace value targets and policy advantages, each (T, B) (Espeholt 2018, both clips at 1, traces times lam)."""
    ratios = log_ratios.exp().clamp(max=1.0)
    next_values = torch.cat([values[1:], last_value[None]])
    keep = gamma * (~done).to(values.dtype)
    deltas = ratios * (rewards + keep * next_values - values)
    corrections = torch.empty_like(values)
    running = torch.zeros_like(last_value)
    for t in reversed(range(len(rewards))):
        running = deltas[t] + lam * keep[t] * ratios[t] * running
        corrections[t] = running
    targets = values + corrections
    next_targets = torch.cat([targets[1:], last_value[None]])
    return targets, ratios * (rewards + keep * next_targets - values)


def ppo_loss(
    logits: Tensor, values: Tensor, batch: Batch, advantages: Tensor, targets: Tensor, recipe: TrainingRecipe,
    entropy_weight: float,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Clipped surrogate, value loss and entropy; advantages (T, B) are already normalised over the whole batch."""
    log_prob, entropy = _log_prob_entropy(logits, batch.actions)
    ratio = (log_prob - batch.log_probs).exp()
    clipped = ratio.clamp(1 - recipe.clip, 1 + recipe.clip)
    policy_loss = -_mean(torch.minimum(ratio * advantages, clipped * advantages), batch.acted)
    return _total(policy_loss, values, targets, entropy, logits, batch, recipe, entropy_weight)


def impala_loss(
    logits: Tensor, values: Tensor, batch: Batch, recipe: TrainingRecipe, entropy_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """V-trace actor-critic: targets from the learner's own values, one pass over each batch."""
    log_prob, entropy = _log_prob_entropy(logits, batch.actions)
    targets, advantages = vtrace(
        (log_prob - batch.log_probs).detach(), batch.rewards, values.detach(), batch.trial_done, batch.last_value,
        gamma=recipe.gamma, lam=recipe.lam,
    )  # fmt: skip
    policy_loss = -_mean(log_prob * advantages, batch.acted)
    return _total(policy_loss, values, targets, entropy, logits, batch, recipe, entropy_weight)


def _log_prob_entropy(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    log_probs = torch.log_softmax(logits, dim=-1)
    return log_probs.gather(-1, actions[..., None]).squeeze(-1), -(log_probs.exp() * log_probs).sum(-1)


def _mean(x: Tensor, where: Tensor) -> Tensor:
    """Mean over the steps whose action had an effect: a thinking step's action teaches nothing."""
    where = where.to(x.dtype)
    return (x * where).sum() / where.sum().clamp(min=1)


def _total(
    policy_loss: Tensor, values: Tensor, targets: Tensor, entropy: Tensor, logits: Tensor, batch: Batch,
    recipe: TrainingRecipe, entropy_weight: float,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    value_loss = 0.5 * (values - targets).pow(2).mean()
    entropy_mean = _mean(entropy, batch.acted)
    loss = policy_loss + recipe.value_weight * value_loss - entropy_weight * entropy_mean
    if recipe.logit_l2:
        loss = loss + recipe.logit_l2 * logits.pow(2).sum(-1).mean()
    return loss, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy_mean, "loss": loss}
