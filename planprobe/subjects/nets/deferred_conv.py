"""A 3x3 convolution whose weight gradient is taken once, over all its uses.

A ticked recurrent net applies one small convolution T x K times an unroll. Autograd then computes T x K weight
gradients, each too small to use the machine. Here each use only computes its input gradient (itself a plain convolution
with the flipped kernel, faster than the transposed one) and leaves (input, output gradient) behind; when the last
use is done, one weight gradient is taken over all of them. Same gradients to rounding, and faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class _Use(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, token: Tensor, weight: Tensor, flipped: Tensor, uses: list) -> Tensor:
        ctx.save_for_backward(x)
        ctx.flipped, ctx.uses = flipped, uses
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        ctx.uses.append((x.to(grad.dtype), grad))  # under autocast x and the weight are wider than what comes back
        grad_x = F.conv2d(grad, ctx.flipped.to(grad.dtype), padding=1) if ctx.needs_input_grad[0] else None
        return grad_x, torch.zeros_like(grad[:0, 0, 0, 0]), None, None, None


class _Collect(torch.autograd.Function):
    """Runs last in the backward pass: every use depends on its (empty) output."""

    @staticmethod
    def forward(ctx, weight: Tensor, uses: list) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.uses = uses
        return weight.new_zeros(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, _: Tensor):
        (weight,) = ctx.saved_tensors
        if not ctx.uses:
            return torch.zeros_like(weight), None
        inputs, grads = (cat_boards(part) for part in zip(*ctx.uses, strict=True))
        ctx.uses.clear()
        _, grad_weight, _ = torch.ops.aten.convolution_backward(
            grads, inputs, weight.to(grads.dtype), None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (False, True, False)
        )
        return grad_weight, None


def cat_boards(parts: Sequence[Tensor]) -> Tensor:
    """`torch.cat` of channels-last tensors along the batch, as one plain memory copy each."""
    return torch.cat([part.permute(0, 2, 3, 1) for part in parts]).permute(0, 3, 1, 2)


class DeferredConv2d(nn.Conv2d):
    """`nn.Conv2d(3, padding=1, bias=False)` with `begin()` once an unroll and `apply()` as often as wanted."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self._unroll: tuple[Tensor, Tensor, list] | None = None

    def begin(self) -> None:
        """Start an unroll. Without gradients, or on a GPU (where it does not pay), uses are plain convolutions."""
        if not (torch.is_grad_enabled() and self.weight.requires_grad) or self.weight.device.type != "cpu":
            self._unroll = None
            return
        uses: list = []
        flipped = self.weight.detach().flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        self._unroll = (_Collect.apply(self.weight, uses), flipped, uses)

    def end(self) -> None:
        self._unroll = None

    def forward(self, x: Tensor) -> Tensor:
        if self._unroll is None:
            return super().forward(x)
        token, flipped, uses = self._unroll
        return _Use.apply(x, token, self.weight.detach(), flipped, uses)
