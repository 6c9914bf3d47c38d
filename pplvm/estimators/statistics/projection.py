"""Random projections of a long gradient to a few numbers, in which its bias is sought.

    projection_j of tensor t = sum_oi u_o v_b(o),i g_oi,    the entries of u and v +1 or -1

Each row o of a tensor is in one of eight blocks b(o), and the rows of a block share their v: signs that are the sum of
eight outer products cost little for a gradient that is known by its factors, which is never multiplied out.
"""

import copy
import math

import torch
from torch import Tensor

from pplvm.estimators.parameters import Parameters
from pplvm.estimators.replicates.chunks import Dense

__all__ = ["Projection"]

BLOCKS = 8
"""What a bias of rank one adds to a sum has kurtosis 3 + 6 / blocks (products of two normals), 3 if signs are all drawn
apart: three sums miss 4.5 % of what those miss 3.7 %, and with one block 15 % (alpha 0.01, |b| of 6.3 standard errors).
"""


class Projection:
    """Random signed sums of the entries of each parameter tensor.

    What a fixed bias b adds to a sum has mean square |b|^2 over the signs, whatever b is, as with signs that are all
    drawn apart.

    Arguments:
        count: J, sums per tensor.
        seed: of the signs.
    """

    def __init__(self, parameters: Parameters, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.count, self.parameters, self.along = count, parameters, False
        self.signs = [_signs(count, rows, columns, generator) for rows, columns in parameters.matrices]

    @property
    def size(self) -> int:
        return self.count * len(self.signs)

    def towards(self, gradient: Tensor) -> "Projection":
        """The same projection with one sum per tensor along a known gradient (P,), where shrinkage shows first."""
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


def _signs(count: int, rows: int, columns: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """J sums of outer products: (J, blocks, rows), zero outside the block, and (J, blocks, columns)."""
    blocks = min(BLOCKS, rows)
    signs = torch.randint(0, 2, (count, rows + blocks * columns), generator=generator) * 2 - 1
    block = torch.randperm(rows, generator=generator) % blocks
    inside = torch.arange(blocks).unsqueeze(1) == block  # (blocks, rows)
    return inside * signs[:, None, :rows], signs[:, rows:].reshape(count, blocks, columns)
