"""The coupling of Flow++: one part of a vector goes through the distribution function of a mixture of logistics.

x = (a, b):   y = (a, logit(F(b)) e^r + t),   F(b) = sum_i pi_i sigmoid((b - mu_i) / s_i),   pi, mu, s, r, t of a

log dy/db = log F'(b) - log F(b) - log(1 - F(b)) + r, with F and 1 - F each from its own tail
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pplvm.distributions.transforms.affine_coupling import joined, parameters_of_coupling, parts, require_two_parts
from pplvm.distributions.transforms.cached_pair import CachedPair

__all__ = ["MixtureCoupling", "logit_of_mixture", "quantile_of_mixture"]


class MixtureCoupling(CachedPair):
    """Transforms the second part of a vector by a mixture's distribution function, given the first.

    The inverse bisects a fixed number of times, without gradient, and ends with one Newton step whose gradient is that
    of the implicit function. Log-scales, and r, are bound * tanh(raw / bound).

    Arguments:
        network: from the first D // 2 coordinates (..., D // 2) to (3 M + 2) numbers for each of the others, (...,
            (3 M + 2) (D - D // 2)): M logits of pi, M means, M raw log-scales, then t and raw r.
        size: D, at least 2.
        num_components: M.
        bound: of log s and r, in nats.

    Raises:
        ValueError: size is below 2, num_components below 1, bound not positive, or a vector or the network's output has
            another size.

    Example:
        >>> coupling = MixtureCoupling(torch.nn.Linear(2, 22), size=4, num_components=3)
        >>> x = torch.randn(5, 4)
        >>> torch.allclose(coupling.inv(coupling(x).clone()), x, atol=1e-4)
        True

    References:
        Ho, Chen, Srinivas, Duan and Abbeel, Flow++: improving flow-based generative models with variational
        dequantization and architecture design, 2019, arXiv:1902.00275
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], size: int, num_components: int = 4, bound: float = 5.0
    ) -> None:
        super().__init__(require_two_parts("MixtureCoupling", size))
        if num_components < 1 or not bound > 0:
            raise ValueError(
                f"MixtureCoupling: num_components must be at least 1 and bound positive, got {num_components!r} and "
                f"{bound!r}"
            )
        self.network, self.num_components, self.bound = network, num_components, bound

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = parts(x)
        mixture, shift, log_scale = self._mixture(a)
        logit, log_slope = logit_of_mixture(b, *mixture)
        return joined(a, logit * log_scale.exp() + shift), (log_slope + log_scale).sum(-1)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        a, b = parts(y)
        mixture, shift, log_scale = self._mixture(a)
        b = quantile_of_mixture((b - shift) * (-log_scale).exp(), *mixture)
        log_slope = logit_of_mixture(b, *mixture)[1]
        return joined(a, b), (log_slope + log_scale).sum(-1)

    def _mixture(self, a: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        """log pi, mu and log s, (..., M, D - D // 2) each; t and r, (..., D - D // 2)."""
        M = self.num_components
        logits, mu, raw, ends = parameters_of_coupling(self, a, 3 * M + 2).split([M, M, M, 2], -2)
        log_s, shift, log_scale = self._bounded(raw), ends[..., 0, :], self._bounded(ends[..., 1, :])
        return (logits.log_softmax(-2), mu, log_s), shift, log_scale

    def _bounded(self, raw: Tensor) -> Tensor:
        return self.bound * (raw / self.bound).tanh()


def logit_of_mixture(b: Tensor, log_pi: Tensor, mu: Tensor, log_s: Tensor) -> tuple[Tensor, Tensor]:
    """logit(F(b)) and the log of its derivative, for b (..., D) and M components (..., M, D)."""
    z = (b.unsqueeze(-2) - mu) * (-log_s).exp()
    lower, upper = logsigmoid(z), logsigmoid(-z)
    log_f, log_rest = (log_pi + lower).logsumexp(-2), (log_pi + upper).logsumexp(-2)
    log_density = (log_pi + lower + upper - log_s).logsumexp(-2)
    return log_f - log_rest, log_density - log_f - log_rest


def quantile_of_mixture(logit: Tensor, log_pi: Tensor, mu: Tensor, log_s: Tensor) -> Tensor:
    """b with logit(F(b)) = logit, by bisection between the least and the largest quantile of a component alone."""
    with torch.no_grad():
        alone = mu + log_s.exp() * logit.unsqueeze(-2)  # (..., M, D)
        low, high = alone.amin(-2), alone.amax(-2)
        for _ in range(BISECTIONS[logit.dtype]):
            middle = (low + high) / 2
            below = _logit(middle, log_pi, mu, log_s) < logit
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        near = (low + high) / 2
    found, log_slope = logit_of_mixture(near, log_pi, mu, log_s)
    step = (logit - found) * (-log_slope.detach()).exp()
    newton = near + step.detach().clamp(low - near, high - near)
    return newton + (step - step.detach())


BISECTIONS = {torch.float16: 16, torch.bfloat16: 16, torch.float32: 32, torch.float64: 60}
"""Halvings after which an interval of the order of the scales is as narrow as the dtype tells apart."""


def _logit(b: Tensor, log_pi: Tensor, mu: Tensor, log_s: Tensor) -> Tensor:
    z = (b.unsqueeze(-2) - mu) * (-log_s).exp()
    return (log_pi + logsigmoid(z)).logsumexp(-2) - (log_pi + logsigmoid(-z)).logsumexp(-2)
