"""Networks, all through one interface; `make_net` builds one from its recipe."""

from __future__ import annotations

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.subjects.envs.board_env import BoardEnv
from planprobe.subjects.nets.base import Net
from planprobe.subjects.nets.drc import DRC
from planprobe.subjects.nets.feedforward import ResNet
from planprobe.subjects.nets.lstm import LSTM
from planprobe.subjects.recipe import NetRecipe

NETS = {"drc": DRC, "resnet": ResNet, "lstm": LSTM}


def make_net(recipe: NetRecipe, *, planes: int, board: tuple[int, int], num_actions: int) -> Net:
    """Build an untrained net for observations (B, planes, *board). Raises: RecipeError (unknown kind or head)."""
    if recipe.kind not in NETS:
        raise unknown_name("net", recipe.kind, NETS, error=RecipeError)
    shared = {"planes": planes, "board": board, "num_actions": num_actions}
    shared |= {"channels": recipe.channels, "head": recipe.head, "hidden": recipe.hidden}
    if recipe.kind == "lstm":
        return LSTM(forget_bias=recipe.forget_bias, **shared)
    shared["crop_border"] = recipe.crop_border
    if recipe.kind == "resnet":
        return ResNet(num_blocks=recipe.num_blocks, **shared)
    return DRC(
        num_layers=recipe.num_layers,
        num_ticks=recipe.num_ticks,
        pool_and_inject=recipe.pool_and_inject,
        boundary=recipe.boundary,
        forget_bias=recipe.forget_bias,
        **shared,
    )


def make_net_for(recipe: NetRecipe, env: BoardEnv) -> Net:
    """Build the net that fits an environment."""
    return make_net(recipe, planes=env.num_planes, board=(env.height, env.width), num_actions=env.num_actions)
