"""Small nets that an experiment trains for itself: the trainer's collector and learner, with nothing on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from planprobe.core.allocator import keep_freed_memory
from planprobe.experiments.record import ProgressCallback, silent
from planprobe.subjects.envs.trial_catalog import TrialTask, make_trial_env, training_seed
from planprobe.subjects.envs.trial_inputs import Inputs, TrialInputs
from planprobe.subjects.nets import make_net_for
from planprobe.subjects.nets.base import Net
from planprobe.subjects.recipe import NetRecipe, TrainingRecipe
from planprobe.subjects.training.collect import Collector
from planprobe.subjects.training.learner import Learner


def train_net(
    net: Net,
    env: TrialInputs | Sequence[TrialInputs],
    training: TrainingRecipe,
    *,
    seed: int,
    progress: ProgressCallback = silent,
) -> Net:
    """Train a net in place on an environment with autoreset, as `Trainer` would; returns it, ready to play.

    env: or several, the easier first, each for the same share of the frames; optimiser and schedules go on.
    """
    keep_freed_memory()
    lessons = [env] if isinstance(env, TrialInputs) else env
    learner, frames = Learner(net, training, seed=seed), 0
    options = {"reset_memory": training.reset_memory, "reward_scale": training.reward_scale}
    for number, lesson in enumerate(lessons, start=1):
        collector = Collector(net, lesson, seed=seed, **options)
        while frames < training.frames * number / len(lessons):
            batch = collector.collect(training.unroll)
            learner.update(batch, done_fraction=min(frames / training.frames, 1.0))
            frames += batch.actions.numel()
            progress(min(frames / training.frames, 1.0), f"{frames:,} of {training.frames:,} steps")
    return net.eval()


def train_on(
    task: TrialTask,
    inputs: Inputs,
    net: NetRecipe,
    training: TrainingRecipe,
    *,
    seed: int,
    progress: ProgressCallback = silent,
) -> Net:
    """A net trained on a task from scratch; seed: of its weights, its trials and its actions."""
    env = make_trial_env(task, inputs, training.num_boards, seed=training_seed(seed), autoreset=True)
    return train_net(fresh_net(net, env, seed=seed), env, training, seed=seed, progress=progress)


def fresh_net(net: NetRecipe, env: TrialInputs, *, seed: int) -> Net:
    """An untrained net that fits an environment; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_net_for(net, env)


def fit_training(training: TrainingRecipe, frames: int, **changes) -> TrainingRecipe:
    """The same training for so many steps, on fewer boards where they would not make four updates; other changes."""
    num_boards = min(training.num_boards, max(frames // (4 * training.unroll), 2))
    return replace(training, frames=frames, num_boards=num_boards, **changes)
