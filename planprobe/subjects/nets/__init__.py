"""Networks, all through one interface; `make_net` builds one from its recipe."""

from __future__ import annotations

from planprobe.core.errors import RecipeError, unknown_name
from planprobe.core.protocols import Env
from planprobe.subjects.nets.base import Net
from planprobe.subjects.nets.drc import DRC
from planprobe.subjects.nets.feedforward import MLP, ResNet
from planprobe.subjects.nets.gru import GRU
from planprobe.subjects.nets.lstm import LSTM
from planprobe.subjects.nets.transformer import Transformer
from planprobe.subjects.recipe import NetRecipe

NETS = {"drc": DRC, "resnet": ResNet, "lstm": LSTM, "gru": GRU, "transformer": Transformer, "mlp": MLP}
USED_KEYS = {
    "drc": ("crop_border", "num_layers", "num_ticks", "pool_and_inject", "boundary", "forget_bias"),
    "resnet": ("crop_border", "num_blocks"),
    "lstm": ("forget_bias",),
    "gru": (),
    "transformer": ("num_layers", "num_heads", "context"),
    "mlp": ("num_blocks",),
}
"""Keys of a recipe that a kind of net reads, beside `channels`, `head` and `hidden`, which all do."""


def make_net(
    recipe: NetRecipe, *, planes: int, board: tuple[int, int], num_actions: int, longest_trial: int = 0
) -> Net:
    """Build an untrained net for observations (B, planes, *board).

    longest_trial: steps that a transformer remembers where its recipe leaves `context` at 0.
    Raises: RecipeError (unknown kind or head).
    """
    if recipe.kind not in NETS:
        raise unknown_name("net", recipe.kind, NETS, error=RecipeError)
    options = {key: getattr(recipe, key) for key in ("channels", "head", "hidden", *USED_KEYS[recipe.kind])}
    if "context" in options:
        options["context"] = recipe.context or longest_trial
    return NETS[recipe.kind](planes=planes, board=board, num_actions=num_actions, **options)


def make_net_for(recipe: NetRecipe, env: Env) -> Net:
    """Build the net that fits an environment."""
    return make_net(
        recipe, planes=env.num_planes, board=(env.height, env.width), num_actions=env.num_actions,
        longest_trial=getattr(env, "longest_trial", 0),
    )  # fmt: skip
