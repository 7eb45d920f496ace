"""The trainer: collect T steps, update, log, evaluate, checkpoint; resumable to the bit on a CPU.

Everything that the next update depends on (weights, optimiser, environment, memory, random state, frame count) is in
one safetensors file that is replaced atomically: a run killed at any moment loses at most `checkpoint_every` frames.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from planprobe.core.allocator import keep_freed_memory
from planprobe.core.errors import CheckpointError, TrainingDivergedError
from planprobe.core.store import load_strictly, load_tensors, save_tensors, write_atomic
from planprobe.subjects.envs.catalog import make_env, task_levels
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.nets.lstm_cell import compile_cell
from planprobe.subjects.recipe import Recipe, recipe_to_toml
from planprobe.subjects.training.collect import Batch, Collector
from planprobe.subjects.training.evaluate import evaluate, solve_rate
from planprobe.subjects.training.learner import Learner

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
        self.recipe, self.folder, self.device = recipe, Path(folder), device
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
        self.learner = Learner(self.net, training, seed=recipe.seed, bf16=bf16)
        self.collector = self._make_collector()
        self._open_folder(resume)

    # the loop --------------------------------------------------------------------------------------------------------
    def run(self, *, max_seconds: float = float("inf")) -> bool:
        """Train until the recipe's frames are done (True) or the time is up (False). Always ends with a checkpoint."""
        training, began, first_frame = self.recipe.training, time.monotonic(), self.frames
        while self.frames < training.frames and time.monotonic() - began < max_seconds:
            batch = self.collector.collect(training.unroll)
            stats = self._update(batch)
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

    def _update(self, batch: Batch) -> dict[str, float]:
        try:
            return self.learner.update(batch, done_fraction=min(self.frames / self.recipe.training.frames, 1.0))
        except TrainingDivergedError as error:
            kept = self.folder / RESUME_FILE
            raise TrainingDivergedError(
                f"{error} after {self.frames} frames. The last good checkpoint is '{kept}'; "
                "lower lr or grad_clip and train anew."
            ) from None

    def validate(self) -> float:
        """Greedy solve rate on levels of the valid split."""
        task = self.recipe.task
        levels = task_levels(task, "valid", self.recipe.training.num_eval_levels)
        rollout = evaluate(self.net, task, levels, reset_memory=self.recipe.training.reset_memory, device=self.device)
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
        tensors |= self.learner.state_dict()
        tensors |= {f"collector.{k}": v for k, v in self.collector.state_dict().items()}
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
        self.learner.load_state_dict(tensors)
        self.frames, self.recent_solve_rate = metadata["frames"], metadata["recent_solve_rate"]
        self._next_eval, self._next_checkpoint = metadata["next_eval"], metadata["next_checkpoint"]
        self.collector = self._make_collector()
        prefix = "collector."
        self.collector.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        lines = (self.folder / LOG_FILE).read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["frames"] <= self.frames]
        write_atomic(self.folder / LOG_FILE, "".join(kept))

    def _log(self, row: dict) -> None:
        with open(self.folder / LOG_FILE, "a") as file:
            file.write(json.dumps({"frames": self.frames, **row}) + "\n")
