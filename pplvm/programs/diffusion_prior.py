"""A variational autoencoder with a Gaussian diffusion as prior, and its preset.

chain ~ p(u_1 .. u_T),   z ~ p(z | u_1),   p(x | z) = likelihood(decoder(z))
q(z | x) = encoder(x),   chain ~ the fixed forward chain from z
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.low_discrepancy_uniform import LowDiscrepancyUniform
from pplvm.networks.denoising_mlp import DenoisingMLP
from pplvm.networks.dense import MLP, activation_named
from pplvm.programs.conditions import shaped
from pplvm.programs.dense_networks import dense_decoder
from pplvm.programs.latent_diffusion import LatentDiffusion
from pplvm.programs.likelihoods import GaussianOutputs, likelihood_named
from pplvm.programs.parts import diagonal_normal, gaussian
from pplvm.programs.sizes import require_dense_sizes, require_sizes

__all__ = ["DiffusionPrior", "diffusion_prior"]


class DiffusionPrior(nn.Module):
    """A variational autoencoder whose prior is a diffusion of its latents, T of which are latents of the program.

    The guide draws the noisy latents of z, all at once, from the fixed forward chain, and the model's reverse chain is
    its learned prior: any bound and any evaluation is legal. In training mode one step may stand for the chain, with
    the time and the noise as latents of model and guide: it is an unbiased estimate of the same elbo at a T-th of the
    cost, and legal under the elbo alone. In evaluation mode the program has its chain, always.

    Arguments:
        encoder: x (B, *shape) to a distribution over z, event (Z,), or to loc and log scale of a diagonal normal,
            (B, 2 Z); it runs once a datum.
        decoder: z (..., Z) to what `likelihood` takes.
        likelihood: the decoder's output to a distribution whose event is one datum.
        prior: of the latents.
        one_step: whether training runs one step of the chain; its mode is that of the prior, so that a prior that is
            frozen keeps its chain.
        flatten: whether the encoder takes flattened data, (B, D).

    Raises:
        TypeError: a part cannot be called.
        ValueError: in model(x), data are not of the likelihood's size.

    Example:
        >>> from pplvm.programs.parts import bernoulli
        >>> program = DiffusionPrior(MLP(6, 4), MLP(2, 6), bernoulli, LatentDiffusion(2, num_steps=5))
        >>> program.guide(torch.zeros(3, 6))

    References:
        Vahdat, Kreis and Kautz, Score-based generative modeling in latent space, 2021, arXiv:2106.05931
        Kingma, Salimans, Poole and Ho, Variational diffusion models, 2021, arXiv:2107.00630
    """

    zeros: Tensor

    def __init__(
        self,
        encoder: Callable[[Tensor], Any],
        decoder: Callable[[Tensor], Any],
        likelihood: Callable[[Any], dist.TorchDistribution],
        prior: LatentDiffusion,
        one_step: bool = True,
        flatten: bool = False,
    ) -> None:
        super().__init__()
        for name, part in (("encoder", encoder), ("decoder", decoder), ("likelihood", likelihood)):
            if not callable(part):
                raise TypeError(f"DiffusionPrior: {name} must be a module or a function, got {part!r}")
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.likelihood: Any = likelihood if not isinstance(likelihood, GaussianOutputs) else self._gaussian
        if isinstance(likelihood, GaussianOutputs):
            self.log_scale = likelihood.log_scale  # the name that it has in a VAE
        self.one_step, self.flatten = one_step, flatten
        self.register_buffer("zeros", torch.zeros(prior.latent_size), persistent=False)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            if self._runs_one_step:
                z = pyro.sample("z", self.prior.one_step(*self._time_and_noise()))  # (K, B, Z)
            else:
                chain = pyro.sample("chain", self.prior.reverse_chain())  # (K, B, T, Z)
                z = pyro.sample("z", self.prior.given_chain(chain))
            p_x = self.likelihood(self.decoder(z))
            pyro.sample("x", p_x, obs=shaped("DiffusionPrior", x, p_x.event_shape))

    def guide(self, x: Tensor) -> None:
        found = self.encoder(x.flatten(1) if self.flatten else x)
        q_z = diagonal_normal(found) if isinstance(found, Tensor) else found
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", q_z)
            if self._runs_one_step:
                self._time_and_noise()
            else:
                pyro.sample("chain", self.prior.forward_chain(z))
        self.prior.observe(z)

    def _gaussian(self, mean: Tensor) -> dist.TorchDistribution:
        return gaussian(mean, self.log_scale)

    @property
    def _runs_one_step(self) -> bool:
        return self.one_step and self.prior.training

    def _time_and_noise(self) -> tuple[Tensor, Tensor]:
        """What model and guide draw alike."""
        time = pyro.sample("time", LowDiscrepancyUniform(self.zeros[0], self.zeros[0] + 1))
        return time, pyro.sample("noise", dist.Normal(self.zeros, 1.0).to_event(1))


def diffusion_prior(
    data_size: int,
    latent_size: int = 16,
    hidden_sizes: Sequence[int] = (200,),
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    data_mean: Tensor | None = None,
    levels: int | None = None,
    num_steps: int = 20,
    denoiser_hidden_sizes: Sequence[int] = (128, 128),
    estimate: Literal["one-step", "chain"] = "one-step",
    activation: Literal["softplus", "tanh", "elu"] = "softplus",
) -> DiffusionPrior:
    """A dense variational autoencoder with a diffusion prior, which starts as N(0, I).

    Its encoder and decoder have the names of a `VAE` of the same sizes, of whose weights they may start while the prior
    alone is trained: `pplvm fit --program diffusion-prior --initial runs/vae --train prior`.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: Z.
        hidden_sizes: of the dense encoder; the dense decoder has them in reverse.
        likelihood: by name, of `pplvm.programs.likelihoods`.
        data_mean: (D,), the mean of the training data, from which the decoder's bias starts.
        levels: grey levels of the data, where the likelihood needs them.
        num_steps: T, noisy latents of the chain.
        denoiser_hidden_sizes: widths of the denoiser's hidden layers.
        estimate: of the prior in training: "one-step", for objectives on the elbo, or "chain", for all.
        activation: of the hidden layers of encoder and decoder.

    Raises:
        ValueError: a size or num_steps is below 1; likelihood or estimate has another name.

    Example:
        >>> program = diffusion_prior(data_size=6, latent_size=2, hidden_sizes=(5,), num_steps=4)
        >>> program.prior.reverse_chain().event_shape
        torch.Size([4, 2])

    References:
        Vahdat, Kreis and Kautz, Score-based generative modeling in latent space, 2021, arXiv:2106.05931
    """
    require_dense_sizes("diffusion_prior", latent_size, hidden_sizes)
    require_sizes("diffusion_prior", "num_steps", [num_steps])
    require_sizes(
        "diffusion_prior", "denoiser_hidden_sizes", denoiser_hidden_sizes, "the widths of the hidden layers", "128,128"
    )
    if estimate not in ("one-step", "chain"):
        raise ValueError(f"diffusion_prior: estimate must be 'one-step' or 'chain', got {estimate!r}")
    outputs = likelihood_named(likelihood, data_size, levels)
    return DiffusionPrior(
        MLP(data_size, 2 * latent_size, hidden_sizes, activation_named(activation)),
        dense_decoder(latent_size, outputs, hidden_sizes, activation, data_mean),
        outputs,
        LatentDiffusion(latent_size, num_steps, DenoisingMLP(latent_size, denoiser_hidden_sizes)),
        one_step=estimate == "one-step",
        flatten=True,
    )
