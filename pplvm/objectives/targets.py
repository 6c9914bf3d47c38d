"""Targets of objectives that are no expectation of a bound on K log-weights, as functions of enumerated states.

From log p(x, z) and log q(z | x) of all S states, two tables (S, B), each follows without drawing:

LOG_EVIDENCE              log sum_s p_s
WAKE_SLEEP                log sum_s p_s + sum_s stop(p_s / p(x)) log q_s
thermodynamic(partition)  sum_j (beta_{j+1} - beta_j) E_s[log p_s - log q_s],   s ~ p^beta_j q^(1 - beta_j)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from pplvm.bounds import partition_of

__all__ = ["LOG_EVIDENCE", "UNKNOWN", "WAKE_SLEEP", "Tabulated", "thermodynamic"]


@dataclass(frozen=True)
class Tabulated:
    """A target by name and, where there is one, as a function of the table of all states; equal by name.

    Example:
        >>> WAKE_SLEEP.name, Tabulated("my own").of_tables
        ('wake-sleep', None)
    """

    name: str
    of_tables: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, compare=False)
    """From log p and log q (S, B) to (B,), in nats; None where the tables do not say."""


def thermodynamic(partition: Sequence[float] | int) -> Tabulated:
    """The left Riemann sum of the thermodynamic integral in the limit of infinitely many particles.

    Arguments:
        partition: as for `pplvm.bounds.tvo`.

    Raises:
        ValueError: the partition does not rise from 0 to 1.

    References:
        Masrani, Le and Wood, The thermodynamic variational objective, 2019, arXiv:1907.00031
    """
    betas = partition_of(partition)

    def riemann_sum(log_p: Tensor, log_q: Tensor) -> Tensor:
        return torch.stack(
            [
                (above - beta) * ((beta * log_p + (1 - beta) * log_q).softmax(0) * (log_p - log_q)).sum(0)
                for beta, above in pairwise(betas)
            ]
        ).sum(0)

    return Tabulated(f"thermodynamic({', '.join(f'{beta:g}' for beta in betas)})", riemann_sum)


def _log_evidence(log_p: Tensor, log_q: Tensor) -> Tensor:
    return log_p.logsumexp(0)


def _wake_sleep(log_p: Tensor, log_q: Tensor) -> Tensor:
    return log_p.logsumexp(0) + (log_p.softmax(0).detach() * log_q).sum(0)


LOG_EVIDENCE = Tabulated("log p(x)", _log_evidence)

WAKE_SLEEP = Tabulated("wake-sleep", _wake_sleep)
"""Both phases awake: log p(x) for the model, E_{p(z | x)}[log q(z | x)] for the guide."""

UNKNOWN = Tabulated("unknown")
