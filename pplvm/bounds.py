"""Bounds on log p(x): pure functions of log-weights log p(x, z_k) - log q(z_k | x).

elbo(w)      = mean_k w_k                                               = renyi(1) = tvo(1)
iwae(w)      = log mean_k exp w_k                                       = renyi(0) = jackknife(0)
renyi(w)     = log mean_k exp((1 - alpha) w_k) / (1 - alpha)
tvo(w)       = sum_j (beta_{j+1} - beta_j) sum_k softmax(beta_j w)_k w_k
jackknife(w) = sum_j c_j mean over sets of K - j particles of iwae      with c_j that cancel terms of 1/K
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import torch
from torch import Tensor

__all__ = ["Bound", "elbo", "iwae", "jackknife", "partition_of", "renyi", "renyi_order", "tvo"]

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


def renyi_order(bound: Bound) -> float | None:
    """Return the order alpha of a bound made by `renyi`, None for any other bound.

    Example:
        >>> renyi_order(elbo), renyi_order(renyi(0.5)), renyi_order(tvo(2))
        (1.0, 0.5, None)
    """
    if isinstance(bound, _Renyi):
        return bound.alpha
    return 0.0 if bound is iwae else 1.0 if bound is elbo else None


def tvo(partition: Sequence[float] | int = 5) -> Bound:
    """The thermodynamic variational objective: a left Riemann sum of the thermodynamic integral, a lower bound.

        tvo = sum_j (beta_{j+1} - beta_j) f_j,     f_j = sum_k softmax(beta_j log w)_k log w_k

    The f_j grow with beta_j, so the sum lies between the elbo and iwae of the same weights, whatever they are.

    Arguments:
        partition: the betas, from 0 to 1 in rising order, or a number of equal steps; a single step gives
            `elbo`, the function itself.

    Raises:
        ValueError: the partition does not rise from 0 to 1.

    Example:
        >>> log_weights = torch.tensor([[0.0], [2.0]])
        >>> [f"{float(bound(log_weights)):.3f}" for bound in (elbo, tvo((0, 0.3, 1)), iwae)]
        ['1.000', '1.204', '1.434']

    References:
        Masrani, Le and Wood, The thermodynamic variational objective, 2019, arXiv:1907.00031
    """
    betas = partition_of(partition)
    return elbo if len(betas) == 2 else _Thermodynamic(betas)


def partition_of(partition: Sequence[float] | int) -> tuple[float, ...]:
    """Return the inverse temperatures (betas) that a partition stands for.

    Raises:
        ValueError: they do not rise from 0 to 1.

    Example:
        >>> partition_of(4)
        (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    if isinstance(partition, int):
        betas = tuple(step / partition for step in range(partition + 1)) if partition > 0 else ()
    else:
        betas = tuple(float(beta) for beta in partition)
    if betas[:1] != (0.0,) or betas[-1:] != (1.0,) or not all(a < b for a, b in pairwise(betas)):
        raise ValueError(
            f"partition must rise from 0 to 1, as (0, 0.1, 0.3, 1), or be a number of equal steps, got {partition!r}"
        )
    return betas


def jackknife(order: int = 1) -> Bound:
    """The jackknifed iwae: its bias falls from O(1/K) to O(1/K^(order + 1)), but it need not be a lower bound.

        jackknife(1) = K iwae_K - (K - 1) mean_k iwae_{K-1} without particle k

    Arguments:
        order: m, at least 0 and below K; the cost is that of C(K, m) bounds; 0 gives `iwae`, the function itself.

    Raises:
        ValueError: order is no integer of at least 0; when called, K is not above it.

    Example:
        >>> f"{float(jackknife()(torch.tensor([[0.0], [2.0]]))):.3f}"
        '1.868'

    References:
        Nowozin, Debiasing evidence approximations: on importance-weighted autoencoders and jackknife variational
        inference, 2018
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 0:
        raise ValueError(f"jackknife: order must be an integer of at least 0, got {order!r}")
    return _Jackknife(order) if order else iwae


@dataclass(frozen=True)
class _Renyi:
    alpha: float

    @property
    def __name__(self) -> str:
        return f"renyi({self.alpha:g})"

    def __call__(self, log_weights: Tensor) -> Tensor:
        return iwae((1 - self.alpha) * log_weights) / (1 - self.alpha)


@dataclass(frozen=True)
class _Thermodynamic:
    betas: tuple[float, ...]

    @property
    def __name__(self) -> str:
        return f"tvo({', '.join(f'{beta:g}' for beta in self.betas)})"

    def __call__(self, log_weights: Tensor) -> Tensor:
        steps = [
            (above - beta) * ((beta * log_weights).softmax(0) * log_weights).sum(0)
            for beta, above in pairwise(self.betas)
        ]
        return torch.stack(steps).sum(0)


@dataclass(frozen=True)
class _Jackknife:
    order: int

    @property
    def __name__(self) -> str:
        return f"jackknife({self.order})"

    def __call__(self, log_weights: Tensor) -> Tensor:
        K, m = len(log_weights), self.order
        if K <= m:
            raise ValueError(f"jackknife: order {m} needs more than {m} particles, got {K}")
        terms = [
            (-1) ** j * (K - j) ** m / (math.factorial(m - j) * math.factorial(j)) * _subset_mean(log_weights, K - j)
            for j in range(m + 1)
        ]
        return torch.stack(terms).sum(0)


def _subset_mean(log_weights: Tensor, size: int) -> Tensor:
    """The mean of iwae over all subsets of `size` particles."""
    sets = torch.tensor(list(combinations(range(len(log_weights)), size)), device=log_weights.device)
    return iwae(log_weights[sets.T]).mean(0)
