"""The LSTM cell's gates, twice: with a tap on every gate for instruments, and as one fused function for training.

Both take gate pre-activations (B, 4C, H, W) in the order i, f, o, g and the old cell c (B, C, H, W). A law test holds
them equal, in value and gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def tapped_cell(pre: Tensor, cell: Tensor, tap: Callable[[str, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """New (h, c); `tap(name, value)` sees, and may replace, i, f, o, g, c and h, in the order they are used."""
    i, f, o, g = pre.chunk(4, dim=1)
    i, f, g = tap("i", torch.sigmoid(i)), tap("f", torch.sigmoid(f)), tap("g", torch.tanh(g))
    c = tap("c", f * cell + i * g)
    o = tap("o", torch.sigmoid(o))
    return tap("h", o * torch.tanh(c)), c


def fused_cell(pre: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """New (h, c) by one autograd function, which keeps the gates for the way back."""
    if not torch.is_grad_enabled():
        return _Cell.act(pre, cell)
    return _Cell.apply(pre, cell)


def compile_cell() -> None:
    """Run the fused cell through torch.compile (needs a C++ compiler on CPU); lasts for the process.

    Gates are strided chunks of a channels-last tensor: eager kernels crawl over them sixteen floats at a time, one
    generated loop does not.
    """
    _Cell.act = staticmethod(torch.compile(_act, dynamic=False))
    _Cell.gates_forward = staticmethod(torch.compile(_gates_forward, dynamic=False))
    _Cell.gates_backward = staticmethod(torch.compile(_gates_backward, dynamic=False))


def _act(pre: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    h, c, *_ = _gates_forward(pre, cell)
    return h, c


def _gates_forward(pre: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
    """New h and c, and what the way back needs beside the old c: i, f, o, g and tanh(c)."""
    i, f, o, g = pre.chunk(4, dim=1)
    i, f, o, g = torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(g)
    c = f * cell + i * g
    tanh_c = torch.tanh(c)
    return o * tanh_c, c, i, f, o, g, tanh_c


def _gates_backward(cell: Tensor, kept: tuple[Tensor, ...], grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, o, g, tanh_c = kept
    grad_c = grad_c + grad_h * o * (1 - tanh_c * tanh_c)
    grads = (
        grad_c * g * i * (1 - i),
        grad_c * cell * f * (1 - f),
        grad_h * tanh_c * o * (1 - o),
        grad_c * i * (1 - g * g),
    )
    return torch.cat(grads, dim=1), grad_c * f


class _Cell(torch.autograd.Function):
    act = staticmethod(_act)
    gates_forward = staticmethod(_gates_forward)
    gates_backward = staticmethod(_gates_backward)

    @staticmethod
    def forward(ctx, pre: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        h, c, *kept = _Cell.gates_forward(pre, cell)
        ctx.save_for_backward(cell, *kept)
        return h, c

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_h: Tensor, grad_c: Tensor):
        cell, *kept = (saved.detach() for saved in ctx.saved_tensors)
        layout = torch.channels_last  # one memory layout, so that the compiled version is compiled once
        return _Cell.gates_backward(
            cell, tuple(kept), grad_h.contiguous(memory_format=layout), grad_c.contiguous(memory_format=layout)
        )
