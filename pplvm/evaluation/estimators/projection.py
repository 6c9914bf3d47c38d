"""The few numbers in which the bias of a long gradient is sought.

projection_j of tensor t = u_tj^T g_t v_tj,    the entries of u and v +1 or -1
"""

import copy
import math

import torch
from torch import Tensor

from pplvm.evaluation.estimators.parameters import Parameters
from pplvm.graphs.chunks import Dense

__all__ = ["Projection"]


class Projection:
    """Random signed sums of each parameter tensor's entries.

    The signs of a matrix are rank one, u_o v_i for entry (o, i), so that they cost little for a gradient that is known
    by its factors. Each is +1 or -1 still, and the mean square over u and v of what a fixed bias b adds to the sum is
    |b|^2, as with signs that are all apart; it varies more from one pair to the next.

    Arguments:
        count: J, sums per tensor.
        seed: of the signs.
    """

    def __init__(self, parameters: Parameters, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.count, self.parameters, self.along = count, parameters, False
        self.signs = [
            (_signs(count, rows, generator), _signs(count, columns, generator)) for rows, columns in parameters.matrices
        ]

    @property
    def size(self) -> int:
        return self.count * len(self.signs)

    def towards(self, gradient: Tensor) -> "Projection":
        """The same, but for one sum per tensor that is along a known gradient (P,), where shrinking shows first."""
        one = copy.copy(self)
        one.along, one.lengths, one.parts = True, self._lengths(gradient), self.parameters.split(gradient)
        return one

    def complete(self, signed: Tensor, along: Tensor) -> Tensor:
        """Signed sums (C, T, J), and inner products with the known gradient (C, T), as projections (C, J T)."""
        if self.along:
            known = self.lengths > 0
            first = torch.where(known, along / self.lengths.where(known, torch.ones_like(along[0])), signed[..., 0])
            signed = torch.cat([first.unsqueeze(2), signed[..., 1:]], 2)
        return signed.flatten(1)

    def __call__(self, vector: Tensor) -> Tensor:
        """(P,) to (J T,)."""
        parts = self.parameters.split(vector.double().unsqueeze(0))
        signed = [Dense(part).signed(u.double(), v.double()) for part, (u, v) in zip(parts, self.signs, strict=True)]
        along = torch.zeros(1, len(parts), dtype=torch.float64)
        if self.along:
            along = torch.stack([(a * b).sum() for a, b in zip(parts, self.parts, strict=True)]).unsqueeze(0)
        return self.complete(torch.stack(signed, 1), along)[0]

    def _lengths(self, gradient: Tensor) -> Tensor:
        """Root mean square of each tensor's entries, (T,)."""
        return torch.stack([part.norm() / math.sqrt(part.numel()) for part in self.parameters.split(gradient)])


def _signs(count: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (count, size), generator=generator) * 2 - 1
