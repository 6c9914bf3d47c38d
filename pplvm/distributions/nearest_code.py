"""The nearest code of a codebook, as a point mass at a one-hot: the guide of vector quantization.

    k = argmin_j |z - e_j|^2,   q(v) = 1 at v = one_hot(k)

straight_through   the code moves as z does
rotation           the code moves as z does, turned and stretched by what takes z to its code

Both are rules for the slope of a draw that jumps: the value is the code itself.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import OneHotCategorical, constraints, register_kl
from torch.distributions.constraints import Constraint
from torch.nn.functional import one_hot

__all__ = ["NearestCode", "nearest", "require_codes", "rotation", "straight_through", "without_autocast"]

ROWS = 1024
"""Rows whose distances to all codes are held at once: with 512 codes they stay in the cache of one core."""

SHORTEST_RATIO = 1e-6
"""Directions of the codes' span shorter than this share of the longest count as none."""


def straight_through(z: Tensor, codes: Tensor) -> Tensor:
    """Zero, with the slope of z: (..., D).

    Arguments:
        z: (..., D).
        codes: the nearest code of each, (..., D); not read.

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """
    return z - z.detach()


def rotation(z: Tensor, codes: Tensor) -> Tensor:
    """Zero, with the slope of s R z, where the rotation R and the scale s = |e| / |z| take z to its code e.

        R = I - 2 r r' + 2 e_1 z_1',   z_1 = z / |z|,   e_1 = e / |e|,   r = (e_1 + z_1) / |e_1 + z_1|

    R and s are constants. At z = 0, which has no direction, it is `straight_through`.

    Arguments:
        z: (..., D).
        codes: e, the nearest code of each, (..., D).

    Example:
        >>> z = torch.tensor([1.0, 0.0], requires_grad=True)
        >>> rotation(z, torch.tensor([0.0, 2.0])).sum().backward()
        >>> z.grad.round()
        tensor([ 2., -2.])

    References:
        Fifty, Junkins, Duan, Iyengar, Liu, Amid, Thrun and Re, Restructuring vector quantization with the rotation
        trick, 2024, arXiv:2410.06424
    """
    moved, z, codes = z - z.detach(), z.detach(), codes.detach()
    of_z, of_e = (v.norm(dim=-1, keepdim=True) for v in (z, codes))
    tiny = torch.finfo(z.dtype).tiny
    from_, to = z / of_z.clamp(min=tiny), codes / of_e.clamp(min=tiny)
    between = from_ + to
    between = between / between.norm(dim=-1, keepdim=True).clamp(min=tiny)
    along = (moved * from_).sum(-1, keepdim=True)
    turned = moved - 2 * between * (moved * between).sum(-1, keepdim=True) + 2 * to * along
    return torch.where(of_z > tiny, of_e / of_z.clamp(min=tiny) * turned, moved)


