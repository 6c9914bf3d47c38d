"""The affine coupling of RealNVP: one part of a vector is scaled and shifted by what a network says of the other.

x = (a, b):   y = (a, b * exp(s(a)) + t(a)),   log |det dy/dx| = sum s(a)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pplvm.distributions.transforms.cached_pair import CachedPair

__all__ = ["AffineCoupling", "parameters_of_coupling"]


class AffineCoupling(CachedPair):
    """Scales and shifts the second part of a vector, given the first; both directions run the network once.

    The log-scale is bound * tanh(raw / bound), whose gradient is its own, unlike that of a clamp. A network of zeros
    gives the identity.

    Arguments:
        network: from the first D // 2 coordinates (..., D // 2) to shifts and then raw log-scales of the others,
            (..., 2 (D - D // 2)).
        size: D, at least 2.
        bound: of the log-scale, in nats.

    Raises:
        ValueError: size is below 2, bound is not positive, or a vector or the network's output has another size.

    Example:
        >>> coupling = AffineCoupling(torch.nn.Linear(2, 4), size=4)
        >>> x = torch.randn(3, 4)
        >>> torch.allclose(coupling.inv(coupling(x).clone()), x, atol=1e-5)
        True

    References:
        Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, 2017, arXiv:1605.08803
    """

    def __init__(self, network: Callable[[Tensor], Tensor], size: int, bound: float = 2.0) -> None:
        super().__init__(require_two_parts("AffineCoupling", size))
        if not bound > 0:
            raise ValueError(f"AffineCoupling: bound must be positive, got {bound!r}")
        self.network, self.bound = network, bound

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = parts(x)
        shift, log_scale = self._shift_and_log_scale(a)
        return joined(a, b * log_scale.exp() + shift), log_scale.sum(-1)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        a, b = parts(y)
        shift, log_scale = self._shift_and_log_scale(a)
        return joined(a, (b - shift) * (-log_scale).exp()), log_scale.sum(-1)

    def _shift_and_log_scale(self, a: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = parameters_of_coupling(self, a, 2).unbind(-2)
        return shift, self.bound * (raw / self.bound).tanh()


def parameters_of_coupling(coupling: CachedPair, a: Tensor, count: int) -> Tensor:
    """What a coupling's network says of the first part: (..., count, D - D // 2)."""
    assert coupling.size is not None
    found, moved = coupling.network(a), coupling.size - coupling.size // 2  # pyright: ignore[reportAttributeAccessIssue]
    if found.shape[-1] != count * moved:
        raise ValueError(
            f"{type(coupling).__name__}: the network must give {count} numbers for each of the {moved} coordinates "
            f"that are transformed, {count * moved} in all, and gives {found.shape[-1]}"
        )
    return found.unflatten(-1, (count, moved))


def require_two_parts(name: str, size: int) -> int:
    if size < 2:
        raise ValueError(f"{name}: size must be at least 2, of which one part is given the other, got {size!r}")
    return size


def parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first D // 2 coordinates, and the others."""
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def joined(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a.expand(*b.shape[:-1], a.shape[-1]), b], -1)
