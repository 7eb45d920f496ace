"""Training frames/s of one LSTM/PPO task, ours against sb3-contrib's RecurrentPPO: same maze, boards, steps, units."""

from __future__ import annotations

import tempfile

import numpy as np

from benchmarks.stopwatch import report, seconds_each
from planprobe.subjects.envs.catalog import make_env, task_levels
from planprobe.subjects.recipe import NetRecipe, Recipe, TaskRecipe, TrainingRecipe
from planprobe.subjects.training.train import Trainer

BOARDS, STEPS, MINIBATCHES, UNITS, HIDDEN = 64, 20, 2, 128, 64
TASK = TaskRecipe(kind="maze", size=9, num_levels=2000)


def ours():
    net = NetRecipe(kind="lstm", channels=UNITS, hidden=HIDDEN)
    training = TrainingRecipe(num_boards=BOARDS, unroll=STEPS, num_minibatches=MINIBATCHES)
    trainer = Trainer(Recipe(name="bench", task=TASK, net=net, training=training), tempfile.mkdtemp())
    return lambda: trainer.learner.update(trainer.collector.collect(STEPS), done_fraction=0.0)


def theirs():
    import gymnasium
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv

    class SameMaze(VecEnv):
        """Our batched maze behind their interface, so that both sides step the same environment."""

        def __init__(self) -> None:
            self.env = make_env(TASK, task_levels(TASK, "train", TASK.num_levels), BOARDS, training=True)
            space = gymnasium.spaces.Box(0, 1, (self.env.num_planes * 81,), np.float32)
            self.render_mode = None
            super().__init__(BOARDS, space, gymnasium.spaces.Discrete(4))

        def reset(self):
            return self.env.reset().flatten(1).float().numpy()

        def step_async(self, actions) -> None:
            import torch

            self.result = self.env.step(torch.as_tensor(actions))

        def step_wait(self):
            result = self.result
            flat = result.observation.flatten(1).float().numpy()
            infos = [{"terminal_observation": flat[i]} if done else {} for i, done in enumerate(result.episode_done)]
            return flat, result.reward.numpy(), result.episode_done.numpy(), infos

        def close(self) -> None: ...
        def get_attr(self, name, indices=None):
            return [None] * BOARDS

        def set_attr(self, name, value, indices=None) -> None: ...
        def env_method(self, name, *args, indices=None, **options): ...
        def env_is_wrapped(self, wrapper, indices=None):
            return [False] * BOARDS

    model = RecurrentPPO(
        "MlpLstmPolicy",
        SameMaze(),
        n_steps=STEPS,
        batch_size=BOARDS * STEPS // MINIBATCHES,
        n_epochs=1,
        policy_kwargs=dict(lstm_hidden_size=UNITS, net_arch=[HIDDEN], enable_critic_lstm=False, shared_lstm=True),
        device="cpu",
    )
    return lambda: model.learn(STEPS * BOARDS, reset_num_timesteps=False)


def main() -> None:
    try:
        contenders = {"planprobe": ours(), "sb3-contrib RecurrentPPO": theirs()}
    except ImportError as error:
        print(f"\ntraining, LSTM: left out, {error} (pip install -c constraints.txt '.[compare]')")
        return
    seconds = seconds_each(contenders)
    rates = {name: BOARDS * STEPS / part for name, part in seconds.items()}
    report(f"training, LSTM({UNITS}), maze 9x9", rates, "frames/s", ">= 3 x sb3-contrib")
    print(f"  ratio: {rates['planprobe'] / rates['sb3-contrib RecurrentPPO']:.1f} x")


if __name__ == "__main__":
    main()
