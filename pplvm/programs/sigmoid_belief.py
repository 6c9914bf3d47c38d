"""Sigmoid belief networks: layers of Bernoulli latents."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.networks.dense import MLP

__all__ = ["SigmoidBeliefNet"]


class SigmoidBeliefNet(nn.Module):
    """Bernoulli layers z_1 (top) to z_L above Bernoulli data, with a guide that runs bottom up.

        p(z_1) = Bernoulli(prior),   p(z_l | z_{l-1}) = Bernoulli(f_l(z_{l-1})),   p(x | z_L) = Bernoulli(f(z_L))
        q(z_L | x) = Bernoulli(g(x)),   q(z_{l-1} | z_l) = Bernoulli(g_l(z_l))

    Latents enter the networks as 2 z - 1, data as x - mean.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_sizes: one layer each, from the top down.
        hidden_sizes: tanh layers between two stochastic layers; none makes each map linear.
        data_mean: (D,), the mean of the training data, which centres the guide's input and starts the bias.

    Raises:
        ValueError: no latent layer, or one that is empty.

    References:
        Neal, Connectionist learning of belief networks, 1992
        Mnih and Gregor, Neural variational inference and learning in belief networks, 2014, arXiv:1402.0030
    """

    centre: Tensor

    def __init__(
        self,
        data_size: int,
        latent_sizes: Sequence[int] = (10,),
        hidden_sizes: Sequence[int] = (),
        data_mean: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not latent_sizes or any(not isinstance(size, int) or size < 1 for size in latent_sizes):
            raise ValueError(
                "SigmoidBeliefNet: latent_sizes must name at least one layer, each of a positive size, such as "
                f"200,200, got {latent_sizes!r}"
            )
        sizes = [*latent_sizes, data_size]
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.prior_logits = nn.Parameter(torch.zeros(sizes[0]))
        decoders = [MLP(above, below, hidden_sizes) for above, below in pairs]
        self.decoders = nn.ModuleList(decoders)
        self.encoders = nn.ModuleList(MLP(below, above, hidden_sizes[::-1]) for above, below in pairs)
        mean = torch.full((data_size,), 0.5) if data_mean is None else data_mean.flatten()
        self.register_buffer("centre", mean.to(self.prior_logits.device))
        if data_mean is not None:
            with torch.no_grad():
                decoders[-1].last.bias.copy_(mean.clamp(0.01, 0.99).logit())

    def model(self, x: Tensor) -> None:
        x = x.flatten(1)
        with pyro.plate("batch", len(x)):
            logits = self.prior_logits
            for layer, decoder in enumerate(self.decoders, start=1):
                z = pyro.sample(f"z_{layer}", dist.Bernoulli(logits=logits).to_event(1))  # (K, B, Z)
                logits = decoder(2 * z - 1)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            below = x.flatten(1) - self.centre
            for layer, encoder in reversed(list(enumerate(self.encoders, start=1))):
                z = pyro.sample(f"z_{layer}", dist.Bernoulli(logits=encoder(below)).to_event(1))
                below = 2 * z - 1
