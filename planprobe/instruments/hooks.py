"""The one place that touches a running net: open it, capture what it does, intervene in it.

    opened = open_policy(net)
    with capture(opened, "ticks.*.*.hook_h") as cache:
        play(opened, env, level_ids)
    cache["ticks.1.0.hook_h"]                                   # (B, T, C, H, W)
    with intervene(opened, [patch_from(cache, Address("ticks.*.0.hook_c", steps=[3]))]):
        play(opened, env, other_ids)

The forward pass is the policy's own, never retyped: its taps (`nn.Identity` named `hook_*`) become TransformerLens
HookPoints in a copy. At each site interventions come first, the outermost first, and captures see the edited value,
however the blocks are nested. Both blocks leave nothing behind, also when the code inside raises.

TransformerLens costs 2.7 s to import and is imported here alone, when a policy is first opened.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from planprobe.core.errors import CaptureError, CompiledPolicyError, PolicyError, ShapeError
from planprobe.core.protocols import Policy, State
from planprobe.instruments.addresses import (
    Address,
    Channels,
    Moment,
    Steps,
    channel_ids,
    region,
    select_sites,
    step_filter,
    tick_and_layer,
)  # fmt: skip
from planprobe.instruments.cache import Cache
from planprobe.instruments.edits import Edit, ablate, patch_from, steer
from planprobe.instruments.recorder import Recorder

__all__ = [
    "Address", "Cache", "Edit", "Moment", "OpenedPolicy", "ablate", "capture", "intervene", "open_policy", "patch_from",
    "select_sites", "steer",
]  # fmt: skip


class OpenedPolicy:
    """A policy whose sites can be captured and edited; also an `nn.Module` and a TransformerLens `HookedRootModule`.

    Made by `open_policy`, with the policy's own state_dict keys and, by delegation, its attributes. clock: steps since the
    last `initial_state`, thinking steps included; during a step, the number of that step. title: how errors call it.

    TransformerLens' tools (`run_with_cache`, `run_with_hooks`) see spatial sites as (B, H W, C), squares as positions;
    `capture` and `intervene` see (B, C, H, W).
    """

    clock: int
    title: str

    def step(self, observation: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        self._serial += 1
        self._seen = (observation.shape[1:], observation.dtype)
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
        if self._sites:
            raise CaptureError("the number of ticks cannot change inside a capture or intervention: its sites would go.")
        self._policy.set_num_ticks(num_ticks)
        self.setup()

    def sites(self) -> dict[str, tuple[int, ...]]:
        """Shape of every site on one board, (C, H, W) where spatial, found by a step on an empty board.

        Raises: ShapeError (a policy that does not tell its `planes` and `board`, before its first step).
        """
        shapes: dict[str, tuple[int, ...]] = {}
        with self._quiet(), torch.no_grad(), torch.random.fork_rng():
            for site, point in self.hook_dict.items():
                point.register_forward_hook(
                    lambda module, args, value, site=site: shapes.update({site: tuple(value.shape[1:])})
                )
            observation = self._empty_observation()
            state = self._policy.initial_state(1, tuple(observation.shape[-2:]))
            self._policy.step(observation, state)
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

    def _adopt(self, policy: nn.Module, title: str) -> None:
        # The three dicts are shared, not copied, so that .to(), load_state_dict() and new taps reach both at once. The
        # policy itself stays out of `_modules`, or every key and site would be called 'policy.*'.
        for name in ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules", "training"):
            self.__dict__[name] = policy.__dict__[name]
        self.__dict__.update(_policy=policy, _serial=0, _seen=None, _sites={}, clock=0, title=title)

    def _empty_observation(self) -> Tensor:
        weight = next(self.parameters(), torch.empty(0))
        if self._seen is not None:
            shape, dtype = self._seen
        elif hasattr(self, "planes") and hasattr(self, "board"):
            shape, dtype = (self.planes, *self.board), torch.uint8
        else:
            raise ShapeError(
                f"{self.title} does not tell the shape of its observations (planes, board). Take one step with it first."
            )
        return torch.zeros(1, *shape, dtype=dtype, device=weight.device)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """No hook fires inside the block."""
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
    if isinstance(policy, OpenedPolicy):
        name = name or policy.__dict__["_name"]
        policy = policy.__dict__["_policy"]
    _refuse_compiled(policy)
    lacking = [m for m in ("initial_state", "step") if not callable(getattr(policy, m, None))]
    if not isinstance(policy, nn.Module) or lacking:
        what = f"has no {' and no '.join(lacking)}" if lacking else "is no torch.nn.Module"
        raise PolicyError(f"cannot open {type(policy).__name__}: it {what}. Policies follow planprobe.core.protocols.Policy.")
    opened = _opened_class()()
    opened._adopt(copy.deepcopy(policy), f"agent '{name}'" if name else f"policy {type(policy).__name__}")
    opened.__dict__["_name"] = name
    opened.setup()
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

    Args: sites: patterns of `select_sites`. steps: clock steps to record. channels: of every chosen site. dtype of the
    copies (float16 halves the memory).
    Raises: UnknownSiteError; CompiledPolicyError; CaptureError (a site fires more than once a step, a second run starts
    inside the block, or boards change in number).
    """
    _check_opened(opened)
    recorders = {site: Recorder(site, dtype) for site in select_sites(opened, sites)}
    readers = {site: [_reader(opened, record, steps, channels)] for site, record in recorders.items()}
    cache = Cache()
    with _attached(opened, readers=readers):
        yield cache
    steps_seen = {record.steps for record in recorders.values()}
    if len(steps_seen) > 1:
        fired = ", ".join(f"{record.site} {len(record.steps)}" for record in recorders.values())
        raise CaptureError(f"sites fired on different steps and cannot be stacked alike: {fired} steps. Capture them apart.")
    cache.fill({site: record.finish() for site, record in recorders.items()}, steps_seen.pop())


