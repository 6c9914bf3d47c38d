"""Which draws are reparameterized: their gradient is that of their density."""

from collections.abc import Callable, Iterator
from typing import Any

from pyro.distributions import RelaxedBernoulliStraightThrough, RelaxedOneHotCategoricalStraightThrough
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["DetachedSites", "is_reparameterized", "is_straight_through"]

PARTS = ("base_dist", "component0", "component1")
"""Where distributions keep those that they are made of."""

ROUNDED = (RelaxedBernoulliStraightThrough, RelaxedOneHotCategoricalStraightThrough)
"""Pyro's draws that are rounded after they are drawn, while their density stays that of what they were."""


def is_reparameterized(fn: Distribution) -> bool:
    """Whether the gradient along a draw is that of its density (the distribution has a true rsample).

    A distribution with a discrete coordinate has none, whatever its `has_rsample` says: a draw that jumps between
    states cannot follow its parameters, and an `rsample` that gives it a gradient (the straight-through rule) gives it
    another one.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal, OneHotCategoricalStraightThrough, RelaxedBernoulli
        >>> relaxed = RelaxedBernoulli(torch.tensor(0.5), torch.tensor(0.1))
        >>> is_reparameterized(Normal(0.0, 1.0)), is_reparameterized(relaxed)
        (True, True)
        >>> jumping = OneHotCategoricalStraightThrough(torch.ones(3))
        >>> jumping.has_rsample, is_reparameterized(jumping)
        (True, False)
    """
    return bool(fn.has_rsample) and not any(map(_is_discrete, _parts(fn)))


def is_straight_through(fn: Distribution) -> bool:
    """Whether a draw is a straight-through (rounded) draw of a relaxed distribution."""
    return any(isinstance(part, ROUNDED) for part in _parts(fn))


class DetachedSites(Messenger):
    """A Pyro messenger that detaches some draws; it stands outside of the trace, since outer handlers run first.

    Values that an inner handler gives a site, such as `poutine.replay`, are no draws and stay as they are.

    Arguments:
        is_cut: whether the draw of a site loses its path.
    """

    def __init__(self, is_cut: Callable[[Any], bool]) -> None:
        super().__init__()
        self.is_cut, self._is_drawn = is_cut, False

    def _pyro_sample(self, msg: Any) -> None:
        self._is_drawn = not (msg["done"] or msg["is_observed"])

    def _pyro_post_sample(self, msg: Any) -> None:
        if self._is_drawn and isinstance(msg["value"], Tensor) and self.is_cut(msg):
            msg["value"] = msg["value"].detach()


def _parts(fn: Distribution) -> Iterator[Distribution]:
    """A distribution and all distributions that it is made of."""
    yield fn
    for name in PARTS:
        if (part := getattr(fn, name, None)) is not None:
            yield from _parts(part)


def _is_discrete(fn: Distribution) -> bool:
    try:
        support: Any = fn.support
        return support.is_discrete
    except NotImplementedError:  # of a distribution that names no support
        return False
