"""The loop does what a hand-written one does, and stops at what is not finite."""

import pytest
import torch

from pplvm.training.fit import fit


def test_the_loop_is_the_hand_written_one():
    batches = [torch.randn(4, 3) for _ in range(5)]
    nets = [torch.nn.Linear(3, 1) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers = [torch.optim.Adam(net.parameters(), lr=0.1) for net in nets]

    class Squares(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).square().mean()

    values = [float(v) for v in fit(Squares(nets[0]), batches, optimizers[0])]
    for x, value in zip(batches, values, strict=True):
        optimizers[1].zero_grad()
        loss = nets[1](x).square().mean()
        loss.backward()
        optimizers[1].step()
        assert float(loss.detach()) == value
    assert torch.equal(nets[0].weight, nets[1].weight)


def test_it_stops_before_a_loss_that_is_not_finite_moves_anything():
    net = torch.nn.Linear(2, 1)
    before = net.weight.clone()
    bad = torch.full((1, 2), torch.inf)
    with pytest.raises(FloatingPointError, match="at step 0: lower the learning rate"):
        list(fit(torch.nn.Sequential(net, torch.nn.Flatten(0)), [bad[0]], torch.optim.SGD(net.parameters(), lr=1.0)))
    assert torch.equal(net.weight, before)