@contextmanager
def intervene(opened: OpenedPolicy, edits: Sequence[Edit]) -> Iterator[None]:
    """Apply edits to every run inside the block, in the order of the list.

    Raises: UnknownSiteError; CompiledPolicyError; while running ShapeError or AddressError (edit or mask do not fit).
    """
    _check_opened(opened)
    writers: dict[str, list[Callable[[Tensor], Tensor]]] = {}
    for edit in [edits] if isinstance(edits, Edit) else edits:
        for site in select_sites(opened, edit.address.site):
            writers.setdefault(site, []).append(_writer(opened, site, edit))
    with _attached(opened, writers=writers):
        yield


def _reader(opened: OpenedPolicy, record: Recorder, steps: Steps, channels: Channels) -> Callable[[Tensor], None]:
    wanted, running = step_filter(steps), opened.__dict__

    def read(value: Tensor) -> None:
        step = running["clock"]
        if steps is None or wanted(step):
            if channels is not None:
                value = value[:, channel_ids(channels, record.site, value)]
            record.add(value, step)

    return read


def _writer(opened: OpenedPolicy, site: str, edit: Edit) -> Callable[[Tensor], Tensor]:
    wanted, (tick, layer) = step_filter(edit.address.steps), tick_and_layer(site)
    regions: dict[tuple, Tensor | None] = {}

    def write(value: Tensor) -> Tensor:
        if not wanted(opened.clock):
            return value
        if (value.shape, value.device) not in regions:
            regions[value.shape, value.device] = region(edit.address, site, value)
        new = edit.apply(value, Moment(opened.clock, site, tick, layer))
        if new.shape != value.shape:
            raise ShapeError(
                f"an edit of '{site}' at step {opened.clock} gave {tuple(new.shape)} for a value of {tuple(value.shape)}."
            )
        new = new.to(device=value.device, dtype=value.dtype)
        where = regions[value.shape, value.device]
        if where is not None:
            new = torch.where(where, new, value)
        # The same memory layout: a convolution may round differently in another, and a patch of a run with itself would show.
        return new if new.stride() == value.stride() else torch.empty_like(value).copy_(new)

    return write


