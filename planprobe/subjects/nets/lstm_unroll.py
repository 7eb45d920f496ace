"""A plain LSTM over T steps as one autograd function, for training.

Step by step, autograd would keep a dozen small nodes a step, each with overheads of its own. Here the way forward
writes into buffers of the whole unroll; of the way back, all that does not depend on the later steps is taken over all
steps at once, and so is the weight gradient, so that the loop over steps only holds the recurrence itself. A law test
holds it equal to stepping through the cell of `lstm_cell.py`, in value and gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def unroll_lstm(drive: Tensor, weight: Tensor, h: Tensor, c: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """h after every step (T, B, C), and the last h and c (B, C).

    Args:
        drive: what the input adds to the gates i, f, o, g (T, B, 4C), bias included. weight: (4C, C), of h.
        h, c: memory (B, C) before the first step. keep: (T, B), 0 where memory is reset before the step, else 1.
    """
    # autocast does not reach into the buffers: whatever it made of the drive, the recurrence is in the weight's dtype
    return _Unroll.apply(drive.to(weight.dtype), weight, h, c, keep[:, :, None].to(weight.dtype))


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, drive: Tensor, weight: Tensor, h: Tensor, c: Tensor, keep: Tensor):
        units = h.shape[1]
        gates = torch.empty_like(drive)
        before_h, before_c, after_h, after_c, tanh_c = drive.new_empty(5, *drive.shape[:2], units).unbind(0)
        transposed = weight.t()
        for t, (kept, gate) in enumerate(zip(keep, gates, strict=True)):
            torch.mul(h, kept, out=before_h[t])
            torch.mul(c, kept, out=before_c[t])
            torch.addmm(drive[t], before_h[t], transposed, out=gate)
            gate[:, : 3 * units].sigmoid_()
            gate[:, 3 * units :].tanh_()
            i, f, o, g = gate.chunk(4, dim=1)
            h, c = after_h[t], after_c[t]
            torch.mul(f, before_c[t], out=c).addcmul_(i, g)
            torch.mul(o, torch.tanh(c, out=tanh_c[t]), out=h)
        ctx.save_for_backward(weight, keep, gates, before_h, before_c, tanh_c)
        return after_h, h.clone(), c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_hs: Tensor, grad_h: Tensor, grad_c: Tensor):
        weight, keep, gates, before_h, before_c, tanh_c = ctx.saved_tensors
        i, f, o, g = gates.chunk(4, dim=2)
        # what each gate's pre-activation does to c, or, for o, to h; what h does to c, and c to the c before
        slopes = torch.cat([g * i * (1 - i), before_c * f * (1 - f), tanh_c * o * (1 - o), i * (1 - g * g)], dim=2)
        to_c, back_c = o * (1 - tanh_c * tanh_c), f * keep
        units, grad_drive = o.shape[2], torch.empty_like(gates)
        by_gate, slopes = (part.unflatten(2, (4, units)) for part in (grad_drive, slopes))
        for t in reversed(range(len(gates))):
            grad_h = grad_h + grad_hs[t]
            grad_c = torch.addcmul(grad_c, grad_h, to_c[t])
            torch.mul(slopes[t], grad_c[:, None], out=by_gate[t])
            torch.mul(slopes[t, :, 2], grad_h, out=by_gate[t, :, 2])
            grad_h = (grad_drive[t] @ weight) * keep[t]
            grad_c = grad_c * back_c[t]
        grad_weight = grad_drive.flatten(0, 1).t() @ before_h.flatten(0, 1)
        return grad_drive, grad_weight, grad_h, grad_c, None
