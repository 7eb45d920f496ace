"""Reference players on the trials that an agent is measured on: reward of every step, and score of every stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from planprobe.core.protocols import StepResult
from planprobe.instruments.detectors.adaptation import score_fifths
from planprobe.subjects.envs.trial_catalog import TEST_SEED, TrialTask
from planprobe.subjects.references.catalog import reference_players
from planprobe.subjects.references.play import play_reference


@dataclass(frozen=True)
class PlayedReference:
    """rewards (N, T) float32, active (N, T) bool; stages (N, S) float64, as `adaptation.stage_scores` gives them."""

    rewards: Tensor
    active: Tensor
    stages: np.ndarray


def play_references(task: TrialTask, num_trials: int, *, seed: int = TEST_SEED) -> dict[str, PlayedReference]:
    """Every reference player of a task on the same trials, by name; seed: of the trials."""
    played = {}
    for name, player in reference_players(task).items():
        steps: list[StepResult] = []
        returns = play_reference(
            player, task, num_trials, seed, on_step=lambda t, actions, result, steps=steps: steps.append(result)
        )
        rewards = torch.stack([step.reward for step in steps], dim=1)
        active = torch.stack([step.extras["active"] for step in steps], dim=1)
        stages = returns.double().cpu().numpy() if returns.shape[1] > 1 else score_fifths(rewards, active)
        played[name] = PlayedReference(rewards, active, stages)
    return played


def best_reference(played: dict[str, PlayedReference], stage: int) -> str | None:
    """The player with the highest mean score in a stage, counted from 0; None without players."""
    return max(played, key=lambda name: float(played[name].stages[:, stage].mean()), default=None)
