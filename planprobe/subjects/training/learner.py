"""One update: returns, loss, gradient step, over whole sequences with their stored memories."""

from __future__ import annotations

import torch
from torch import Tensor

from planprobe.core.errors import TrainingDivergedError
from planprobe.subjects.nets.base import Net
from planprobe.subjects.recipe import TrainingRecipe
from planprobe.subjects.training.collect import Batch
from planprobe.subjects.training.losses import gae, impala_loss, ppo_loss
from planprobe.subjects.training.predict import Predictor


class Learner:
    """Net, optimiser and schedules; knows nothing of environments or files.

    view_planes: of an observation, how many come first and show the task; None: all. See `Predictor`.
    """

    def __init__(
        self, net: Net, recipe: TrainingRecipe, *, seed: int, bf16: bool = False, view_planes: int | None = None
    ) -> None:
        self.net, self.recipe, self.bf16 = net, recipe, bf16
        self.predictor = None
        if recipe.predict_weight:
            self.predictor = Predictor(net, view_planes=view_planes).to(next(net.parameters()).device)
        self.parameters = [*net.parameters(), *(self.predictor.parameters() if self.predictor else ())]
        self.optimizer = torch.optim.Adam(self.parameters, lr=recipe.lr[0], eps=recipe.adam_eps)
        self.generator = torch.Generator().manual_seed(seed + 1)

    def update(self, batch: Batch, *, done_fraction: float) -> dict[str, float]:
        """`epochs` passes over a batch in minibatches of boards; mean of each loss term.

        done_fraction: share of the run that is done, in [0, 1]; places lr and entropy on their schedules.
        Raises: TrainingDivergedError (loss or gradient is not finite; the weights are those before this batch's step).
        """
        recipe = self.recipe
        self._set_rate(done_fraction)
        entropy_weight = _schedule(recipe.entropy, done_fraction)
        advantages, targets = self._returns(batch)
        totals: dict[str, Tensor] = {}
        count = 0  # of minibatches: few boards may make fewer than are asked for
        for _ in range(recipe.epochs):
            order = torch.randperm(batch.actions.shape[1], generator=self.generator).to(batch.actions.device)
            for ids in order.chunk(recipe.num_minibatches):
                loss, stats = self._loss(batch.boards(ids), advantages[:, ids], targets[:, ids], entropy_weight)
                stats["grad_norm"] = self._step(loss)
                count += 1
                for name, value in stats.items():
                    totals[name] = totals.get(name, 0) + value.detach()
        means = torch.stack(list(totals.values())).cpu().tolist()  # one look at what the device has worked out
        return {name: round(total / count, 5) for name, total in zip(totals, means, strict=True)}

    def _set_rate(self, done_fraction: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = _schedule(self.recipe.lr, done_fraction)

    def _returns(self, batch: Batch) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        advantages = gae(
            batch.rewards, batch.values, batch.trial_done, batch.last_value, gamma=recipe.gamma, lam=recipe.lam
        )
        targets = advantages + batch.values
        return (advantages - advantages.mean()) / (advantages.std() + 1e-6), targets

    def _loss(
        self, part: Batch, advantages: Tensor, targets: Tensor, entropy_weight: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(part.actions.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            features, _ = self.net.unroll_features(part.observations, part.state, part.starts)
            logits, values = self.net.head(features)
        logits, values = (each.float().unflatten(0, part.actions.shape) for each in (logits, values))
        if self.recipe.algorithm == "ppo":
            loss, stats = ppo_loss(logits, values, part, advantages, targets, self.recipe, entropy_weight)
        else:
            loss, stats = impala_loss(logits, values, part, self.recipe, entropy_weight)
        if self.predictor:
            stats["predict_loss"] = self.predictor.loss(features.float(), part)
            loss = loss + self.recipe.predict_weight * stats["predict_loss"]
        return loss, stats

    def _step(self, loss: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.grad_clip)
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            raise TrainingDivergedError(f"loss {float(loss.detach())} and gradient norm {float(norm)}")
        self.optimizer.step()
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        """Optimiser moments, the minibatch generator and the predictor, as tensors."""
        tensors = {"minibatch_generator": self.generator.get_state()}
        if self.predictor:
            tensors |= {f"predictor.{name}": value for name, value in self.predictor.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return tensors

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.generator.set_state(tensors["minibatch_generator"])
        if self.predictor:
            prefix = "predictor."
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            self.predictor.load_state_dict(own)


def _schedule(ends: tuple[float, float], done_fraction: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * done_fraction
