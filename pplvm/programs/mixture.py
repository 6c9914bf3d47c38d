"""Mixtures, whose discrete latent can be enumerated."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

__all__ = ["MixtureOfGaussians"]


class MixtureOfGaussians(nn.Module):
    """p(z) = Categorical(weights), p(x | z) = N(loc_z, scale_z^2 I), q(z | x) = Categorical(linear(x)).

    Arguments:
        data_size: D, the size of one flattened datum.
        num_components: number of values of z.
        seed: of the initial locations, drawn from a standard normal.

    References:
        Dempster, Laird and Rubin, Maximum likelihood from incomplete data, 1977, section 4.3
    """

    def __init__(self, data_size: int = 2, num_components: int = 3, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(num_components, data_size, generator=generator, device=generator.device)
        self.weight_logits = nn.Parameter(torch.zeros(num_components))
        self.locs = nn.Parameter(start.to(self.weight_logits.device))
        self.log_scales = nn.Parameter(torch.zeros(num_components))
        self.classifier = nn.Linear(data_size, num_components)

    def model(self, x: Tensor) -> None:
        x = x.flatten(1)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Categorical(logits=self.weight_logits))  # (K, B)
            scales = self.log_scales.exp()[z].unsqueeze(-1)
            pyro.sample("x", dist.Normal(self.locs[z], scales).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        x = x.flatten(1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Categorical(logits=self.classifier(x)))
