"""Environment steps a second, Sokoban 10x10, batch 1024, with observations, against the peers that install."""

from __future__ import annotations

import contextlib

import torch

from benchmarks.stopwatch import report, seconds_each
from planprobe.subjects.envs.generate_sokoban import generate_sokoban
from planprobe.subjects.envs.sokoban import Sokoban

BOARDS, STEPS = 1024, 50


def ours():
    env = Sokoban(generate_sokoban(1000, size=10, num_boxes=(4, 4), seed=0), BOARDS)
    actions = torch.randint(0, 4, (STEPS, BOARDS))
    env.reset()

    def run() -> None:
        for step in actions:
            env.step(step)

    return run


def jumanji_peer():
    import jax
    import jumanji
    from jumanji.environments.routing.sokoban.generator import RandomSokobanGenerator  # noqa: F401

    env = jumanji.make("Sokoban-v0")
    keys = jax.random.split(jax.random.PRNGKey(0), BOARDS)
    state, _ = jax.jit(jax.vmap(env.reset))(keys)
    step = jax.jit(jax.vmap(env.step))
    actions = jax.random.randint(jax.random.PRNGKey(1), (STEPS, BOARDS), 0, 4)

    def run() -> None:
        now = state
        for t in range(STEPS):
            now, _ = step(now, actions[t])
        jax.block_until_ready(now)

    return run


def gym_sokoban_peer():
    import gym_sokoban.envs.sokoban_env as module

    env = module.SokobanEnv(dim_room=(10, 10), num_boxes=4)
    env.reset()

    def run() -> None:
        for t in range(STEPS * BOARDS // 256):  # one board at a time: a 256th of the work, scaled below
            env.step(1 + t % 4)

    return run


def envpool_peer():
    import envpool
    import numpy as np

    env = envpool.make_gymnasium("Sokoban-v0", num_envs=BOARDS, num_threads=1)
    env.reset()
    actions = np.random.default_rng(0).integers(1, 5, (STEPS, BOARDS))

    def run() -> None:
        for step in actions:
            env.step(step)

    return run


PEERS = {"jumanji (JAX)": jumanji_peer, "envpool (C++)": envpool_peer, "gym-sokoban": gym_sokoban_peer}


def main() -> None:
    contenders, missing = {"planprobe (torch)": ours()}, []
    for name, make in PEERS.items():
        with contextlib.redirect_stdout(None):
            try:
                contenders[name] = make()
            except Exception as error:  # a peer that does not install or import here is named, not hidden
                missing.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    seconds = seconds_each(contenders)
    work = {name: STEPS * BOARDS / (256 if name == "gym-sokoban" else 1) for name in contenders}
    rates = {name: work[name] / seconds[name] / 1e3 for name in contenders}
    report("environment, Sokoban 10x10, batch 1024", rates, "k steps/s", "ahead of the best peer, >= 1,500 k")
    for line in missing:
        print(f"  left out: {line}")


if __name__ == "__main__":
    main()
