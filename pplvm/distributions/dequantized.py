"""Whole numbers with noise added: v = k + u, u in (0, 1).

log q(v) = log q_u(v - k) if every coordinate of v is in its bin, else -inf
"""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pplvm.distributions.discretized_logistic import require_levels

__all__ = ["Dequantized"]


class Dequantized(TorchDistribution):
    """The distribution of k + u, declared on the support [0, levels) of the latent that it stands for.

    Noise is kept so far inside of (0, 1) that k + u does not round to the next whole number: in float32 and of 256
    levels, u <= 1 - 2^-15.

    Arguments:
        noise: of u, on the unit interval, with event (D,), reparameterized.
        index: k, (..., D), whole numbers.
        levels: k < levels.

    Raises:
        ValueError: levels is no integer of at least 2, the noise has another event shape than (D,), or an index is no
            whole number below levels, if arguments are validated.

    Example:
        >>> from pyro.distributions import Uniform
        >>> noise = Uniform(torch.zeros(2), 1.0).to_event(1)
        >>> Dequantized(noise, torch.tensor([3.0, 0.0]), levels=4).log_prob(torch.tensor([[3.5, 0.1], [2.5, 0.1]]))
        tensor([0., -inf])

    References:
        Ho, Chen, Srinivas, Duan and Abbeel, Flow++: improving flow-based generative models with variational
        dequantization and architecture design, 2019, arXiv:1902.00275
    """

    has_rsample = True

    def __init__(self, noise: TorchDistribution, index: Tensor, levels: int, validate_args: bool | None = None) -> None:
        require_levels(levels, type(self).__name__)
        if noise.event_shape != index.shape[-1:]:
            raise ValueError(
                f"Dequantized: noise of event shape {tuple(noise.event_shape)} is none for indices of shape "
                f"{tuple(index.shape)}: give it event shape (D,), and (..., D) of them"
            )
        batch = torch.broadcast_shapes(noise.batch_shape, index.shape[:-1])
        self.noise = noise if noise.batch_shape == batch else noise.expand(batch)
        self.index, self.levels = index.expand(*batch, index.shape[-1]), levels
        self._drawn: tuple[Tensor, Tensor, bool] | None = None
        super().__init__(batch, index.shape[-1:], validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, Constraint]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"index": constraints.independent(constraints.integer_interval(0, self.levels - 1), 1)}

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        return constraints.independent(constraints.interval(0.0, float(self.levels)), 1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Dequantized":
        shape = torch.Size(batch_shape)
        index = self.index.expand(*shape, *self.event_shape)
        new = Dequantized(self.noise.expand(shape), index, self.levels, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = self.noise.rsample(torch.Size(sample_shape))
        margin = torch.finfo(u.dtype).eps
        value = self.index + u.clamp(margin, 1 - margin * self.levels)
        self._drawn = value, u, torch.is_grad_enabled()
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        if self._drawn is not None and self._drawn[0] is value and (self._drawn[2] or not torch.is_grad_enabled()):
            return self.noise.log_prob(self._drawn[1])
        margin = torch.finfo(value.dtype).eps
        u = value - self.index
        inside = ((u >= 0) & (u <= 1)).all(-1)
        return self.noise.log_prob(u.clamp(margin, 1 - margin)).masked_fill(~inside, -torch.inf)
