"""A second device on a machine without one: tensors that say they live on 'pretend:0' and compute on the CPU.

It is registered through torch's hook for backends written in Python, so that factories, `.to(device)` and autograd
treat it as they treat a GPU. What a GPU refuses is refused (operands on two devices, another device's generator), and
whatever makes the host wait for the device is noted, with the line of planprobe that did it. Values are real: what runs
here can be compared with the same run on the CPU.

Autograd counts the devices when it first runs, so register before any backward pass: in a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from types import FrameType

import pytest
import torch
from torch.utils import backend_registration

NAME = "pretend"
aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default: "read",
    aten.equal.default: "read",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "nonzero",
    aten.repeat_interleave.Tensor: "nonzero",
    aten._unique2.default: "nonzero",
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
BETWEEN_DEVICES = {aten.copy_.default, aten._to_copy.default}
ARANGE = ("arange", "arange.start", "arange.start_step")  # torch's own would resize what it is given

waits: Counter[tuple[str, str]] = Counter()
"""How often the host waited: (how, 'file.py:function' of planprobe) -> count."""

_Generator = torch.Generator
_generators: list[torch.Generator] = []
_libraries: list[torch.library.Library] = []


class PretendTensor(torch.Tensor):
    """A tensor on the pretended device; `inner` is the real one."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        tensor.inner = inner
        return tensor

    def __repr__(self) -> str:
        return f"PretendTensor({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        to_host = device is not None and torch.device(device).type == "cpu"
        _refuse_mixtures(func, args, kwargs)
        _note_waits(func, args, to_host)
        known: dict[int, PretendTensor] = {}
        inner_args = _unwrap(args, known)
        inner_kwargs = {name: _unwrap(value, known) for name, value in kwargs.items()}
        if device is not None:
            inner_kwargs["device"] = torch.device("cpu")
        out = func(*inner_args, **inner_kwargs)
        if to_host:
            return out.clone()
        if func is aten.copy_.default and not isinstance(args[0], cls):
            return args[0]
        return _wrap(out, known)  # what works in place returns what it was given


def _wrap(value, known: dict[int, PretendTensor]):
    if isinstance(value, (tuple, list)):
        return type(value)(_wrap(part, known) for part in value)
    if not isinstance(value, torch.Tensor) or isinstance(value, PretendTensor):
        return value
    wrapped = known[id(value)] if id(value) in known else PretendTensor(value)
    assert wrapped.shape == value.shape, "an operator resized its output, which a wrapper cannot follow"
    return wrapped


def _unwrap(value, known: dict[int, PretendTensor]):
    if isinstance(value, PretendTensor):
        known[id(value.inner)] = value
        return value.inner
    return type(value)(_unwrap(part, known) for part in value) if isinstance(value, (tuple, list)) else value


def _tensors(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (tuple, list)) else []


def _refuse_mixtures(func, args, kwargs) -> None:
    """As a GPU does. A number (a tensor without axes) may come from the host, and so may indices."""
    generator = next((each for each in (*args, *kwargs.values()) if isinstance(each, _Generator)), None)
    if generator is not None and generator._cdata not in {each._cdata for each in _generators}:
        raise RuntimeError(f"{func}: expected a generator of '{NAME}' and found one of the CPU at {_place()}")
    if func in BETWEEN_DEVICES:
        return
    operands = args[0] if func in INDEXING else (*args, *kwargs.values())
    strangers = [each for each in _tensors(operands) if not isinstance(each, PretendTensor)]
    if any(each.ndim or torch.Tag.pointwise not in func.tags for each in strangers):
        raise RuntimeError(f"{func}: expected all tensors on one device, found {NAME}:0 and cpu at {_place()}")


def _note_waits(func, args, to_host: bool) -> None:
    kind = "to host" if to_host else WAITS.get(func)
    if func in INDEXING:
        indices = [each for each in args[1] if each is not None]
        if any(each.dtype == torch.bool for each in indices):
            kind = "nonzero"
        elif not all(isinstance(each, PretendTensor) for each in indices):
            kind = "to device"
    if func is aten.copy_.default and isinstance(args[0], PretendTensor) != isinstance(args[1], PretendTensor):
        kind = "to device" if isinstance(args[0], PretendTensor) else "to host"
    if kind:
        waits[kind, _place()] += 1


def _place() -> str:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if "/planprobe/" in name and "/tests/" not in name and "site-packages" not in name:
            function = frame.f_code.co_name
            if not function.startswith("<"):
                return f"{name.rsplit('/', 1)[1]}:{function}"
        frame = frame.f_back
    return "elsewhere"


def _factory(func, *args, **kwargs):
    """Operators without a tensor of the device among their arguments: they make one."""
    on_host = {name: torch.device("cpu") if name == "device" else value for name, value in kwargs.items()}
    return _wrap(func(*args, **on_host), {})


class _MakesGenerators(type):
    def __call__(cls, device: torch.device | str = "cpu"):
        generator = _Generator("cpu")
        if torch.device(device).type == NAME:
            _generators.append(generator)
        return generator

    def __instancecheck__(cls, instance) -> bool:
        return isinstance(instance, _Generator)


class _DeviceGenerator(metaclass=_MakesGenerators):
    """In place of `torch.Generator`, which knows no devices written in Python."""


def _through_host(make):
    """`torch.tensor` and `as_tensor` build on the host and copy, too far down for a device written in Python."""

    def made(*args, device=None, **kwargs):
        return make(*args, **kwargs) if device is None else make(*args, **kwargs).to(device)

    return made


def register() -> None:
    """Make the device known to torch, once a process."""
    if _libraries:
        return
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices written in Python", allow_module_level=True)
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16]
    others, own = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    others.fallback(_factory, "PrivateUse1")
    for name in ARANGE:
        operator = getattr(aten.arange, name.partition(".")[2] or "default")
        own.impl(name, functools.partial(_factory, operator), "PrivateUse1")
    _libraries.extend((others, own))


@contextlib.contextmanager
def pretended_device() -> Iterator[str]:
    """The name of the device, while it may be used; what makes the host wait is counted from zero."""
    register()
    waits.clear()
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # .data of a wrapper would keep the old tensor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", _DeviceGenerator)
        for name in ("tensor", "as_tensor"):
            patch.setattr(torch, name, _through_host(getattr(torch, name)))
        yield NAME
    torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
    _generators.clear()
