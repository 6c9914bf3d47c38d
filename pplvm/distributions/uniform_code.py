"""A code of which all values are alike: a one-hot vector of K, whatever the vector, at log 1/K.

p(v) = 1 / K
"""

import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["UniformCode"]


class UniformCode(dist.OneHotCategorical):
    """A one-hot categorical of equal logits, whose log-density reads no value.

        p(v) = 1 / K

    Any OneHotCategorical finds the place of the one in all values first: K numbers read for each code, in every step.

    Arguments:
        logits: equal ones, (..., K).

    Example:
        >>> UniformCode(logits=torch.zeros(4)).log_prob(torch.eye(4)[:2])
        tensor([-1.3863, -1.3863])

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return self.logits[..., 0].expand(shape)
