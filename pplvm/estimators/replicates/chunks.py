"""Gradients of one parameter tensor for C replicates at once: dense, or as factors that are never multiplied.

Where few rows r reach a linear layer, replicate c's gradient is a short sum of outer products,

    g_c = sum_r left_cr right_cr^T = left_c^T right_c,    |g_c|^2 = sum (left_c left_c^T) * (right_c right_c^T),

and so are its inner products: they cost rows x (out + in) or rows^2 x (out + in), and no memory for out x in entries.
Every gradient is read as a matrix, (out, all the rest), a vector as one column.

References:
    Goodfellow, Efficient per-example gradient computations, 2015, arXiv:1510.01799
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Chunk", "Dense", "Factors"]


@dataclass(frozen=True)
class Dense:
    """Dense gradients.

    Arguments:
        values: (C, *shape).

    Example:
        >>> chunk = Dense(torch.ones(5, 1, 4))
        >>> chunk.squares().tolist(), chunk.total().tolist()
        ([4.0, 4.0, 4.0, 4.0, 4.0], [[5.0, 5.0, 5.0, 5.0]])
    """

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, which: slice) -> "Dense":
        """Some of the replicates."""
        return Dense(self.values[which])

    def kept(self) -> "Dense":
        """A copy in memory of its own."""
        return Dense(self.values.clone())

    @property
    def matrices(self) -> Tensor:
        """(C, O, I)."""
        C, *shape = self.values.shape
        return self.values.reshape(C, shape[0] if shape else 1, -1)

    @cached_property
    def flat(self) -> Tensor:
        """(C, n)."""
        return self.values.reshape(len(self.values), -1)

    def dense(self, room: Tensor | None = None) -> "Dense":
        """The gradients with all entries."""
        return self

    def repeated(self, count: int) -> "Dense":
        """The first replicate, repeated."""
        return Dense(self.values[:1].expand(count, *self.values.shape[1:]))

    def total(self) -> Tensor:
        """The sum over replicates, (O, I)."""
        return self.matrices.sum(0)

    def squares(self) -> Tensor:
        """Squared norms, (C,)."""
        rows = torch.linalg.vector_norm(self.matrices, dim=2)  # of all entries at once it is 3e-6 too small in float32
        return rows.square().sum(1)

    def inner(self, other: "Chunk") -> Tensor:
        """Inner products, replicate by replicate, (C,); a chunk of one broadcasts."""
        if isinstance(other, Factors):
            return other.inner(self)
        return torch.linalg.vecdot(self.flat, other.flat)

    def against(self, fixed: Tensor) -> Tensor:
        """Inner products with fixed tensors (k, O, I), (C, k)."""
        return self.flat @ fixed.flatten(1).T

    def signed(self, rows: Tensor, columns: Tensor) -> Tensor:
        """sum_q u_q^T g v_q for J sets of Q pairs of u, the rows (J, Q, O), and v, the columns (J, Q, I): (C, J)."""
        across = self.matrices @ columns.flatten(0, 1).T  # (C, O, J Q)
        return torch.einsum("coj,jo->cj", across, rows.flatten(0, 1)).unflatten(1, rows.shape[:2]).sum(2)

    def entries(self, places: Tensor) -> Tensor:
        """Single entries, counted row by row: (C, len(places))."""
        return self.flat[:, places]


@dataclass(frozen=True)
class Factors:
    """Gradients left^T right, one for each replicate, not multiplied out.

    Arguments:
        left: (C, R, O), what comes back to the layer's outputs.
        right: (C, R, I), the layer's inputs; expanded from (1, R, I) where all replicates share them.

    Example:
        >>> chunk = Factors(torch.ones(5, 4, 2), torch.ones(5, 4, 3))
        >>> chunk.dense().values.shape, chunk.squares().tolist()
        (torch.Size([5, 2, 3]), [96.0, 96.0, 96.0, 96.0, 96.0])
    """

    left: Tensor
    right: Tensor

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, which: slice) -> "Factors":
        """Some of the replicates."""
        return Factors(self.left[which], self.right[which])

    def kept(self) -> "Factors":
        """A copy in memory of its own."""
        return Factors(self.left.clone(), self.inputs.clone().expand(len(self), -1, -1))

    @property
    def inputs(self) -> Tensor:
        """(C, R, I), or (1, R, I) where all replicates share them, as those of a layer that sees the data."""
        return self.right if self.right.stride(0) else self.right[:1]

    def dense(self, room: Tensor | None = None) -> Dense:
        """The gradients with all entries.

        Arguments:
            room: memory for C replicates or more, (C', O, I), which costs a third of memory asked for anew.
        """
        return Dense(torch.bmm(self.left.mT, self.right, out=None if room is None else room[: len(self)]))

    def repeated(self, count: int) -> "Factors":
        """The first replicate, repeated."""
        return Factors(*(each[:1].expand(count, -1, -1) for each in (self.left, self.right)))

    def total(self) -> Tensor:
        """The sum over replicates, (O, I)."""
        inputs = self.inputs
        left = self.left.flatten(0, 1) if len(inputs) == len(self) else self.left.sum(0)
        return left.T @ inputs.flatten(0, 1)

    def squares(self) -> Tensor:
        """Squared norms, (C,)."""
        return self.inner(self)

    def inner(self, other: "Chunk") -> Tensor:
        """Inner products, replicate by replicate, (C,); a chunk of one broadcasts."""
        if isinstance(other, Dense):
            return ((self.inputs @ other.matrices.mT) * self.left).sum((1, 2))
        return ((self.left @ other.left.mT) * (self.inputs @ other.inputs.mT)).sum((1, 2))

    def against(self, fixed: Tensor) -> Tensor:
        """Inner products with fixed tensors (k, O, I), (C, k)."""
        return torch.stack([((self.inputs @ each.T) * self.left).sum((1, 2)) for each in fixed], 1)

    def signed(self, rows: Tensor, columns: Tensor) -> Tensor:
        """sum_q u_q^T g v_q for J sets of Q pairs of u, the rows (J, Q, O), and v, the columns (J, Q, I): (C, J)."""
        across = (self.left @ rows.flatten(0, 1).T) * (self.inputs @ columns.flatten(0, 1).T)  # (C, R, J Q)
        return across.sum(1).unflatten(1, rows.shape[:2]).sum(2)

    def entries(self, places: Tensor) -> Tensor:
        """Single entries, counted row by row: (C, len(places))."""
        row, column = places // self.right.shape[2], places % self.right.shape[2]
        return (self.left[:, :, row] * self.inputs[:, :, column]).sum(1)


Chunk = Dense | Factors
"""Replicate gradients of one parameter tensor."""