class NearestCode(TorchDistribution):
    """All mass at the one-hot of the code that is nearest to z.

    Its log-mass is 0 there and -inf at other codes. Drawn along its path, `rsample`, the one-hot v carries a slope
    such that v E, its code's vector, moves as `path` says; a slope that leaves the span of the codes is projected on
    it. That is no gradient of a density, and only an objective whose name says biased follows it.

    Arguments:
        z: (..., D).
        codes: E, (K, D), at least two; no slope reaches them from here but through `vectors`.
        path: gives the slope by z of the vector of a code, `straight_through` or `rotation`.

    Raises:
        ValueError: codes are not (K, D), with K at least 2 and the D of z; a number is nan, if arguments are validated.

    Example:
        >>> codes = torch.tensor([[0.0, 0.0], [1.0, 1.0], [4.0, 0.0]])
        >>> nearest = NearestCode(torch.tensor([[0.9, 0.8], [3.0, 0.0]]), codes)
        >>> nearest.index, nearest.sample()
        (tensor([1, 2]), tensor([[0., 1., 0.],
                [0., 0., 1.]]))

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    arg_constraints: dict[str, Constraint] = {  # pyright: ignore[reportIncompatibleMethodOverride]
        "z": constraints.real_vector,
        "codes": constraints.independent(constraints.real, 2),
    }
    support = constraints.one_hot  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    is_point_mass = True
    has_rsample = True
    has_enumerate_support = True

    def __init__(
        self,
        z: Tensor,
        codes: Tensor,
        path: Callable[[Tensor, Tensor], Tensor] = straight_through,
        validate_args: bool | None = None,
    ) -> None:
        require_codes(type(self).__name__, z, codes)
        self.z, self.codes, self.path = z, codes, path
        self.index = nearest(z, codes)
        super().__init__(torch.Size(z.shape[:-1]), torch.Size(codes.shape[:1]), validate_args=validate_args)

    @property
    def vectors(self) -> Tensor:
        """The nearest codes, exactly, with the slope that `path` gives z: (..., D)."""
        chosen = self.codes[self.index]
        return chosen + self.path(self.z, chosen.detach())

    @property
    def mean(self) -> Tensor:
        return self._one_hot

    @property
    def mode(self) -> Tensor:
        return self._one_hot

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self._one_hot)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "NearestCode":
        shape = torch.Size(batch_shape)
        new: Any = self._get_checked_instance(NearestCode, _instance)
        new.z, new.codes, new.path = self.z.expand(*shape, -1), self.codes, self.path
        new.index = self.index.expand(shape)
        super(NearestCode, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            return self._one_hot.expand(self._extended_shape(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with without_autocast(self.z.device):
            moving = self.path(self.z, self.codes[self.index].detach()).to(self._dtype)  # (..., D), zeros
            drawn = self._one_hot + moving @ _inverse(self.codes).to(self._dtype)
        return drawn.expand(self._extended_shape(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        there = value.expand(shape + self.event_shape).gather(-1, self.index.expand(shape)[..., None]).squeeze(-1)
        return torch.where(there > 0.5, 0.0, -torch.inf).to(self._dtype)  # one number of K is read

    def entropy(self) -> Tensor:
        return self.z.new_zeros(self.batch_shape, dtype=self._dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        (K,) = self.event_shape
        states = torch.eye(K, dtype=self._dtype, device=self.z.device).reshape(K, *[1] * len(self.batch_shape), K)
        return states.expand(K, *self.batch_shape, K) if expand else states

    @property
    def _one_hot(self) -> Tensor:
        return one_hot(self.index, self.event_shape[0]).to(self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.z.dtype, self.codes.dtype)


def require_codes(name: str, z: Tensor, codes: Tensor) -> None:
    """Refuse codes that are not (K, D), of at least two and of the length of z.

    Raises:
        ValueError: in the name of a distribution.
    """
    if codes.dim() != 2 or len(codes) < 2:
        raise ValueError(f"{name}: codes are (K, D), K at least 2, got shape {tuple(codes.shape)}")
    if z.shape[-1:] != codes.shape[1:]:
        raise ValueError(
            f"{name}: z has shape {tuple(z.shape)} and codes have length {codes.shape[1]}: make them equal"
        )


@torch.no_grad()
def nearest(z: Tensor, codes: Tensor) -> Tensor:
    """The index of the code at the least Euclidean distance, the first of equal ones, computed in float32 at least.

    Arguments:
        z: (..., D).
        codes: (K, D).

    Returns:
        (...), integers.

    Example:
        >>> nearest(torch.tensor([[0.2], [0.9]]), torch.tensor([[0.0], [1.0]]))
        tensor([0, 1])
    """
    dtype = torch.promote_types(torch.promote_types(z.dtype, codes.dtype), torch.float32)
    with without_autocast(z.device):
        rows, codes = z.detach().reshape(-1, z.shape[-1]).to(dtype), codes.detach().to(dtype)
        half_square, across = codes.square().sum(-1) / 2, codes.T
        found = [torch.addmm(half_square, few, across, alpha=-1).argmin(-1) for few in rows.split(ROWS)]
    return (found[0] if len(found) == 1 else torch.cat(found)).reshape(z.shape[:-1])


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which distances are computed in the precision of their inputs: in half of it codes are confused."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


@torch.no_grad()
def _inverse(codes: Tensor) -> Tensor:
    """The pseudo-inverse of codes (K, D), transposed such that d @ inverse @ codes = d: (D, K)."""
    with without_autocast(codes.device):
        found = codes.detach().double()
        K, D = found.shape
        square = found.T @ found if K >= D else found @ found.T  # which is small
        inverse = torch.linalg.pinv(square, rtol=SHORTEST_RATIO**2, hermitian=True)
        return (inverse @ found.T if K >= D else found.T @ inverse).to(codes.dtype)


@register_kl(NearestCode, OneHotCategorical)
def _nearest_from_categorical(q: NearestCode, p: OneHotCategorical) -> Tensor:
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"a code of {q.event_shape[0]} and a distribution of {p.event_shape[0]} have no divergence from each other"
        )
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    return -p.logits.expand(shape + p.event_shape).gather(-1, q.index.expand(shape)[..., None]).squeeze(-1)
