"""What the latents' terms of a log-weight are multiplied by in what is optimised, never in what is reported.

log w = log p(x | z) + sum_l weight_l (log p(z_l) - log q(z_l))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from pplvm.bounds import Bound

__all__ = ["TemperedBound", "Tempering", "Terms", "Weights", "latent_terms"]

Terms = Mapping[str, Tensor]
"""Log p - log q of each latent, (K, B), in nats; minus its KL divergence where that is known in closed form."""

Weights = Mapping[str, Tensor | float]
"""What the term of each latent is multiplied by."""


class Tempering:
    """The weights of one evaluation: decided by the first draw that asks, the same for all that follow.

    Arguments:
        decide: from the first draw's terms to a weight for each.
        is_uniform: whether all latents have the same weight.

    Example:
        >>> import torch
        >>> halved = Tempering(lambda terms: dict.fromkeys(terms, 0.5), is_uniform=True)
        >>> halved.tempered(torch.tensor([[-3.0]]), {"z": torch.tensor([[-2.0]])})
        tensor([[-2.]])
    """

    def __init__(self, decide: Callable[[Terms], Weights], is_uniform: bool) -> None:
        self._decide, self.is_uniform = decide, is_uniform
        self._weights: Weights = {}
        self.plain: Tensor | None = None
        """The first draw's log-weights (K, B) as they are, without gradient; None until a draw has asked."""

    @property
    def shared(self) -> Tensor | float | None:
        """The weight of all latents, once decided; None where they may differ."""
        return next(iter(self._weights.values()), 1.0) if self.is_uniform or len(self._weights) < 2 else None

    def weights(self, log_weights: Tensor, terms: Terms) -> Weights:
        """One for each term.

        Arguments:
            log_weights: of the same draw, untempered, (K, B).
        """
        if self.plain is None:
            self.plain = log_weights.detach()
            self._weights = self._decide(terms)
        return self._weights

    def tempered(self, log_weights: Tensor, terms: Terms) -> Tensor:
        """Log-weights with their latents' terms weighed, (K, B)."""
        for name, weight in self.weights(log_weights, terms).items():
            log_weights = log_weights + (weight - 1) * terms[name]
        return log_weights


def latent_terms(log_p_sites: Terms, log_q_sites: Terms) -> dict[str, Tensor]:
    """Log p - log q of each site of the guide, (K, B); an auxiliary one has no log p."""
    return {n: log_p_sites[n] - log_q if n in log_p_sites else -log_q for n, log_q in log_q_sites.items()}


@dataclass(frozen=True)
class TemperedBound:
    """A bound of log-weights that are tempered by constants: beta for all latents, times a number of their own.

    Example:
        >>> from pplvm.bounds import elbo
        >>> TemperedBound(elbo, 0.5, (("z_1", 2.0),)).__name__
        'elbo, beta 0.5, z_1 times 2'
    """

    bound: Bound
    beta: float = 1.0
    own: tuple[tuple[str, float], ...] = ()

    @property
    def __name__(self) -> str:
        own = [f"{name} times {beta:g}" for name, beta in self.own]
        return ", ".join([getattr(self.bound, "__name__", str(self.bound)), f"beta {self.beta:g}", *own])

    def __call__(self, log_weights: Tensor) -> Tensor:
        return self.bound(log_weights)

    def times(self, beta: float, own: Mapping[str, float]) -> "TemperedBound | Bound":
        """With further weights; the bound itself if none is left."""
        before, names = dict(self.own), sorted({*dict(self.own), *own})
        product = ((name, before.get(name, 1.0) * own.get(name, 1.0)) for name in names)
        found = TemperedBound(self.bound, self.beta * beta, tuple((n, b) for n, b in product if b != 1))
        return self.bound if found == TemperedBound(self.bound) else found

    def tempering(self) -> Tempering:
        own = dict(self.own)
        return Tempering(lambda terms: {n: self.beta * own.get(n, 1.0) for n in terms}, is_uniform=not own)
