"""Spectral norms against singular values."""

import pytest
import torch
from torch import nn

from pplvm.graphs.compiled import compiled
from pplvm.networks.convolutional import ConvolutionalEncoder
from pplvm.networks.image_layers import convolution
from pplvm.networks.spectral_norm import spectral_norm, sum_of_spectral_norms


@pytest.mark.parametrize("shape", [(5, 5), (3, 9), (9, 3), (20, 64, 90), (4, 1, 6)])
def test_it_is_the_largest_singular_value(shape):
    W = torch.randn(shape)
    truth = torch.linalg.matrix_norm(W, ord=2)
    found = spectral_norm(W)
    assert found.shape == shape[:-2]
    assert (found <= truth * (1 + 1e-12)).all()
    torch.testing.assert_close(found, truth, rtol=4e-4, atol=0.0)


def test_its_gradient_is_the_outer_product_of_singular_vectors():
    W = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    Q, R = (torch.linalg.qr(torch.randn(3, 3))[0] for _ in range(2))
    W = (Q @ W @ R.T).requires_grad_()
    spectral_norm(W).backward()
    torch.testing.assert_close(W.grad, torch.outer(Q[:, 0], R[:, 0]), rtol=1e-9, atol=1e-9)


def test_equal_singular_values_are_no_trouble():
    W = torch.eye(4, requires_grad=True)
    spectral_norm(W).backward()
    assert spectral_norm(W).item() == 1.0 and W.grad.isfinite().all()
    assert torch.linalg.matrix_norm(W.grad, ord="nuc").item() == pytest.approx(1.0)  # a subgradient


def test_zeros_have_none_and_no_gradient():
    W = torch.zeros(2, 3, requires_grad=True)
    spectral_norm(W).backward()
    assert spectral_norm(W).item() == 0.0 and not W.grad.any()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_single_precision_neither_overflows_nor_vanishes(scale):
    W = scale * torch.randn(30, 40, dtype=torch.float32)
    torch.testing.assert_close(spectral_norm(W), torch.linalg.matrix_norm(W, ord=2), rtol=1e-3, atol=0.0)


def test_a_module_has_the_sum_over_its_weights_as_matrices():
    layers = nn.ModuleList(
        [
            nn.Linear(3, 4),
            nn.Linear(3, 4),
            nn.Conv2d(2, 5, 3),
            nn.ConvTranspose2d(2, 5, 3),
            convolution(2, 5, weight_norm=True),
            nn.GroupNorm(1, 4),
            nn.Embedding(3, 4),
        ]
    )
    matrices = [layers[0].weight, layers[1].weight, layers[2].weight.flatten(1)]
    matrices += [layers[3].weight.transpose(0, 1).flatten(1), layers[4].weight.flatten(1)]
    truth = sum(torch.linalg.matrix_norm(W, ord=2) for W in matrices)
    torch.testing.assert_close(sum_of_spectral_norms(layers), truth, rtol=1e-3, atol=0.0)
    with pytest.raises(ValueError, match="GroupNorm has no weight matrix"):
        sum_of_spectral_norms(layers[5])


class Penalty(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = ConvolutionalEncoder((1, 8, 8), 3, (4, 6), weight_norm=True)

    def forward(self, x):
        return sum_of_spectral_norms(self.net) * x.sum()


@pytest.mark.parametrize("tier", ["graph", pytest.param("inductor", marks=pytest.mark.slow)])
def test_it_runs_as_one_graph_and_keeps_no_state(tier):
    net, x, found = Penalty(), torch.ones(1), []
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for each in ("off", tier):
        net.zero_grad()
        step = compiled(net, each)
        found.append((step.backward(x), [p.grad.clone() for p in net.parameters() if p.grad is not None]))
        assert step.tier_now == each
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
