"""The trainer: collect T steps, update, log, evaluate, checkpoint; resumable to the bit on a CPU.

Everything that the next update depends on (weights, optimiser, environment, memory, random state, frame count) is in
one safetensors file that is replaced atomically: a run killed at any moment loses at most `checkpoint_every` frames,
and at most `CHECKPOINT_SECONDS` and one update.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planprobe.core.allocator import keep_freed_memory
from planprobe.core.errors import CheckpointError, RecipeError, TrainingDivergedError
from planprobe.core.store import load_strictly, load_tensors, remove_unfinished, save_tensors, write_atomic
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.nets.lstm_cell import compile_cell
from planprobe.subjects.recipe import Recipe, recipe_to_toml
from planprobe.subjects.training.collect import Batch, Collector
from planprobe.subjects.training.learner import Learner
from planprobe.subjects.training.teach import LessonCollector, TaughtLearner
from planprobe.subjects.training.worlds import is_warming_up, make_shape_env, make_training_env, validate

RESUME_FILE, LOG_FILE, RECIPE_FILE = "resume.safetensors", "log.jsonl", "recipe.toml"
SCHEMA = 1
CHECKPOINT_SECONDS = 300  # a slow net takes an hour for the frames that a recipe counts in


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows, once an update. trial_return: None for tasks on levels."""

    frames: int
    total_frames: int
    solve_rate: float
    frames_per_second: float
    seconds_left: float
    trial_return: float | None = None


