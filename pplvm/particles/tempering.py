"""Tempering: weights of the latents' terms in the surrogate, never in the reported bound.

log w = log p(x | z) + sum_l weight_l (log p(z_l) - log q(z_l)),     weight_l = beta own_l open_l

Beta and own_l are constants, known before anything is drawn; open_l is 1 or 0, and free bits alone choose it by the
first draw.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

__all__ = ["Tempering", "Terms", "Weights", "latent_terms"]

Terms = Mapping[str, Tensor]
"""Log p - log q of each latent, (K, B), in nats; minus its KL divergence where that is known in closed form."""

Weights = Mapping[str, Tensor | float]
"""The factor of each latent's term."""


@dataclass(frozen=True, eq=False)
class Tempering:
    """The weights of one evaluation: constants, and gates (free bits) that the first draw opens or shuts.

    Example:
        >>> import torch
        >>> Tempering(beta=0.5).tempered(torch.tensor([[-3.0]]), {"z": torch.tensor([[-2.0]])})
        tensor([[-2.]])
    """

    beta: Tensor | float = 1.0  # of all latents
    own: Mapping[str, float] = field(default_factory=dict)  # times these, by name
    gates: tuple[Callable[[Terms], Weights], ...] = ()  # times what each makes of the first draw's terms
    draws: list["_Draw"] = field(default_factory=list)  # the first, once there is one

    def times(self, beta: Tensor | float = 1.0, own: Mapping[str, float] | None = None) -> "Tempering":
        """The same tempering with further constants."""
        names = {**self.own, **(own or {})}
        product = {name: self.own.get(name, 1.0) * (own or {}).get(name, 1.0) for name in names}
        return replace(self, beta=self.beta * beta, own=product)

    def gated(self, gate: Callable[[Terms], Weights]) -> "Tempering":
        """The same tempering with a further gate."""
        return replace(self, gates=(*self.gates, gate))

    @property
    def plain(self) -> Tensor | None:
        """The untempered log-weights (K, B) of the first draw, without gradient; None before it."""
        return self.draws[0].plain if self.draws else None

    @property
    def shared(self) -> Tensor | float | None:
        """The common weight of all latents in the first draw; None where they may differ."""
        weights = self.draws[0].weights
        differ = (self.own or self.gates) and len(weights) > 1
        return None if differ else next(iter(weights.values()), 1.0)

    def weights(self, log_weights: Tensor, terms: Terms) -> Weights:
        """One weight for each term.

        Arguments:
            log_weights: of the same draw, untempered, (K, B).
        """
        if not self.draws:
            weights: dict[str, Tensor | float] = {name: self.beta * self.own.get(name, 1.0) for name in terms}
            for gate in self.gates:
                weights = {name: weights[name] * is_open for name, is_open in gate(terms).items()}
            self.draws.append(_Draw(log_weights.detach(), weights))
        return self.draws[0].weights

    def tempered(self, log_weights: Tensor, terms: Terms) -> Tensor:
        """Log-weights with weighted terms of the latents, (K, B)."""
        for name, weight in self.weights(log_weights, terms).items():
            log_weights = log_weights + (weight - 1) * terms[name]
        return log_weights


def latent_terms(log_p_sites: Terms, log_q_sites: Terms) -> dict[str, Tensor]:
    """Log p - log q of each site of the guide, (K, B); an auxiliary one has no log p."""
    return {n: log_p_sites[n] - log_q if n in log_p_sites else -log_q for n, log_q in log_q_sites.items()}


@dataclass(frozen=True)
class _Draw:
    plain: Tensor  # (K, B)
    weights: Weights
