"""The trainer: collect T steps, update, log, evaluate, checkpoint; resumable to the bit on a CPU.

Everything that the next update depends on (weights, optimiser, environment, memory, random state, frame count) is in one
safetensors file that is replaced atomically, so a run killed at any moment loses at most `checkpoint_every` frames.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from planprobe.core.errors import CheckpointError, TrainingDivergedError
from planprobe.core.store import load_strictly, load_tensors, save_tensors, write_atomic
from planprobe.subjects.envs.catalog import make_env, task_levels
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.nets.lstm_cell import compile_cell
from planprobe.subjects.recipe import Recipe, recipe_to_toml
from planprobe.subjects.training.collect import Batch, Collector
from planprobe.subjects.training.evaluate import evaluate, solve_rate
from planprobe.subjects.training.losses import gae, impala_loss, ppo_loss

RESUME_FILE, LOG_FILE, RECIPE_FILE = "resume.safetensors", "log.jsonl", "recipe.toml"
SCHEMA = 1
WARM_UP_LEVELS = 4000  # small boards have few layouts: 3 x 3 maze cells give 192 trees and some 12,500 levels in all


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows, once an update."""

    frames: int
    total_frames: int
    solve_rate: float
    frames_per_second: float
    seconds_left: float


class Trainer:
    """One training run in one folder.

    Args:
        recipe: what to train. folder: where resume file and log go; a folder of another recipe is refused.
        device: 'cpu' or 'cuda'; the whole loop stays on it. compiled: torch.compile the cell (needs a C++ compiler).
        bf16: autocast of forward passes, on a GPU. on_progress: called once an update.
        initial_weights: start from these in place of a random net.
    Raises: CheckpointError (the folder holds another recipe's run, or a run exists and `resume` is false).
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: str | Path,
        *,
        resume: bool = False,
        device: str = "cpu",
        compiled: bool = False,
        bf16: bool = False,
        initial_weights: dict[str, Tensor] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.recipe, self.folder, self.device, self.bf16 = recipe, Path(folder), device, bf16
        self.on_progress = on_progress
        keep_freed_memory()
        if compiled:
            compile_cell()
        torch.manual_seed(recipe.seed)
        training = recipe.training
        self.frames, self.recent_solve_rate, self._next_eval = 0, 0.0, training.eval_every
        self._next_checkpoint = training.checkpoint_every
        env = make_env(recipe.task, task_levels(recipe.task, "valid", 1), 1, training=False)
        self.net = make_net_for(recipe.net, env).to(device).to(memory_format=torch.channels_last)
        if initial_weights is not None:
            load_strictly(self.net, initial_weights, where="initial weights")
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=training.lr[0], eps=training.adam_eps)
        self.collector = self._make_collector()
        self.minibatch_generator = torch.Generator().manual_seed(recipe.seed + 1)
        self._open_folder(resume)

    # the loop --------------------------------------------------------------------------------------------------------
    def run(self, *, max_seconds: float = float("inf")) -> bool:
        """Train until the recipe's frames are done (True) or the time is up (False). Always ends with a checkpoint."""
        training, began, first_frame = self.recipe.training, time.monotonic(), self.frames
        while self.frames < training.frames and time.monotonic() - began < max_seconds:
            batch = self.collector.collect(training.unroll)
            stats = self.update(batch)
            warming_up = self._warming_up
            self.frames += batch.actions.numel()
            if warming_up and not self._warming_up:
                self.collector = self._make_collector()
            self.recent_solve_rate += 0.05 * (batch.num_solved / max(batch.num_ended, 1) - self.recent_solve_rate)
            rate = (self.frames - first_frame) / (time.monotonic() - began)
            left = (training.frames - self.frames) / rate
            if self.on_progress:
                self.on_progress(Progress(self.frames, training.frames, self.recent_solve_rate, rate, left))
            self._log({"train_solve_rate": round(self.recent_solve_rate, 4), "fps": round(rate), **stats})
            if self.frames >= self._next_eval:
                self._next_eval += training.eval_every
                self._log({"valid_solve_rate": self.validate()})
            if self.frames >= self._next_checkpoint:
                self._next_checkpoint += training.checkpoint_every
                self.checkpoint()
        self.checkpoint()
        return self.frames >= training.frames

    def update(self, batch: Batch) -> dict[str, float]:
        """One pass (or `epochs` passes) over a batch, whole sequences in each minibatch."""
        training = self.recipe.training
        done_fraction = min(self.frames / training.frames, 1.0)
        entropy_weight = _schedule(training.entropy, done_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = _schedule(training.lr, done_fraction)
        advantages = gae(
            batch.rewards, batch.values, batch.trial_done, batch.last_value, gamma=training.gamma, lam=training.lam
        )
        targets = advantages + batch.values
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-6)
        totals: dict[str, Tensor] = {}
        for _ in range(training.epochs):
            order = torch.randperm(batch.actions.shape[1], generator=self.minibatch_generator).to(self.device)
            for ids in order.chunk(training.num_minibatches):
                part = batch.boards(ids)
                with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16):
                    logits, values, _ = self.net.unroll(part.observations, part.state, part.starts)
                logits, values = logits.float(), values.float()
                if training.algorithm == "ppo":
                    loss, stats = ppo_loss(
                        logits, values, part, advantages[:, ids], targets[:, ids], training, entropy_weight
                    )
                else:
                    loss, stats = impala_loss(logits, values, part, training, entropy_weight)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), training.grad_clip)
                self._check_finite(loss, norm)
                self.optimizer.step()
                for name, value in {**stats, "grad_norm": norm}.items():
                    totals[name] = totals.get(name, 0) + value.detach()
        count = training.epochs * training.num_minibatches
        return {name: round(float(value) / count, 5) for name, value in totals.items()}

    def validate(self) -> float:
        """Greedy solve rate on levels of the valid split."""
        task = self.recipe.task
        levels = task_levels(task, "valid", self.recipe.training.num_eval_levels)
        rollout = evaluate(
            self.net, task, levels, reset_memory=self.recipe.training.reset_memory, device=self.device
        )
        return solve_rate(rollout)

    @property
    def _warming_up(self) -> bool:
        return self.frames < self.recipe.task.warm_up_frames

    def _make_collector(self) -> Collector:
        """A fresh environment on the board size that the present frame count asks for."""
        task, training, seed = self.recipe.task, self.recipe.training, self.recipe.seed
        if self._warming_up:
            num_levels = min(task.num_levels, WARM_UP_LEVELS)
            task = replace(task, size=task.warm_up_size, num_boxes=task.warm_up_boxes, num_levels=num_levels)
        levels = task_levels(task, "train", task.num_levels)
        env = make_env(task, levels, training.num_boards, training=True, seed=seed, device=self.device)
        return Collector(
            self.net, env, reset_memory=training.reset_memory, reward_scale=training.reward_scale, seed=seed
        )

    # what survives a kill --------------------------------------------------------------------------------------------
    def checkpoint(self) -> None:
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        tensors |= {f"collector.{k}": v for k, v in self.collector.state_dict().items()}
        tensors["minibatch_generator"] = self.minibatch_generator.get_state()
        metadata = {
            "schema": SCHEMA, "recipe_hash": self.recipe.hash(), "frames": self.frames,
            "recent_solve_rate": self.recent_solve_rate, "next_eval": self._next_eval,
            "next_checkpoint": self._next_checkpoint,
        }  # fmt: skip
        save_tensors(self.folder / RESUME_FILE, tensors, metadata)

    def _open_folder(self, resume: bool) -> None:
        path = self.folder / RESUME_FILE
        if path.exists() and not resume:
            raise CheckpointError(f"'{self.folder}' already holds a run. Continue it with --resume, or name another.")
        if not path.exists():
            write_atomic(self.folder / RECIPE_FILE, recipe_to_toml(self.recipe))
            write_atomic(self.folder / LOG_FILE, "")
            return
        tensors, metadata = load_tensors(path)
        if metadata["recipe_hash"] != self.recipe.hash():
            raise CheckpointError(f"'{self.folder}' holds a run of another recipe; name another folder.")
        self.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        self._load_optimizer(tensors)
        self.frames, self.recent_solve_rate = metadata["frames"], metadata["recent_solve_rate"]
        self._next_eval, self._next_checkpoint = metadata["next_eval"], metadata["next_checkpoint"]
        self.collector = self._make_collector()
        prefix = "collector."
        self.collector.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        self.minibatch_generator.set_state(tensors["minibatch_generator"])
        lines = (self.folder / LOG_FILE).read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["frames"] <= self.frames]
        write_atomic(self.folder / LOG_FILE, "".join(kept))

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _check_finite(self, loss: Tensor, norm: Tensor) -> None:
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            raise TrainingDivergedError(
                f"loss {float(loss)} and gradient norm {float(norm)} after {self.frames} frames. The last good "
                f"checkpoint is '{self.folder / RESUME_FILE}'; lower lr or grad_clip and train anew."
            )

    def _log(self, row: dict) -> None:
        with open(self.folder / LOG_FILE, "a") as file:
            file.write(json.dumps({"frames": self.frames, **row}) + "\n")


def _schedule(ends: tuple[float, float], done_fraction: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * done_fraction


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed blocks: mapping and clearing 4 MB afresh for every tensor costs a third of a CPU run."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # not glibc: nothing to tune
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        libc.mallopt(option, value)
