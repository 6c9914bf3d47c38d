"""Bounds on log p(x): pure functions of log-weights log p(x, z_k) - log q(z_k | x).

elbo(w)  = mean_k w_k                                   = renyi(1)
iwae(w)  = log mean_k exp w_k                           = renyi(0)
renyi(w) = log mean_k exp((1 - alpha) w_k) / (1 - alpha)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Bound", "elbo", "iwae", "renyi"]

Bound = Callable[[Tensor], Tensor]
"""A function from log-weights (K, ...) to bounds (...), in nats."""


def elbo(log_weights: Tensor) -> Tensor:
    """The evidence lower bound: the mean of the log-weights, the same for every K in expectation.

    Arguments:
        log_weights: (K, ...), in nats.

    Example:
        >>> import torch
        >>> elbo(torch.tensor([[0.0], [2.0]]))
        tensor([1.])

    References:
        Jordan, Ghahramani, Jaakkola and Saul, An introduction to variational methods for graphical models,
        1999
    """
    return log_weights.mean(0)


def iwae(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound: the log of the mean weight; grows with K towards log p(x).

    Arguments:
        log_weights: (K, ...), in nats.

    Example:
        >>> import torch
        >>> iwae(torch.tensor([[1.0], [1.0]]))
        tensor([1.])

    References:
        Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, arXiv:1509.00519
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def renyi(alpha: float) -> Bound:
    """The variational Renyi bound of order alpha; falls as alpha grows, from iwae (0) by elbo (1).

    Arguments:
        alpha: any finite number; 0 gives `iwae` and 1 gives `elbo`, the functions themselves.

    Raises:
        ValueError: alpha is not finite.

    Example:
        >>> import torch
        >>> renyi(0.5)(torch.tensor([[1.0], [1.0]]))
        tensor([1.])

    References:
        Li and Turner, Renyi divergence variational inference, 2016, arXiv:1602.02311, equation 7
    """
    if not math.isfinite(alpha):
        raise ValueError(f"renyi: alpha must be finite, got {alpha}")
    return {0: iwae, 1: elbo}.get(alpha) or _Renyi(alpha)


@dataclass(frozen=True)
class _Renyi:
    alpha: float

    @property
    def __name__(self) -> str:
        return f"renyi({self.alpha:g})"

    def __call__(self, log_weights: Tensor) -> Tensor:
        return iwae((1 - self.alpha) * log_weights) / (1 - self.alpha)