class Trainer:
    """One training run in one folder.

    Args:
        recipe: what to train. folder: where resume file and log go; a folder of another recipe is refused.
        device: 'cpu' or 'cuda'; the whole loop stays on it. compiled: torch.compile the cell (needs a C++ compiler).
        bf16: autocast of the update's forward passes; it pays on a GPU. on_progress: called once an update.
        initial_weights: start from these in place of a random net; of the recipe's `start`, where it names one.
    Raises: CheckpointError (the folder holds another recipe's run, or a run exists and `resume` is false), RecipeError
        (a new run of a recipe that starts from an agent, without its weights).
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
        self._next_checkpoint, self._saved_at = training.checkpoint_every, time.monotonic()
        self.recent_returns: list[float] = []
        self.frames_per_second = 0.0  # since `run` was called
        shape_env = make_shape_env(recipe)
        net = make_net_for(recipe.net, shape_env).to(device)
        self.net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - a stub lacks it
        if initial_weights is not None:
            load_strictly(self.net, initial_weights, where="what the run begins with")
        elif recipe.start and not (self.folder / RESUME_FILE).exists():
            raise RecipeError(
                f"'{recipe.name}' begins with the weights of '{recipe.start}', and none were given.\n"
                f"  Next: initial_weights = load_agent('{recipe.start}').net.state_dict(), or planprobe train."
            )
        if training.algorithm == "teach":
            self.learner: Learner = TaughtLearner(self.net, training, seed=recipe.seed)
        else:
            self.learner = Learner(
                self.net, training, seed=recipe.seed, bf16=bf16, view_planes=getattr(shape_env, "view_planes", None)
            )
        self.collector = self._make_collector()
        self._open_folder(resume)

    # the loop --------------------------------------------------------------------------------------------------------
    def run(self, *, max_seconds: float = float("inf")) -> bool:
        """Train until the recipe's frames are done (True) or the time is up (False). Always ends with a checkpoint."""
        training, began, first_frame = self.recipe.training, time.monotonic(), self.frames
        while self.frames < training.frames and time.monotonic() - began < max_seconds:
            batch = self.collector.collect(training.unroll)
            stats = self._update(batch)
            warming_up = is_warming_up(self.recipe, self.frames)
            self.frames += batch.actions.numel()
            if warming_up and not is_warming_up(self.recipe, self.frames):
                self.collector = self._make_collector()
            self.frames_per_second = (self.frames - first_frame) / (time.monotonic() - began)
            self._log({**self._follow(batch), "fps": round(self.frames_per_second), **stats})
            if self.on_progress:
                self.on_progress(self._progress())
            if self.frames >= self._next_eval:
                self._next_eval += training.eval_every
                self._log(self.validate())
            is_due = self.frames >= self._next_checkpoint
            self._next_checkpoint += training.checkpoint_every * is_due
            if is_due or time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                self.checkpoint()
        self.checkpoint()
        return self.frames >= training.frames

    def _update(self, batch: Batch) -> dict[str, float]:
        try:
            training = self.recipe.training
            annealed = self.frames / (training.anneal_frames or training.frames)
            return self.learner.update(batch, done_fraction=min(annealed, 1.0))
        except TrainingDivergedError as error:
            kept = self.folder / RESUME_FILE
            raise TrainingDivergedError(
                f"{error} after {self.frames} frames. The last good checkpoint is '{kept}'; "
                "lower lr or grad_clip and train anew."
            ) from None

    def _follow(self, batch: Batch) -> dict[str, float | list[float]]:
        """How training play goes: solve rate, smoothed, and the mean returns of the trials that just ended."""
        self.recent_solve_rate += 0.05 * (batch.num_solved / max(batch.num_ended, 1) - self.recent_solve_rate)
        row: dict[str, float | list[float]] = {"train_solve_rate": round(self.recent_solve_rate, 4)}
        if self.recipe.plays_trials and len(batch.episode_returns):
            self.recent_returns = [round(float(mean), 4) for mean in batch.episode_returns.mean(0)]
            row |= {"train_return": round(sum(self.recent_returns), 4), "train_episode_returns": self.recent_returns}
        return row

    def _progress(self) -> Progress:
        total, rate = self.recipe.training.frames, self.frames_per_second
        trial_return = sum(self.recent_returns) if self.recent_returns else None
        return Progress(self.frames, total, self.recent_solve_rate, rate, (total - self.frames) / rate, trial_return)

    def validate(self) -> dict[str, float]:
        """Play on tasks that training does not show; see `worlds.validate`."""
        return validate(self.net, self.recipe, device=self.device)

    def _make_collector(self) -> Any:
        """A fresh environment on the boards that the present frame count asks for."""
        training, env = self.recipe.training, make_training_env(self.recipe, frames=self.frames, device=self.device)
        if training.algorithm == "teach":
            lesson = {"teacher": training.teacher, "change_fraction": training.change_fraction}
            return LessonCollector(self.net, env, seed=self.recipe.seed, **lesson)
        options = {"reset_memory": training.reset_memory, "reward_scale": training.reward_scale}
        return Collector(self.net, env, seed=self.recipe.seed, **options)

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
        self._saved_at = time.monotonic()

    def _open_folder(self, resume: bool) -> None:
        path = self.folder / RESUME_FILE
        if path.exists() and not resume:
            raise CheckpointError(f"'{self.folder}' already holds a run. Continue it with --resume, or name another.")
        if not path.exists():
            write_atomic(self.folder / RECIPE_FILE, recipe_to_toml(self.recipe))
            write_atomic(self.folder / LOG_FILE, "")
            return
        tensors, metadata = load_tensors(path)
        if "next_checkpoint" not in metadata:
            raise CheckpointError(f"'{path}' was not written by a training run, so there is nothing to continue.")
        if metadata["recipe_hash"] != self.recipe.hash():
            raise CheckpointError(f"'{self.folder}' holds a run of another recipe; name another folder.")
        weights = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
        load_strictly(self.net, weights, where=f"'{path}'")
        self.learner.load_state_dict(tensors)
        self.frames, self.recent_solve_rate = metadata["frames"], metadata["recent_solve_rate"]
        self._next_eval, self._next_checkpoint = metadata["next_eval"], metadata["next_checkpoint"]
        self.collector = self._make_collector()
        prefix = "collector."
        self.collector.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        remove_unfinished(path)
        lines = (self.folder / LOG_FILE).read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["frames"] <= self.frames]
        write_atomic(self.folder / LOG_FILE, "".join(kept))

    def _log(self, row: dict) -> None:
        with open(self.folder / LOG_FILE, "a") as file:
            file.write(json.dumps({"frames": self.frames, **row}) + "\n")
