"""The thermodynamic variational objective (TVO) by its covariance gradient, for any guide.

target = sum_j (beta_{j+1} - beta_j) E_{pi_j}[f],     f = log p - log q,     pi_j ~ p^beta_j q^(1 - beta_j)
d E_{pi}[f] = E_pi[df] + Cov_pi[f, beta d log p + (1 - beta) d log q]
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch

from pplvm.bounds import partition_of, tvo
from pplvm.objectives.detached import draw_detached, require_densities
from pplvm.objectives.estimate import Estimate
from pplvm.objectives.independence import require_independent_data
from pplvm.objectives.objective import Objective
from pplvm.objectives.targets import Tabulated, thermodynamic
from pplvm.particles.pair import Pair

__all__ = ["Thermodynamic"]


class Thermodynamic(Objective):
    """The TVO's left Riemann sum, with moments under self-normalized importance weights.

        gradient = sum_j (beta_{j+1} - beta_j) sum_k v_jk [ df_k + K / (K - 1) (f_k - f_j) dg_jk ]
        v_j = softmax(beta_j f),     f_j = sum_k v_jk f_k,     g_j = beta_j log p + (1 - beta_j) log q

    Consistent for the sum of exact expectations, biased at finite K by normalizing (not in the term beta = 0).
    The finite-K bound that it reports has unbiased gradients of its own: `LeaveOneOut(tvo(partition), K)`.

    Arguments:
        partition: as for `pplvm.bounds.tvo`.
        num_particles: K, at least 2.

    Raises:
        ObjectiveError: num_particles is below 2; a guide site is a Delta or masked.
        ValueError: the partition does not rise from 0 to 1.

    Example:
        >>> objective = Thermodynamic((0, 0.1, 0.3, 1), num_particles=10)

    References:
        Masrani, Le and Wood, The thermodynamic variational objective, 2019, arXiv:1907.00031
    """

    least_particles = 2

    def __init__(self, partition: Sequence[float] | int = 5, num_particles: int = 2) -> None:
        super().__init__(num_particles)
        self.partition = partition_of(partition)
        self.bound = tvo(self.partition)

    @property
    def target(self) -> Tabulated:
        return thermodynamic(self.partition)

    def estimate(self, pair: Pair, *args: Any, **kwargs: Any) -> Estimate:
        drawn = draw_detached(pair, self.num_particles, args, kwargs)
        log_weights = drawn.log_weights.detach()  # f
        terms = []
        for beta, above in pairwise(self.partition):
            weights = (beta * log_weights).softmax(0)  # (K, B)
            centred = log_weights - (weights * log_weights).sum(0)
            credit = self.num_particles / (self.num_particles - 1) * centred
            path = beta * drawn.log_p + (1 - beta) * drawn.log_q
            terms.append((above - beta) * (weights * (drawn.log_weights + credit * path)).sum(0))
        return Estimate(self.bound(log_weights), torch.stack(terms).sum(0), drawn.scale)

    def _pair_up(self, model: Callable[..., Any], guide: Callable[..., Any] | None, args: tuple, kwargs: dict) -> Pair:
        pair = super()._pair_up(model, guide, args, kwargs)
        require_densities(self, pair, args, kwargs, f"Pathwise or LeaveOneOut with {self.bound.__name__}")
        require_independent_data(self, pair, args, kwargs)
        return pair
