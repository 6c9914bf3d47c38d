"""Interpolation between two values of a latent: linear, spherical (slerp), or stepwise for discrete ones."""

import math

import torch
from torch import Tensor

__all__ = ["linear_path", "spherical_path", "stepwise_path"]


def linear_path(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Linear interpolation (1 - t) start + t end; both ends exact.

    Arguments:
        start, end: of one shape.
        shares: t, (T,), from 0 to 1.

    Returns:
        (T, *shape).
    """
    t = shares.reshape(-1, *[1] * start.dim())
    return torch.where(t < 0.5, start + t * (end - start), end - (1 - t) * (end - start))


def spherical_path(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation: constant angular speed, the radius linear; both ends exact.

        v(t) = r(t) (cos(t w) a + sin(t w) c),   w the angle between directions a and b, c the part of b across a

    Between Gaussian draws of many dimensions a straight line passes through radii that the prior hardly has. Of
    opposite directions any great circle would do: the one over the axis that is furthest from them is taken. A zero
    vector has no direction and takes the other's; in one dimension there is no way around, and the path is straight.

    Arguments:
        start, end: of one shape, each taken as one vector.
        shares: t, (T,), from 0 to 1.

    Returns:
        (T, *shape).

    References:
        Shoemake, Animating rotation with quaternion curves, 1985
        White, Sampling generative networks, 2016, arXiv:1609.04468

    Example:
        >>> path = spherical_path(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]), torch.tensor([0.0, 0.5, 1.0]))
        >>> path.norm(dim=1).round().tolist()
        [1.0, 2.0, 3.0]
    """
    radii = start.norm(), end.norm()
    if start.numel() < 2 or min(radii) == 0:
        return linear_path(start, end, shares)
    a, b = start.flatten() / radii[0], end.flatten() / radii[1]
    angle = 2 * torch.atan2((a - b).norm(), (a + b).norm())  # accurate where the cosine is not: near 0 and pi
    t = shares.unsqueeze(-1)  # (T, 1)
    direction = torch.cos(t * angle) * a + torch.sin(t * angle) * _across(a, b)
    path = (((1 - t) * radii[0] + t * radii[1]) * direction).reshape(-1, *start.shape)
    ends = shares.reshape(-1, *[1] * start.dim())
    return torch.where(ends == 0, start, torch.where(ends == 1, end, path))


def stepwise_path(start: Tensor, end: Tensor, shares: Tensor, own_dims: int = 0) -> Tensor:
    """Interpolation of discrete values: the coordinates that differ change one after another, in order.

    Arguments:
        start, end: of one shape.
        shares: t, (T,), from 0 to 1; at t the first t of the coordinates that differ, rounded, have stepped.
        own_dims: trailing dimensions that are one coordinate: 1 for one-hot values.

    Returns:
        (T, *shape).

    Example:
        >>> stepwise_path(torch.tensor([0, 0, 1]), torch.tensor([1, 0, 0]), torch.tensor([0.0, 0.5, 1.0])).tolist()
        [[0, 0, 1], [1, 0, 1], [1, 0, 0]]
    """
    outer = start.shape[: start.dim() - own_dims]
    own = math.prod(start.shape[start.dim() - own_dims :])
    before, after = start.reshape(-1, own), end.reshape(-1, own)  # (n, own)
    differs = (before != after).any(-1)  # (n,)
    stepped = differs.cumsum(0) <= (shares * differs.sum()).round().unsqueeze(-1)  # (T, n)
    return torch.where(stepped.unsqueeze(-1), after, before).reshape(-1, *outer, *start.shape[len(outer) :])


def _across(a: Tensor, b: Tensor) -> Tensor:
    """The unit vector orthogonal to a, towards b; zeros where b is a, an arbitrary one where b is -a."""
    across = b - (a @ b) * a
    across = across - (a @ across) * a  # once more: what is left of almost parallel directions is mostly rounding
    small = 8 * torch.finfo(a.dtype).eps
    if across.norm() <= small:
        if a @ b > 0:
            return torch.zeros_like(a)
        axis = torch.nn.functional.one_hot(a.abs().argmin(), len(a)).to(a.dtype)
        across = axis - (a @ axis) * a
    return across / across.norm()
