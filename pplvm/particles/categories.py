"""Log-densities of categorical draws read by index, in memory of the draws and the logits alone.

torch gathers them from the logits broadcast against the draws: the gradient is a tensor of draws x batch x categories.
"""

import copy
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution, TorchDistribution
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, OneHotCategorical

__all__ = ["indexed", "is_categorical"]

GATHERING = (Categorical.log_prob, dist.Categorical.log_prob, OneHotCategorical.log_prob)


def indexed(fn: Distribution) -> Distribution:
    """A distribution with the same log-densities, whose categorical ones are read by index; others are as they are.

    Arguments:
        fn: within `.to_event()`, `.mask()` and `.expand()` or not.

    Example:
        >>> fn = dist.Categorical(logits=torch.zeros(3, 5)).to_event(1)
        >>> indexed(fn).log_prob(torch.zeros(7, 3)).shape
        torch.Size([7])
    """
    if isinstance(fn, Independent | MaskedDistribution | ExpandedDistribution):
        outer = copy.copy(fn)
        outer.base_dist = indexed(fn.base_dist)
        return outer
    return _Indexed(fn) if is_categorical(fn) else fn


def is_categorical(fn: Distribution) -> bool:
    """Whether a distribution gathers its log-densities from logits, as torch's categorical ones and Pyro's do."""
    return type(fn).log_prob in GATHERING


class _Indexed(TorchDistribution):
    """A Categorical or OneHotCategorical, of which nothing but its log-densities is asked."""

    def __init__(self, fn: Any) -> None:
        super().__init__(fn.batch_shape, fn.event_shape, validate_args=False)
        self.logits = fn.logits  # (batch..., categories), normalized

    def log_prob(self, value: Tensor) -> Tensor:
        category = value.argmax(-1) if self.event_shape else value.long()
        sizes = self.batch_shape
        places = [torch.arange(n, device=value.device).reshape(n, *[1] * i) for i, n in enumerate(reversed(sizes))]
        return self.logits[(*reversed(places), category)]
