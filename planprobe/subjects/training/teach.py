"""Teach a net to plan as a teacher does: every tick has its targets, every square its own.

The net is an ordinary DRC of one layer. A read-out of one square learns to tell the teacher's state from h after every
tick, and with it the net learns to carry that state; the read-out is thrown away. The policy learns the teacher's
advice. Boards are played by the teacher's advice, with some moves at random, and now and then a wall opens or closes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planprobe.core.errors import RecipeError
from planprobe.core.grid import NUM_MOVES, TARGET, WALL
from planprobe.core.protocols import State
from planprobe.subjects.envs.board_env import BoardEnv
from planprobe.subjects.envs.maze import Maze
from planprobe.subjects.envs.trial_inputs import TrialInputs
from planprobe.subjects.nets.base import Net, reset_state
from planprobe.subjects.nets.deferred_conv import cat_boards
from planprobe.subjects.nets.drc import DRC
from planprobe.subjects.recipe import TrainingRecipe
from planprobe.subjects.training.collect import restore_generator
from planprobe.subjects.training.learner import Learner
from planprobe.subjects.training.teachers import Teacher, get_teacher, make_teacher

WANDER = 0.05  # share of moves at random
SPARSE, SPARSE_WEIGHT = ("plan", "walker", "way"), 5.0  # nothing of these is on most squares: what is there counts more
PLAN_WEIGHT, VALUE_WEIGHT = 3.0, 0.1  # of loss terms; the plan is learnt last, since it rests on all the others


@dataclass(frozen=True)
class Lesson:
    """T steps of B boards, and what the teacher said in each of their T * K ticks.

    observations (T, B, C, H, W); starts (T, B) bool; said: name -> (T * K, B, H', W'), on the squares that the net
    computes on; advice (T, B, 4) chances of moves; speaks (T, B) bool: there is advice; actions (T, B). state: memory
    before the first step; keep: to be called with the memory after the last.
    """

    observations: Tensor
    starts: Tensor
    said: dict[str, Tensor]
    advice: Tensor
    speaks: Tensor
    actions: Tensor
    state: State
    keep: Callable[[State], None]
    num_solved: int
    num_ended: int


class LessonCollector:
    """Boards that a teacher plays while the net looks on. change_fraction: chance that a wall of a board is toggled
    before a step. Raises: RecipeError (a task or net that cannot be taught)."""

    def __init__(
        self, net: Net, env: BoardEnv | TrialInputs, *, teacher: str, change_fraction: float, seed: int
    ) -> None:
        if not isinstance(env, Maze) or env.num_actions != NUM_MOVES:
            raise RecipeError("teachers know mazes in full view, with four moves, and no other task.")
        self.net, self.env, self.change_fraction = net, env, change_fraction
        self.teacher: Teacher = make_teacher(teacher, env.num_boards, env.height, env.width, device=env.device)
        self.generator = torch.Generator(env.device).manual_seed(seed)
        self.observation = env.reset()
        self.state = net.initial_state(env.num_boards, (env.height, env.width))
        self.start = torch.ones(env.num_boards, dtype=torch.bool, device=env.device)

    @torch.no_grad()
    def collect(self, num_steps: int) -> Lesson:
        """Let the teacher play `num_steps` steps."""
        said: list[dict[str, Tensor]] = []
        steps: list[tuple[Tensor, ...]] = []
        inside = slice(self.net.ring, -self.net.ring or None)
        for _ in range(num_steps):
            self.teacher.look(self.env.cells, self.env.players, self.start)
            for _ in range(self.net.num_ticks):
                told = self.teacher.tick()
                said.append({name: part[:, inside, inside].clone() for name, part in told.items()})
            advice = self.teacher.advise()
            wanders = self._draw(len(advice)) < WANDER
            chances = torch.where(wanders[:, None], 1.0, advice)
            action = torch.multinomial(chances, 1, generator=self.generator).squeeze(1)
            result = self.env.step(action)
            shown = (self.observation, self.start, advice, self.teacher.speaks.clone(), action)
            steps.append((*shown, result.solved, result.episode_done))
            self._toggle_walls()
            self.observation, self.start = self.env.observe(), result.trial_done
        *told, solved, ended = (torch.stack(part) for part in zip(*steps, strict=True))
        observations, starts, advice, speaks, actions = told
        stacked = {name: torch.stack([each[name] for each in said]) for name in said[0]}
        return Lesson(
            observations, starts, stacked, advice, speaks, actions, self.state, self._keep, int(solved.sum()),
            int(ended.sum()),
        )  # fmt: skip

    def _keep(self, state: State) -> None:
        self.state = state

    def _toggle_walls(self) -> None:
        """Open or close one square between two others on some boards, neither the agent's nor the goal."""
        env = self.env
        rows, columns = (torch.arange(1, side - 1, device=env.device) for side in (env.height, env.width))
        squares = (rows[:, None] * env.width + columns).flatten()
        squares = squares[(squares // env.width + squares % env.width) % 2 == 1]
        square = squares[(self._draw(env.num_boards) * len(squares)).long()]
        now = env.cells.gather(1, square[:, None]).squeeze(1)
        spared = (now & TARGET).bool() | (square == env.players)
        toggled = (self._draw(env.num_boards) < self.change_fraction) & ~spared
        env.cells.scatter_(1, square[:, None], torch.where(toggled, now ^ WALL, now)[:, None])

    def _draw(self, number: int) -> Tensor:
        return torch.rand(number, generator=self.generator, device=self.env.device)

    def state_dict(self) -> dict[str, Tensor]:
        tensors = {"observation": self.observation, "start": self.start, "generator": self.generator.get_state()}
        tensors |= {f"state.{i}": part for i, part in enumerate(self.state)}
        tensors |= {f"teacher.{name}": part for name, part in self.teacher.state_dict().items()}
        return tensors | {f"env.{name}": part for name, part in self.env.state_dict().items()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.observation, self.start = (tensors[name].to(self.env.device).clone() for name in ("observation", "start"))
        restore_generator(self.generator, tensors["generator"])
        self.state = tuple(torch.empty_like(old).copy_(tensors[f"state.{i}"]) for i, old in enumerate(self.state))
        self.teacher.load_state_dict(part("teacher."))
        self.env.load_state_dict(part("env."))


class TaughtLearner(Learner):
    """Gradient steps on lessons; the schedule, clipping and optimiser of any learner."""

    def __init__(self, net: Net, recipe: TrainingRecipe, *, seed: int) -> None:
        super().__init__(net, recipe, seed=seed)
        if not isinstance(net, DRC) or net.num_layers > 1:
            raise RecipeError("what is taught tick by tick is a drc of one layer, and no other net.")
        teacher = get_teacher(recipe.teacher)
        self.classes, self.numbers = teacher.classes, teacher.numbers
        self.reader = nn.Conv2d(net.channels, sum(self.classes.values()) + len(self.numbers), 1)
        self.reader.to(next(net.parameters()).device)
        self.parameters += self.reader.parameters()
        self.optimizer = torch.optim.Adam(self.parameters, lr=recipe.lr[0], eps=recipe.adam_eps)

    def update(self, batch: Lesson, *, done_fraction: float) -> dict[str, float]:
        """`epochs` steps on a whole lesson; of the last one each loss term, and the share of squares where something is
        and is read right (`right_*`)."""
        self._set_rate(done_fraction)
        stats, state = self._learn(batch)
        for _ in range(self.recipe.epochs - 1):
            stats, state = self._learn(batch)
        batch.keep(tuple(part.detach() for part in state))
        return {name: round(float(value.detach()), 5) for name, value in stats.items()}

    def _learn(self, batch: Lesson) -> tuple[dict[str, Tensor], State]:
        hidden, features, state = unroll_ticks(self.net, batch.observations, batch.state, batch.starts)
        logits, values = self.net.head(features)
        loss, stats = self._reading_loss(hidden, batch.said)
        asked = batch.speaks.flatten()
        log_probs, advice = logits.log_softmax(1), batch.advice.flatten(0, 1)
        stats["policy_loss"] = -(advice * log_probs).sum(1)[asked].mean()
        followed = (advice.gather(1, logits.argmax(1, keepdim=True)) > 0)[asked].float().mean()
        stats["value_loss"] = F.mse_loss(values[asked], (advice.amax(1) == 1)[asked].float())
        loss = loss + stats["policy_loss"] + VALUE_WEIGHT * stats["value_loss"]
        stats |= {"loss": loss, "grad_norm": self._step(loss), "followed": followed}
        return stats, state

    def _reading_loss(self, hidden: Tensor, said: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of classes and squared error of numbers, h (N, C, H', W') being read."""
        scores = self.reader(hidden)
        parts = dict(zip(self.classes, scores.split([*self.classes.values(), len(self.numbers)], dim=1), strict=False))
        stats, total = {}, scores.new_zeros(())
        for name, number in self.classes.items():
            target = said[name].flatten(0, 1)
            weight = torch.ones(number, device=target.device)
            weight[1:] = SPARSE_WEIGHT if name in SPARSE else 1.0
            error = F.cross_entropy(parts[name], target, weight=weight, ignore_index=-1)
            total = total + (PLAN_WEIGHT if name == "plan" else 1.0) * error
            stats[f"loss_{name}"] = error
            found, there = parts[name].detach().argmax(1) == target, target > 0
            stats[f"right_{name}"] = found[there].float().mean()
        for index, name in enumerate(self.numbers):
            target = said[name].flatten(0, 1)
            error = (scores[:, index - len(self.numbers)] - target)[~target.isnan()]
            stats[f"error_{name}"] = error.pow(2).mean()
            total = total + 10 * stats[f"error_{name}"]
        return total, stats

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {f"reader.{name}": part for name, part in self.reader.state_dict().items()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        super().load_state_dict(tensors)
        own = {k.removeprefix("reader."): v for k, v in tensors.items() if k.startswith("reader.")}
        self.reader.load_state_dict(own)


def unroll_ticks(net: Net, observations: Tensor, state: State, starts: Tensor) -> tuple[Tensor, Tensor, State]:
    """T steps of a one-layer DRC with gradients: h after every tick (T * K * B, C, H', W'), what the head reads (T * B,
    2 C, H', W'), last memory. Arguments as `Net.unroll`."""
    assert isinstance(net, DRC)
    encodings = net.encode(observations.flatten(0, 1))
    (drives,) = net.drives(encodings)
    net.begin_unroll((drives.shape[2], drives.shape[3]))
    (layer,), hidden = net.layers, []
    for drive, start in zip(drives.unflatten(0, tuple(starts.shape)), starts, strict=True):
        h, c = reset_state(state, start)
        for (taps,) in net.ticks:
            h, c = layer(drive, h, h, c, taps)
            hidden.append(h)
        state = (h, c)
    net.end_unroll()
    features = net.join(encodings, cat_boards(hidden[net.num_ticks - 1 :: net.num_ticks]))
    return cat_boards(hidden), features, state
