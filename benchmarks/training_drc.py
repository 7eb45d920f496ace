"""DRC training frames/s against the convolution roofline of this machine, measured in the same run.

Roofline: the net's own convolutions alone (forward once to act; forward, input gradient and weight gradient once to
learn), at the batch sizes of training and nothing between them.
"""

from __future__ import annotations

import tempfile

import torch
from torch.nn import functional as F

from benchmarks.stopwatch import report, seconds_each
from planprobe.subjects.recipe import NetRecipe, Recipe, TaskRecipe, TrainingRecipe
from planprobe.subjects.training.train import Trainer

BOARDS, STEPS, MINIBATCHES, CHANNELS, TICKS, SIZE = 128, 20, 4, 16, 2, 11


def convolutions():
    """The convolutions of one update: drive once and recurrence once a tick, to act and to learn."""
    layout = torch.channels_last
    weight = torch.randn(4 * CHANNELS, CHANNELS, 3, 3)
    flipped = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=layout)
    acting = torch.randn(BOARDS, CHANNELS, SIZE, SIZE).contiguous(memory_format=layout)
    learning = acting[: BOARDS // MINIBATCHES].contiguous(memory_format=layout)
    grad = torch.randn(BOARDS // MINIBATCHES, 4 * CHANNELS, SIZE, SIZE).contiguous(memory_format=layout)
    many = torch.randn(BOARDS // MINIBATCHES * STEPS, CHANNELS, SIZE, SIZE).contiguous(memory_format=layout)
    many_grads = torch.randn(len(many), 4 * CHANNELS, SIZE, SIZE).contiguous(memory_format=layout)
    stride = padding = (1, 1)

    @torch.no_grad()
    def run() -> None:
        for _ in range(STEPS * (1 + TICKS)):
            F.conv2d(acting, weight, padding=1)
        for _ in range(MINIBATCHES):
            for _ in range(STEPS * (1 + TICKS)):
                F.conv2d(learning, weight, padding=1)
                F.conv2d(grad, flipped, padding=1)
            for _ in range(1 + TICKS):
                torch.ops.aten.convolution_backward(
                    many_grads, many, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (False, True, False)
                )

    return run


def training(compiled: bool):
    recipe = Recipe(
        name="bench",
        task=TaskRecipe(kind="maze", size=SIZE, num_levels=2000),
        net=NetRecipe(channels=CHANNELS, num_ticks=TICKS, pool_and_inject=False, head="pool", hidden=64),
        training=TrainingRecipe(num_boards=BOARDS, unroll=STEPS, num_minibatches=MINIBATCHES),
    )
    trainer = Trainer(recipe, tempfile.mkdtemp(), compiled=compiled)
    return lambda: trainer.learner.update(trainer.collector.collect(STEPS), done_fraction=0.0)


def main() -> None:
    contenders = {"convolutions alone": convolutions(), "training": training(compiled=False)}
    seconds = seconds_each(contenders, rounds=5)
    try:
        seconds |= seconds_each({"training, compiled": training(compiled=True)}, rounds=5)
    except Exception as error:  # no C++ compiler: said, not hidden
        print(f"  torch.compile is not available here: {type(error).__name__}")
    rates = {name: BOARDS * STEPS / part for name, part in seconds.items()}
    report("training, DRC(1,2) 16 channels, maze 11x11", rates, "frames/s", ">= 50 % of the convolutions alone")
    for name in rates:
        if name != "convolutions alone":
            print(f"  {name}: {rates[name] / rates['convolutions alone']:.0%} of the roofline")


if __name__ == "__main__":
    main()
