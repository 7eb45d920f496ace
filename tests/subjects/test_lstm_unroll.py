"""The LSTM that training unrolls in one go: against the cell step by step, and against numerical gradients."""

import torch

from planprobe.subjects.nets import make_net
from planprobe.subjects.nets.base import Net
from planprobe.subjects.nets.lstm_cell import tapped_cell
from planprobe.subjects.nets.lstm_unroll import unroll_lstm
from planprobe.subjects.recipe import NetRecipe

STEPS, BOARDS, UNITS = 4, 3, 2
KEEP = torch.tensor([[1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)


def random_arguments():
    generator = torch.Generator().manual_seed(0)
    shapes = ((STEPS, BOARDS, 4 * UNITS), (4 * UNITS, UNITS), (BOARDS, UNITS), (BOARDS, UNITS))
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def test_it_is_the_cell_step_by_step():
    drive, weight, h, c = random_arguments()
    hs, last_h, last_c = unroll_lstm(drive, weight, h, c, KEEP)
    for t in range(STEPS):
        h, c = h * KEEP[t][:, None], c * KEEP[t][:, None]
        pre = (drive[t] + h @ weight.T)[:, :, None, None]
        h, c = (part[:, :, 0, 0] for part in tapped_cell(pre, c[:, :, None, None], lambda _, value: value))
        torch.testing.assert_close(hs[t], h)
    torch.testing.assert_close((last_h, last_c), (h, c))


def test_its_gradients_are_right():
    """Of every output to every input, memory before the first step included."""
    assert torch.autograd.gradcheck(lambda *arguments: unroll_lstm(*arguments, KEEP), random_arguments())


def test_training_takes_this_way_and_autocast_does_not_break_it(monkeypatch):
    net = make_net(NetRecipe(kind="lstm", channels=8, hidden=4), planes=2, board=(3, 3), num_actions=4)
    monkeypatch.setattr(Net, "_recur", None)  # the way of nets without a faster one
    observations = torch.rand(5, BOARDS, 2, 3, 3)
    starts = torch.zeros(5, BOARDS, dtype=torch.bool)
    expected = net.unroll(observations, net.initial_state(BOARDS), starts)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net.unroll(observations, net.initial_state(BOARDS), starts)[0]
    torch.testing.assert_close(logits.float(), expected, atol=0.02, rtol=0)
    logits.float().square().sum().backward()
    assert float(net.recur.weight.grad.abs().max()) > 0
