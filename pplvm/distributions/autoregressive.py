"""An autoregressive distribution, for latents or data: density in one pass, sampling value by value.

log p(v) = sum_i log p(v_i | v_1 .. v_i-1),     v_i in the order of a value flattened
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from pplvm.distributions.autoregressive_sampling import Step, draw_by_steps

__all__ = ["Autoregressive"]


class Autoregressive(TorchDistribution):
    """A distribution whose values are each drawn given those before.

    A model that observes data, or draws latents, from this one reads no value before it is drawn: it is sampled,
    dreamt from and decoded like any other.

    Arguments:
        conditionals: from values (..., *event_shape) to the distribution of each given those before it, in one pass of
            a masked network; whatever it depends on besides must broadcast against them.
        first: from the shape of all that is drawn, particles and batch, to the cache of the first step, whose rows are
            the N = prod(shape) values to draw, in the order of that shape flattened.
        step: of the draws, see `pplvm.distributions.autoregressive_sampling`, with the distributions of `conditionals`.
        event_shape: of a value.
        batch_shape: of what the conditionals depend on besides; a plate or particles enlarge it.
        support: of the values, without the dimensions of the event.

    Example:
        >>> def repeating(before):  # a bit is as the one before it, with probability 0.9
        ...     return torch.distributions.Bernoulli(0.1 + 0.8 * before)
        >>> chain = Autoregressive(
        ...     lambda v: repeating(torch.cat([torch.full_like(v[..., :1], 0.5), v[..., :-1]], -1)),
        ...     first=lambda shape: torch.full((prod(shape),), 0.5),
        ...     step=lambda first, before: (repeating(first if before is None else before), first),
        ...     event_shape=(5,),
        ...     support=constraints.boolean,
        ... )
        >>> v = chain.sample((3,))
        >>> v.shape, chain.log_prob(v).shape
        (torch.Size([3, 5]), torch.Size([3]))

    References:
        Germain, Gregor, Murray and Larochelle, MADE: masked autoencoder for distribution estimation, 2015,
        arXiv:1502.03509
        van den Oord, Kalchbrenner and Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv:1601.06759
    """

    arg_constraints: dict[str, Constraint] = {}  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(
        self,
        conditionals: Callable[[Tensor], Distribution],
        first: Callable[[torch.Size], Any],
        step: Step,
        *,
        event_shape: Sequence[int],
        support: Constraint,
        batch_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        self.conditionals, self.first, self.step, self._of_one = conditionals, first, step, support
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=validate_args)

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        more = len(self.event_shape) - self._of_one.event_dim
        return constraints.independent(self._of_one, more) if more else self._of_one

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Autoregressive":
        shape = torch.Size(batch_shape)
        if torch.broadcast_shapes(shape, self.batch_shape) != shape:
            raise ValueError(f"Autoregressive: batch shape {tuple(self.batch_shape)} does not expand to {tuple(shape)}")
        new = Autoregressive(
            self.conditionals,
            self.first,
            self.step,
            event_shape=self.event_shape,
            support=self._of_one,
            batch_shape=shape,
            validate_args=False,
        )
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            _, draws = draw_by_steps(self.step, self.first(shape), prod(shape), prod(self.event_shape))
            rows = torch.cat([draw.reshape(prod(shape), -1) for draw in draws], 1)  # (N, D)
        return rows.reshape(shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        conditionals = self.conditionals(value)
        log_prob = sum_rightmost(conditionals.log_prob(value), self.event_dim - len(conditionals.event_shape))
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))
