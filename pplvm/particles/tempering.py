"""What the latents' terms of a log-weight are multiplied by in what is optimised, never in what is reported.

log w = log p(x | z) + sum_l weight_l (log p(z_l) - log q(z_l))
"""

from collections.abc import Callable, Mapping

from torch import Tensor

__all__ = ["Tempering", "Terms", "Weights", "latent_terms"]

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
