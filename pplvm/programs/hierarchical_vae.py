"""Hierarchical variational autoencoders: groups of latents from the top down, with residual posteriors.

p(x, z) = p(x | h_L) prod_l N(z_l; m_l, s_l^2),   q(z | x) = prod_l N(z_l; m_l + s_l d_l, (s_l exp(r_l))^2)
m_l, log s_l = prior_l(h_{l-1}),   d_l, r_l = residuals_l(h_{l-1}, e_l(x)),   h_l = update_l(h_{l-1}, z_l)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, cast

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.residual_normal import ResidualNormal
from pplvm.networks.ladder import Ladder
from pplvm.networks.residual import ResidualMLP
from pplvm.networks.spectral_norm import sum_of_spectral_norms
from pplvm.networks.top_down import dense_blocks, dense_bottom_up, dense_top_down
from pplvm.programs.likelihoods import likelihood_named, start_at
from pplvm.programs.sizes import require_sizes

__all__ = ["Group", "HierarchicalVAE", "hierarchical_vae"]


class Group(Protocol):
    """A group of latents: what its distributions are, given the state h above it, and how it moves that state.

    Any nn.Module with these methods is one, such as `pplvm.networks.top_down.TopDown`, or
    `pplvm.networks.ladder.Ladder`, whose posterior weighs prior and data by their precisions.
    """

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Loc and log scale of p(z_l | z_<l)."""
        ...

    def residuals(self, h: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """How far q(z_l | z_<l, x) is from it: d_loc in its scales, and d_log_scale."""
        ...

    def update(self, h: Tensor, z: Tensor) -> Tensor:
        """The state below the group."""
        ...


class HierarchicalVAE(nn.Module):
    """A variational autoencoder with L groups of latents, whose guide goes top-down as the model does.

    The guide draws z_1 (top) to z_L in the model's order, each posterior relative to the prior that the groups above
    it give, so that every KL has a closed form. Sites: "z_1" to "z_L", and "x".

    Arguments:
        bottom_up: x (B, *shape) to the features e_1 to e_L, one entry a group, from the top down; runs once a datum.
        groups: modules with prior, residuals and update (see `Group`), from the top down.
        decoder: the last state to what the likelihood takes.
        likelihood: the decoder's output to a distribution whose event is one datum.
        start: h_0, the state above all groups, learned, without batch dimension; it tells the prior of z_1.
        event_dim: dimensions of a latent: 1 for vectors, 3 for maps (C, H, W).
        penalties: by name, functions of this program that give one number, such as `sum_of_spectral_norms`: sites of
            the guide that `pplvm.objectives.penalized.Penalized` weighs.

    The state and the latents have any number of leading dimensions, particles and batch; h_0 has none.

    Raises:
        ValueError: there is no group; in model(x), data are not of the likelihood's size; in guide(x), bottom_up gives
            features for another number of groups.

    Example:
        >>> from pplvm.networks.top_down import dense_blocks, dense_bottom_up, dense_top_down
        >>> from pplvm.programs.parts import bernoulli
        >>> bottom_up = dense_bottom_up(data_size=6, hidden_size=5, num_groups=2)
        >>> groups = [dense_top_down(latent_size, hidden_size=5) for latent_size in (2, 3)]
        >>> program = HierarchicalVAE(bottom_up, groups, nn.Linear(5, 6), bernoulli, start=torch.zeros(5))
        >>> program.guide(torch.zeros(4, 6))

    References:
        Sonderby, Raiko, Maaloe, Sonderby and Winther, Ladder variational autoencoders, 2016, arXiv:1602.02282
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898
        Child, Very deep VAEs generalize autoregressive models, 2021, arXiv:2011.10650
    """

    def __init__(
        self,
        bottom_up: Callable[[Tensor], Sequence[Tensor]],
        groups: Sequence[Any],
        decoder: Callable[[Tensor], Tensor],
        likelihood: Callable[[Tensor], dist.TorchDistribution],
        start: Tensor,
        event_dim: int = 1,
        penalties: Mapping[str, Callable[[nn.Module], Tensor]] | None = None,
    ) -> None:
        super().__init__()
        if not len(groups):
            raise ValueError("HierarchicalVAE: groups is empty: give at least one group of latents")
        self.bottom_up, self.groups = bottom_up, nn.ModuleList(groups)
        self.decoder, self.likelihood = decoder, likelihood
        self.start, self.event_dim, self.penalties = nn.Parameter(start), event_dim, dict(penalties or {})

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            h = self.start
            for number, group in enumerate(self._from_the_top, start=1):
                loc, log_scale = group.prior(h)
                z = pyro.sample(f"z_{number}", dist.Normal(loc, log_scale.exp()).to_event(self.event_dim))
                h = group.update(h, z)
            p_x = self.likelihood(self.decoder(h))
            pyro.sample("x", p_x, obs=self._shaped(x, p_x.event_shape))

    def guide(self, x: Tensor) -> None:
        features, h = self.bottom_up(x), self.start
        if len(features) != len(self.groups):
            raise ValueError(
                f"HierarchicalVAE: bottom_up gives features for {len(features)} groups, and there are "
                f"{len(self.groups)}"
            )
        with pyro.plate("batch", len(x)):
            for number, (group, e) in enumerate(zip(self._from_the_top, features, strict=True), start=1):
                loc, log_scale = group.prior(h)
                q = ResidualNormal(loc, log_scale.exp(), *group.residuals(h, e))
                z = pyro.sample(f"z_{number}", q.to_event(self.event_dim))
                if number < len(self.groups):
                    h = group.update(h, z)
            for name, penalty in self.penalties.items():
                pyro.deterministic(name, penalty(self).expand(len(x)))  # (B,)

    @property
    def _from_the_top(self) -> list[Group]:
        return cast(list[Group], list(self.groups))

    def _shaped(self, x: Tensor, shape: torch.Size) -> Tensor:
        if x[:1].numel() != len(x[:1]) * shape.numel():
            raise ValueError(
                f"HierarchicalVAE: the likelihood is one of data of shape {tuple(shape)}, and these have shape "
                f"{tuple(x.shape[1:])}: give it a decoder of their size"
            )
        return x.reshape(len(x), *shape)


def hierarchical_vae(
    data_size: int,
    latent_sizes: Sequence[int] = (16, 16, 16),
    hidden_size: int = 200,
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    data_mean: Tensor | None = None,
    levels: int | None = None,
    num_blocks: int = 1,
    clamp: float | None = 5.0,
    spectral_norm: bool = False,
    precision_weighted: bool = False,
) -> HierarchicalVAE:
    """Make a hierarchical variational autoencoder of residual multilayer perceptrons, for flattened data.

    Arguments:
        data_size: D.
        latent_sizes: one group each, from the top down.
        hidden_size: of the state, the features and all layers.
        likelihood: by name, as for `likelihood_named`.
        data_mean: (D,), the mean of the training data: centres the guide's input, starts the decoder's bias.
        levels: of grey data.
        num_blocks: residual blocks for each group, bottom-up and top-down, and before the data.
        clamp: soft bound of log scales and residuals in the heads; None for no bound.
        spectral_norm: let the guide have the penalty site "spectral_norm".
        precision_weighted: let posteriors be `Ladder`'s, prior and data weighed by their precisions, not residual ones.

    Raises:
        ValueError: there is no group, or a size is below 1; there is no such likelihood.

    Example:
        >>> program = hierarchical_vae(6, latent_sizes=(2, 3), hidden_size=5)
        >>> program.guide(torch.zeros(4, 6))
    """
    require_sizes("hierarchical_vae", "latent_sizes", latent_sizes, "at least one group of latents", "32,16,16")
    require_sizes("hierarchical_vae", "hidden_size", [hidden_size])
    require_sizes("hierarchical_vae", "num_blocks", [num_blocks])
    outputs = likelihood_named(likelihood, data_size, levels)
    decoder = ResidualMLP(hidden_size, outputs.output_size, hidden_size, num_blocks)
    start_at(decoder.last, outputs, data_mean)
    group = _dense_ladder if precision_weighted else dense_top_down
    return HierarchicalVAE(
        dense_bottom_up(data_size, hidden_size, len(latent_sizes), num_blocks, data_mean),
        [group(size, hidden_size, num_blocks, clamp) for size in latent_sizes],
        decoder,
        outputs,
        start=torch.zeros(hidden_size),
        penalties={"spectral_norm": sum_of_spectral_norms} if spectral_norm else None,
    )


def _dense_ladder(latent_size: int, hidden_size: int, num_blocks: int, clamp: float | None) -> Ladder:
    return Ladder(nn.Linear, latent_size, hidden_size, dense_blocks(hidden_size, num_blocks), clamp)
