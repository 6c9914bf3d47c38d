"""The denoiser: at the start the estimate of normal data, leading dimensions, and that the noise is read."""

import pytest
import torch

from pplvm.networks.denoising_mlp import DenoisingMLP


def moved(size=3, hidden_sizes=(6, 5)):
    network = DenoisingMLP(size, hidden_sizes)
    with torch.no_grad():
        network.last.weight.normal_()
    return network


def test_it_starts_as_the_estimate_of_normal_data():
    u, log_snr = torch.randn(4, 2, 3), torch.linspace(-6, 6, 2)
    expected = torch.sigmoid(log_snr).sqrt()[:, None] * u
    torch.testing.assert_close(DenoisingMLP(3)(u, log_snr), expected)


def test_leading_dimensions_are_rows_and_the_noise_is_read():
    network, u, log_snr = moved(), torch.randn(4, 2, 3), torch.randn(4, 2)
    found = network(u, log_snr)
    torch.testing.assert_close(found[1, 1], network(u[1, 1], log_snr[1, 1]))
    assert (network(u, log_snr + 1) - found).abs().min() > 1e-6
    away = lambda ratio: (network(u, torch.full((4, 2), ratio)) - u).abs().max()
    assert away(20.0) < 1e-3 < 1e-1 < away(0.0)  # almost without noise the estimate is what is seen


@pytest.mark.parametrize(("size", "hidden"), [(0, (4,)), (2, ()), (2, (0,))])
def test_bad_input(size, hidden):
    with pytest.raises(ValueError, match="DenoisingMLP: size must be"):
        DenoisingMLP(size, hidden)
