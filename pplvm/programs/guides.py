"""Encoders of variational autoencoders whose posteriors are better than diagonal normals that one pass gives.

FullCovariance     q(z | x) = N(loc(x), L(x) L(x)^T)
SemiAmortized      q(z | x) = N(loc_T, diag(scale_T^2)), T steps of ascent on the elbo of x from the encoder's outputs
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.distributions.full_covariance_normal import FullCovarianceNormal

__all__ = ["FullCovariance", "SemiAmortized"]


class FullCovariance(nn.Module):
    """The last layer of an encoder: outputs (..., input_size) to a normal of full covariance.

        q(z | x) = N(loc, L L^T),   L lower triangular, exp(.) on its diagonal

    The outputs are loc (Z), the log diagonal of L (Z), and L below the diagonal by rows, Z (Z - 1) / 2.

    Arguments:
        latent_size: Z.

    Raises:
        ValueError: latent_size is below 1.

    Example:
        >>> from pplvm.networks.dense import MLP
        >>> from pplvm.programs.vae import VAE
        >>> head = FullCovariance(latent_size=3)
        >>> encoder = nn.Sequential(nn.Flatten(1), MLP(6, head.input_size, (5,)), head)
        >>> program = VAE(data_size=6, latent_size=3, encoder=encoder)
        >>> encoder(torch.zeros(7, 6)).covariance_matrix.shape
        torch.Size([7, 3, 3])

    References:
        Kingma and Welling, An introduction to variational autoencoders, 2019, arXiv:1906.02691, section 2.5.1
    """

    below: Tensor

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        if latent_size < 1:
            raise ValueError(f"FullCovariance: latent_size must be at least 1, got {latent_size}")
        self.latent_size = latent_size
        rows, columns = torch.tril_indices(latent_size, latent_size, -1)
        self.register_buffer("below", rows * latent_size + columns, persistent=False)  # of Z Z numbers, those below

    @property
    def input_size(self) -> int:
        """Numbers that the network before it gives for one datum."""
        return 2 * self.latent_size + len(self.below)

    def forward(self, parameters: Tensor) -> FullCovarianceNormal:
        Z = self.latent_size
        loc, log_diagonal, lower = parameters.split([Z, Z, len(self.below)], dim=-1)
        flat = parameters.new_zeros(*parameters.shape[:-1], Z * Z).index_copy(-1, self.below, lower)
        return FullCovarianceNormal(loc, scale_tril=flat.unflatten(-1, (Z, Z)) + log_diagonal.exp().diag_embed())


class SemiAmortized(nn.Module):
    """An encoder whose outputs are refined for each datum by ascent on its own elbo.

        lambda_0 = encoder(x),   lambda_t+1 = lambda_t + step_size F^-1 d elbo(x; lambda_t) / d lambda

    F is the Fisher information of the diagonal normal (the natural gradient), and no coordinate moves by more than
    step_size standard deviations, or its log scale by more than step_size. The elbo is that of fixed noise, in pairs e
    and -e: q(z | x) stays a function of x, whose density can be asked for at any z, and the bound of its draws holds.

    Arguments:
        encoder: x (B, *shape) to loc and log scale, (B, 2 Z).
        decoder, likelihood, prior: those of the program itself, as given to `VAE`; the prior has event (Z,).
        latent_size: Z.
        num_steps: T; 0 leaves the encoder as it is.
        step_size: in (0, 1].
        num_pairs: of noise.
        through: whether gradients go through the steps, to the decoder and prior too, by second derivatives; if not,
            the refinement is a constant that is added to the encoder's outputs.

    Raises:
        ValueError: num_steps is negative, step_size outside (0, 1], num_pairs below 1.

    Example:
        >>> from pplvm.networks.dense import MLP
        >>> from pplvm.programs.parts import StandardNormal, bernoulli
        >>> from pplvm.programs.vae import VAE
        >>> parts = {"decoder": MLP(2, 6), "likelihood": bernoulli, "prior": StandardNormal(2)}
        >>> program = VAE(encoder=SemiAmortized(MLP(6, 4), **parts, latent_size=2, num_steps=3), **parts)
        >>> program.guide(torch.zeros(5, 6))

    References:
        Kim, Wiseman, Miller, Sontag and Rush, Semi-amortized variational autoencoders, 2018, arXiv:1802.02550
    """

    noise: Tensor

    def __init__(
        self,
        encoder: Callable[[Tensor], Tensor],
        decoder: Callable[[Tensor], Any],
        likelihood: Callable[[Any], Any],
        prior: Callable[[], Any],
        latent_size: int,
        *,
        num_steps: int = 5,
        step_size: float = 0.3,
        num_pairs: int = 4,
        through: bool = True,
    ) -> None:
        super().__init__()
        if num_steps < 0:
            raise ValueError(f"SemiAmortized: num_steps must be at least 0, got {num_steps}")
        if not 0 < step_size <= 1:
            raise ValueError(f"SemiAmortized: step_size must lie in (0, 1], got {step_size:g}")
        if num_pairs < 1:
            raise ValueError(f"SemiAmortized: num_pairs must be at least 1, got {num_pairs}")
        self.encoder, self.decoder, self.likelihood, self.prior = encoder, decoder, likelihood, prior
        self.num_steps, self.step_size, self.through = num_steps, step_size, through
        drawn = torch.randn(num_pairs, 1, latent_size)
        self.register_buffer("noise", torch.cat([drawn, -drawn]))  # (2 pairs, 1, Z)

    def forward(self, x: Tensor) -> Tensor:
        start = self.encoder(x)  # (B, 2 Z)
        found = start if self.through else start.detach()
        for _ in range(self.num_steps):
            found = self._step(found, x)
            found = found if self.through else found.detach()
        return found if self.through else start + (found - start.detach())

    def elbo(self, parameters: Tensor, x: Tensor) -> Tensor:
        """The elbo of each datum at the fixed noise, (B,), up to a constant."""
        loc, log_scale = parameters.chunk(2, dim=-1)
        z = loc + log_scale.exp() * self.noise  # (2 pairs, B, Z)
        p_x = self.likelihood(self.decoder(z))
        log_joint = p_x.log_prob(x.reshape(len(x), *p_x.event_shape)) + self.prior().log_prob(z)
        return log_joint.mean(0) + log_scale.sum(-1)  # the entropy

    def _step(self, parameters: Tensor, x: Tensor) -> Tensor:
        slope = torch.func.grad(lambda each: self.elbo(each, x).sum())(parameters)
        scale = parameters.chunk(2, dim=-1)[1].exp()
        of_loc, of_log_scale = slope.chunk(2, dim=-1)
        moves = scale * (scale * of_loc).clamp(-1, 1), (of_log_scale / 2).clamp(-1, 1)
        return parameters + self.step_size * torch.cat(moves, dim=-1)
