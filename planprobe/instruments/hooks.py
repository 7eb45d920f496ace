"""The one place that touches a running net: open it, capture what it does, intervene in it.

    opened = open_policy(net)
    with capture(opened, "ticks.*.*.hook_h") as cache:
        play(opened, env, level_ids)
    cache["ticks.1.0.hook_h"]                                   # (B, T, C, H, W)
    with intervene(opened, [patch_from(cache, Address("ticks.*.0.hook_c", steps=[3]))]):
        play(opened, env, other_ids)

The forward pass is the policy's own, never retyped: its taps (`nn.Identity` named `hook_*`) become TransformerLens
HookPoints in a copy. At each site edits come first, those of the block that was opened first before the others', and
captures see the edited value, however the blocks are nested. Blocks leave nothing behind, also when the code in them
raises.

TransformerLens costs 2.7 s to import and is imported here alone, when a policy is first opened.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from planprobe.core.errors import CaptureError, PolicyError, ShapeError
from planprobe.core.grid import board_size
from planprobe.core.protocols import Policy, State
from planprobe.instruments.addresses import Address, Channels, Moment, Steps, select_sites
from planprobe.instruments.cache import Cache
from planprobe.instruments.compiled import refuse_compiled
from planprobe.instruments.edits import Edit, ablate, patch_from, steer
from planprobe.instruments.live_sites import LiveSite, Writer, attached, make_reader
from planprobe.instruments.recorder import Recorder

if TYPE_CHECKING:
    from transformer_lens import HookedRootModule
    from transformer_lens.conversion_utils.conversion_steps.base_tensor_conversion import BaseTensorConversion
    from transformer_lens.hook_points import HookPoint

__all__ = [
    "Address", "Cache", "Edit", "Moment", "OpenedPolicy", "ablate", "capture", "intervene", "open_policy", "patch_from",
    "select_sites", "steer",
]  # fmt: skip

_Module = nn.Module if TYPE_CHECKING else object  # the real base, HookedRootModule, comes with `open_policy`


class OpenedPolicy(_Module):
    """A policy whose sites can be captured and edited; also an `nn.Module` and a TransformerLens `HookedRootModule`.

    Made by `open_policy`, with the policy's own state_dict keys and, by delegation, its attributes.

    clock: steps since the last `initial_state`, thinking steps included; during a step, the number of that step.
    serial: steps ever. title: how errors call it. hook_dict: HookPoint by site. live: sites with a capture or edit.

    TransformerLens' tools (`run_with_cache`, `run_with_hooks`) see spatial sites as (B, H W, C), squares as positions;
    `capture` and `intervene` see (B, C, H, W).
    """

    clock: int
    serial: int
    title: str
    live: dict[str, LiveSite]
    hook_dict: dict[str, HookPoint]

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        self.serial += 1
        self._seen = (tuple(observation.shape[1:]), observation.dtype)
        result = self._policy.step(observation, state)
        self.clock += 1
        return result

    def initial_state(self, num_boards: int, board: tuple[int, int] | None = None) -> State:
        self.clock = 0
        return self._policy.initial_state(num_boards, board)

    def forward(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        return self.step(observation, state)

    def set_num_ticks(self, num_ticks: int) -> None:
        """Tick more or less often a step than in training. Raises: CaptureError (inside a capture or intervention)."""
        if self.live:
            raise CaptureError("ticks cannot change in number inside a capture or intervention: end the block first.")
        self._policy.set_num_ticks(num_ticks)
        self.setup()

    @torch.no_grad()
    def sites(self) -> dict[str, tuple[int, ...]]:
        """Shape of every site on one board, (C, H, W) where spatial, found by a step on an empty board.

        Raises: ShapeError (a policy that does not tell its `planes` and `board`, before its first step).
        """
        shapes: dict[str, tuple[int, ...]] = {}

        def note_shape(site: str, module: nn.Module, args: tuple, value: Tensor) -> None:
            shapes[site] = tuple(value.shape[1:])

        observation = self._empty_observation()
        with self._quiet(), torch.random.fork_rng():
            for site, point in self.hook_dict.items():
                point.register_forward_hook(partial(note_shape, site))
            board = board_size(observation) if observation.ndim == 4 else None
            self._policy.step(observation, self._policy.initial_state(1, board))
        return {site: shapes[site] for site in self.hook_dict if site in shapes}

    def setup(self) -> None:
        """Put HookPoints in the place of taps and list them; again whenever taps were made anew."""
        _, hook_point, conversion = _lens()
        made: dict[int, nn.Module] = {}  # one tap under two names stays one
        for module in list(self.modules()):
            for name, child in module._modules.items():
                if name.startswith("hook_") and type(child) is nn.Identity:
                    module._modules[name] = made.setdefault(id(child), hook_point())
        self.mod_dict = {name: module for name, module in self.named_modules() if name}
        self.hook_dict = {name: module for name, module in self.mod_dict.items() if isinstance(module, hook_point)}
        for name, point in self.hook_dict.items():
            point.name = name
            if point.hook_conversion is None:
                point.enable_reshape(conversion())

    def train(self, mode: bool = True) -> OpenedPolicy:
        super().train(mode)
        self._policy.training = mode
        return self

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "_policy" not in self.__dict__:
                raise
            return getattr(self.__dict__["_policy"], name)

    def _adopt(self, policy: nn.Module, name: str | None) -> None:
        # These dicts are shared, not copied, so that .to(), load_state_dict() and new taps reach both at once. The
        # policy itself stays out of `_modules`, or every key and site would be called '_policy.*'.
        for shared in ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules", "training"):
            self.__dict__[shared] = policy.__dict__[shared]
        title = f"agent '{name}'" if name else f"policy {type(policy).__name__}"
        self.__dict__.update(_policy=policy, _name=name, _seen=None, title=title, clock=0, serial=0, live={})
        self.setup()

    def _empty_observation(self) -> Tensor:
        if self._seen is not None:
            shape, dtype = self._seen
        elif hasattr(self, "planes") and hasattr(self, "board"):
            shape, dtype = (self.planes, *self.board), torch.uint8
        else:
            raise ShapeError(
                f"{self.title} does not tell the shape of its observations (planes, board). Take a step with it first."
            )
        device = next((part.device for part in (*self.parameters(), *self.buffers())), None)
        return torch.zeros(1, *shape, dtype=dtype, device=device)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """No hook that stands outside the block fires inside."""
        before = {site: point._forward_hooks for site, point in self.hook_dict.items()}
        try:
            for point in self.hook_dict.values():
                point._forward_hooks = OrderedDict()
            yield
        finally:
            for site, hooks in before.items():
                self.hook_dict[site]._forward_hooks = hooks


def open_policy(policy: Policy, *, name: str | None = None) -> OpenedPolicy:
    """A copy of a policy whose taps (`nn.Identity` or HookPoint modules named `hook_*`) can be captured and edited.

    name: of the agent, for error messages.
    Raises: CompiledPolicyError (hooks on a compiled module are silently ignored); PolicyError (not an `nn.Module` with
    `initial_state` and `step`).
    """
    refuse_compiled(policy)
    if isinstance(policy, OpenedPolicy):
        if policy.live:
            raise CaptureError("cannot open a policy anew inside a capture or intervention: end the block first.")
        name, policy = name or policy._name, policy._policy
    lacking = [method for method in ("initial_state", "step") if not callable(getattr(policy, method, None))]
    if not isinstance(policy, nn.Module) or lacking:
        what = f"has no {' and no '.join(lacking)}" if lacking else "is no torch.nn.Module"
        raise PolicyError(
            f"cannot open {type(policy).__name__}: it {what}. A policy follows planprobe.core.protocols.Policy."
        )
    opened = _opened_class()()
    opened._adopt(copy.deepcopy(policy), name)
    return opened


@contextmanager
def capture(
    opened: OpenedPolicy,
    sites: str | Sequence[str],
    *,
    steps: Steps = None,
    channels: Channels = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Cache]:
    """Record sites of one run; the cache is readable after the block.

    Args:
        sites: patterns of `select_sites`. steps: clock steps to record. channels: of every chosen site.
        dtype: of the copies; float16 halves the memory.
    Raises: UnknownSiteError; CompiledPolicyError; PolicyError (not opened); CaptureError (a site fires more than once a
    step or only on some steps, a second run starts inside the block, or boards change in number).
    """
    _check_opened(opened)
    recorders = {site: Recorder(site, dtype) for site in select_sites(opened, sites)}
    readers = {site: [make_reader(opened, recorder, steps, channels)] for site, recorder in recorders.items()}
    cache = Cache()
    with attached(opened, readers=readers):
        yield cache
    by_steps = {recorder.steps: recorder.site for recorder in recorders.values()}
    if len(by_steps) > 1:
        fired = ", ".join(f"'{site}' on {len(recorded)}" for recorded, site in by_steps.items())
        raise CaptureError(f"sites fired on different steps and do not fit one cache: {fired}. Capture them apart.")
    cache.fill({site: recorder.finish() for site, recorder in recorders.items()}, next(iter(by_steps)))


@contextmanager
def intervene(opened: OpenedPolicy, edits: Edit | Sequence[Edit]) -> Iterator[None]:
    """Apply edits to every run inside the block, in the order of the list; each sees what the one before has done.

    Raises: UnknownSiteError; CompiledPolicyError; PolicyError (not opened). While running: ShapeError or AddressError
    (an edit or its mask does not fit), CaptureError (an edited site fires more than once a step, or an edit came to
    nothing: the site fired in no step, or in none of the edit's).
    """
    _check_opened(opened)
    writers: dict[str, list[Writer]] = {}
    for edit in [edits] if isinstance(edits, Edit) else edits:
        for site in select_sites(opened, edit.address.site):
            writers.setdefault(site, []).append(Writer(opened, site, edit))
    with attached(opened, writers=writers):
        yield


def lens_interchange() -> Any:
    """TransformerLens' module of subspace interchange (`fit_das` and its controls); runs on an `OpenedPolicy`.

    It wants one activation a row (squares count as positions) and one firing a call, so one step at a time.
    """
    from transformer_lens.tools.analysis import interchange

    return interchange


def _check_opened(opened: OpenedPolicy) -> None:
    refuse_compiled(opened)
    if not isinstance(opened, OpenedPolicy):
        raise PolicyError(f"{type(opened).__name__} was not opened. Give instruments open_policy(policy).")


@lru_cache(maxsize=1)
def _lens() -> tuple[type[HookedRootModule], type[HookPoint], type[BaseTensorConversion]]:
    """TransformerLens' HookedRootModule and HookPoint, and the reshape through which its tools see spatial sites."""
    from transformer_lens import HookedRootModule
    from transformer_lens.conversion_utils.conversion_steps.base_tensor_conversion import BaseTensorConversion
    from transformer_lens.hook_points import HookPoint

    class SquaresAsPositions(BaseTensorConversion):
        """(B, C, H, W) <-> (B, H W, C), for tools that think in (batch, position, width); other shapes as they are."""

        board: tuple[int, int] | None = None

        def handle_conversion(self, input_value: Tensor, *full_context: object) -> Tensor:
            self.board = board_size(input_value) if input_value.ndim == 4 else None
            return input_value.flatten(2).transpose(1, 2) if self.board else input_value

        def revert(self, input_value: Tensor, *full_context: object) -> Tensor:
            return input_value.transpose(1, 2).unflatten(2, self.board) if self.board else input_value

    return HookedRootModule, HookPoint, SquaresAsPositions


@lru_cache(maxsize=1)
def _opened_class() -> type:
    return type("OpenedModule", (OpenedPolicy, _lens()[0]), {"__module__": __name__})