class _Site:
    """All that goes on at one site: one torch hook, that writes and then reads."""

    def __init__(self, opened: OpenedPolicy, site: str) -> None:
        self.running, self.site, self.fired = opened.__dict__, site, -1
        self.writers: list[Callable[[Tensor], Tensor]] = []
        self.readers: list[Callable[[Tensor], None]] = []
        self.handle = opened.hook_dict[site].register_forward_hook(self)

    def __call__(self, module: nn.Module, args: tuple, value: Tensor) -> Tensor | None:
        serial = self.running["_serial"]
        # Without this check the last value of a step would stand for all of them, and edits would come several times.
        if serial == self.fired:
            raise CaptureError(
                f"site '{self.site}' fires more than once a step. Give each tick its own tap, and run the policy "
                "through step(), not unroll()."
            )
        self.fired = serial
        for write in self.writers:
            value = write(value)
        for read in self.readers:
            read(value)
        return value if self.writers else None


@contextmanager
def _attached(
    opened: OpenedPolicy,
    *,
    readers: dict[str, list[Callable[[Tensor], None]]] | None = None,
    writers: dict[str, list[Callable[[Tensor], Tensor]]] | None = None,
) -> Iterator[None]:
    sites: dict[str, _Site] = opened.__dict__["_sites"]
    added: list[tuple[str, list, Any]] = []
    try:
        for kind, by_site in (("readers", readers or {}), ("writers", writers or {})):
            for name, functions in by_site.items():
                site = sites[name] if name in sites else sites.setdefault(name, _Site(opened, name))
                for function in functions:
                    getattr(site, kind).append(function)
                    added.append((name, getattr(site, kind), function))
        yield
    finally:
        for name, functions, function in added:
            functions.remove(function)
            if name in sites and not sites[name].readers and not sites[name].writers:
                sites.pop(name).handle.remove()


def _check_opened(opened: OpenedPolicy) -> None:
    _refuse_compiled(opened)
    if not isinstance(opened, OpenedPolicy):
        raise PolicyError(f"{type(opened).__name__} was not opened. Give instruments open_policy(policy).")


def _refuse_compiled(policy: object) -> None:
    for name, module in policy.named_modules() if isinstance(policy, nn.Module) else [("", policy)]:
        compiled = (
            type(module).__name__ == "OptimizedModule"
            or isinstance(module, torch.jit.ScriptModule)
            or getattr(module, "_compiled_call_impl", None) is not None
            or any(hasattr(value, "_torchdynamo_orig_callable") for value in _functions(module))
        )
        if compiled:
            raise CompiledPolicyError(
                f"{f'module {name!r} of the policy' if name else 'the policy'} is compiled, and hooks added after "
                "torch.compile are silently ignored: captures would be stale and edits do nothing.\n"
                "  Open the net as it was before torch.compile (`compiled._orig_mod`, or load the agent again)."
            )


def _functions(module: object) -> Iterator[object]:
    yield from getattr(module, "__dict__", {}).values()
    for cls in type(module).__mro__:
        if cls is nn.Module:
            return
        yield from vars(cls).values()


@lru_cache(maxsize=1)
def _lens() -> tuple[type, type, type]:
    """TransformerLens' HookedRootModule and HookPoint, and the reshape that its tools see spatial sites through."""
    from transformer_lens import HookedRootModule
    from transformer_lens.conversion_utils.conversion_steps.base_tensor_conversion import BaseTensorConversion
    from transformer_lens.hook_points import HookPoint

    class SquaresAsPositions(BaseTensorConversion):
        """(B, C, H, W) <-> (B, H W, C), for tools that think in (batch, position, width); other shapes as they are."""

        board: tuple[int, int] | None = None

        def handle_conversion(self, input_value: Tensor, *full_context: object) -> Tensor:
            self.board = tuple(input_value.shape[2:]) if input_value.ndim == 4 else None
            return input_value.flatten(2).transpose(1, 2) if self.board else input_value

        def revert(self, input_value: Tensor, *full_context: object) -> Tensor:
            return input_value.transpose(1, 2).unflatten(2, self.board) if self.board else input_value

    return HookedRootModule, HookPoint, SquaresAsPositions


@lru_cache(maxsize=1)
def _opened_class() -> type:
    return type("OpenedModule", (OpenedPolicy, _lens()[0]), {"__module__": __name__})
