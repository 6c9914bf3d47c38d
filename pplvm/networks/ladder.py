"""A group of latents whose posterior is its prior times a normal of the datum's features, as in the ladder VAE.

N(z; m, s^2) N(z; m_e, s_e^2) ~ N(z; m + (m_e - m) rho / (1 + rho), s^2 / (1 + rho)),   rho = s^2 / s_e^2
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import softplus

from pplvm.networks.soft_clamp import soft_clamp
from pplvm.networks.zero_start import zero_

__all__ = ["Ladder"]


class Ladder(nn.Module):
    """A group of latents, as `TopDown`, whose posterior weighs prior and data by their precisions.

        m_e, log s_e = head(e),   1 / s_q^2 = 1 / s^2 + 1 / s_e^2,   m_q = s_q^2 (m / s^2 + m_e / s_e^2)

    What a datum tells of a latent depends on its features alone, wherever the prior is. As residuals of the prior:
    d_loc = (m_e - m) / s rho / (1 + rho), d_log_scale = -log(1 + rho) / 2. At the start the prior is N(0, I), m_e = 0
    and s_e = 1, hence the posterior N(0, I / 2).

    Arguments:
        layer: makes a layer of so many inputs and outputs: `nn.Linear`, or a convolution.
        latent_size: Z of the group, the size of dimension `dim`.
        hidden_size: of the state and the features.
        body: what follows where the latent has come into the state, such as residual blocks.
        clamp: soft bound of log s and log s_e; None for no bound.
        dim: of the features: -1 for vectors, -3 for maps (C, H, W).

    Raises:
        ValueError: clamp is not positive.

    Example:
        >>> import torch
        >>> group = Ladder(nn.Linear, latent_size=2, hidden_size=5, body=nn.Identity())
        >>> [each.shape for each in group.residuals(torch.zeros(7, 3, 5), torch.zeros(3, 5))]
        [torch.Size([7, 3, 2]), torch.Size([7, 3, 2])]

    References:
        Sonderby, Raiko, Maaloe, Sonderby and Winther, Ladder variational autoencoders, 2016, arXiv:1602.02282
    """

    def __init__(
        self,
        layer: Callable[[int, int], nn.Module],
        latent_size: int,
        hidden_size: int,
        body: nn.Module,
        clamp: float | None = 5.0,
        dim: int = -1,
    ) -> None:
        super().__init__()
        if clamp is not None and not clamp > 0:
            raise ValueError(f"Ladder: clamp must be a positive number, or none, got {clamp}")
        self.act, self.body, self.clamp, self.dim = nn.SiLU(), body, clamp, dim
        self.prior_head, self.head = layer(hidden_size, 2 * latent_size), layer(hidden_size, 2 * latent_size)
        self.of_latent = layer(latent_size, hidden_size)
        zero_(self.prior_head)
        zero_(self.head)

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return self._normal(self.prior_head(self.act(h)))

    def residuals(self, h: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = self.prior(h)
        loc_e, log_scale_e = self._normal(self.head(self.act(e)))
        log_rho = 2 * (log_scale - log_scale_e)
        return (loc_e - loc) * (-log_scale).exp() * log_rho.sigmoid(), -softplus(log_rho) / 2

    def update(self, h: Tensor, z: Tensor) -> Tensor:
        return self.body(h + self.of_latent(z))

    def _normal(self, found: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = found.chunk(2, dim=self.dim)
        return loc, log_scale if self.clamp is None else soft_clamp(log_scale, self.clamp)
