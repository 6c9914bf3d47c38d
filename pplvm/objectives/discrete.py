"""Bernoulli and categorical sites in terms of their logits: scores, means, Gumbel and logistic noise.

    z = logits + g,  g logistic (Bernoulli) or Gumbel (categorical);  b = 1[z > 0] or the argmax of z;
    relaxed(z) = sigmoid(z / T) or softmax(z / T)

References:
    Maddison, Mnih and Teh, The concrete distribution, 2017, arXiv:1611.00712
    Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, 2017, arXiv:1611.01144
    Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, REBAR, 2017, arXiv:1703.07370
"""

from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, OneHotCategorical
from torch.nn.functional import logsigmoid, one_hot

from pplvm.particles.enumeration import coordinates

__all__ = ["Discrete", "softened"]

TINY = 1e-30
"""Keeps the logarithm of a uniform draw finite in float32."""

IMPOSSIBLE = -1e4
"""Stands for the logit of a state that is ruled out: its probability is zero in any precision, its products finite."""


class Discrete:
    """A Bernoulli, OneHotCategorical or Categorical site in terms of its logits.

    Arguments:
        fn: the site's distribution.

    Attributes:
        logits: of ones for a Bernoulli (..., n), normalized log-probabilities otherwise (..., C); they carry the
            gradient of the guide's parameters.
        own: dimensions at the right that belong to one coordinate: 0, or 1 for categories.
        single: the distribution of one coordinate.

    Raises:
        TypeError: the distribution is of another kind.
    """

    def __init__(self, fn: Distribution) -> None:
        single = coordinates(fn)
        if not isinstance(single, Bernoulli | OneHotCategorical | Categorical):
            raise TypeError(f"{type(single).__name__} is neither Bernoulli nor categorical")
        self.single: Distribution = single
        self.is_binary = isinstance(single, Bernoulli)
        self.is_index = isinstance(single, Categorical)
        self.logits: Tensor = single.logits if self.is_binary else single.logits.clamp(min=IMPOSSIBLE)
        self.own = 0 if self.is_binary else 1

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid() if self.is_binary else self.logits.softmax(-1)

    def at(self, logits: Tensor) -> "Discrete":
        """The same family with other logits."""
        other = copy(self)
        other.logits = logits
        return other

    def encoded(self, value: Tensor) -> Tensor:
        """A draw as ones and zeros; of a Categorical with a last dimension of categories."""
        return one_hot(value.long(), self.logits.shape[-1]).to(self.logits) if self.is_index else value

    def decoded(self, code: Tensor) -> Tensor:
        return code.argmax(-1) if self.is_index else code

    def score(self, code: Tensor) -> Tensor:
        """The score d log q(value) / d logits."""
        return code - self.mean.detach()

    def centred(self, slope: Tensor) -> Tensor:
        """A slope by normalized logits as one by the logits that the program gave."""
        return slope if self.is_binary else slope - self.mean.detach() * slope.sum(-1, keepdim=True)

    def noisy_logits(self, code: Tensor, uniform: Tensor) -> Tensor:
        """Noisy logits z given their draw, differentiable by the logits at fixed uniform noise in (0, 1)."""
        if self.is_binary:
            up, down = self.logits.sigmoid(), (-self.logits).sigmoid()
            u = torch.where(code > 0, 1 - up * uniform, down * uniform)
            rest = torch.where(code > 0, up * uniform, 1 - down * uniform)  # 1 - u without cancellation
            return self.logits + u.clamp(min=TINY).log() - rest.clamp(min=TINY).log()
        log_gap = (-uniform.clamp(min=TINY).log()).log()  # of standard exponentials
        first = (log_gap * code).sum(-1, keepdim=True)  # the largest is a Gumbel at 0, whatever the logits
        return -torch.where(code > 0, first, torch.logaddexp(log_gap - self.logits, first))

    def fresh(self, uniform: Tensor) -> Tensor:
        """Noisy logits z of a new draw, differentiable by the logits at fixed uniform noise in (0, 1)."""
        log_u = uniform.clamp(min=TINY).log()
        if self.is_binary:
            return self.logits + log_u - (1 - uniform).clamp(min=TINY).log()
        return self.logits - (-log_u).clamp(min=TINY).log()

    def relaxed(self, noisy: Tensor, temperature: Tensor | float) -> Tensor:
        return (noisy / temperature).sigmoid() if self.is_binary else (noisy / temperature).softmax(-1)


class _SoftOneHotCategorical(OneHotCategorical):
    """A one-hot categorical whose log-mass is extended linearly to soft values."""

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.logits.clamp(min=IMPOSSIBLE)).sum(-1)


class _SoftBernoulli(Bernoulli):
    def log_prob(self, value: Tensor) -> Tensor:
        return value * self.logits + logsigmoid(-self.logits)


def softened(fn: Distribution) -> Distribution:
    """A site's distribution with its log-mass extended to values between the states.

    Another distribution takes part by a method `softened()`, without arguments, that returns it so extended.

    Raises:
        TypeError: the site is a Categorical, whose index has nothing in between.
    """
    single: Any = coordinates(fn)
    if hasattr(single, "softened"):
        return single.softened()
    if isinstance(single, Bernoulli):
        soft: Distribution = _SoftBernoulli(logits=single.logits, validate_args=False)
    elif isinstance(single, OneHotCategorical):
        soft = _SoftOneHotCategorical(logits=single.logits, validate_args=False)
    else:
        raise TypeError(f"{type(single).__name__} has no values between its states: draw a OneHotCategorical")
    extra = len(fn.event_shape) - len(soft.event_shape)
    return torch.distributions.Independent(soft, extra, validate_args=False) if extra else soft
