"""Log-densities of categorical distributions by gather, without a copy of the logits for each draw.

torch gathers them from the logits broadcast against the draws: the gradient is a tensor of draws x batch x categories.
"""

import copy
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution, TorchDistribution
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, OneHotCategorical

__all__ = ["gathering_log_prob", "is_categorical"]

GATHERING = (Categorical.log_prob, dist.Categorical.log_prob, OneHotCategorical.log_prob)


def gathering_log_prob(fn: Distribution) -> Distribution:
    """A distribution with the same log-densities, categorical ones by gather; others unchanged.

    Arguments:
        fn: within `.to_event()`, `.mask()` and `.expand()` or not.

    Example:
        >>> fn = dist.Categorical(logits=torch.zeros(3, 5)).to_event(1)
        >>> gathering_log_prob(fn).log_prob(torch.zeros(7, 3)).shape
        torch.Size([7])
    """
    if isinstance(fn, Independent | MaskedDistribution | ExpandedDistribution):
        outer = copy.copy(fn)
        outer.base_dist = gathering_log_prob(fn.base_dist)
        return outer
    return _Indexed(fn) if is_categorical(fn) else fn


def is_categorical(fn: Distribution) -> bool:
    """Whether log-densities are gathered from logits, as those of torch's and Pyro's categorical distributions."""
    return type(fn).log_prob in GATHERING


class _Indexed(TorchDistribution):
    """A Categorical or OneHotCategorical of which only log-densities are used."""

    def __init__(self, fn: Any) -> None:
        super().__init__(fn.batch_shape, fn.event_shape, validate_args=False)
        self.logits = fn.logits  # (batch..., categories), normalized

    def log_prob(self, value: Tensor) -> Tensor:
        category = value.argmax(-1) if self.event_shape else value.long()
        sizes = self.batch_shape
        places = [torch.arange(n, device=value.device).reshape(n, *[1] * i) for i, n in enumerate(reversed(sizes))]
        return self.logits[(*reversed(places), category)]
