"""Replicate gradients as they stream in by chunks: sums that do not grow with their number.

What is summed of a tensor are deviations from an origin o near its gradients, so that few digits are lost:

    mean = o + S1 / N,    total variance = (S2 - |S1|^2 / N) / (N - 1),    S1 = sum (g - o),    S2 = sum |g - o|^2.

The origin is the first replicate; gradients that are known by their factors, and vary enough, have origin 0 instead
and are never multiplied out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pplvm.evaluation.estimators.moments import TensorMoments
from pplvm.evaluation.estimators.parameters import Parameters
from pplvm.evaluation.estimators.projection import Projection
from pplvm.graphs.chunks import Chunk, Dense, Factors

__all__ = ["Figures", "Gradient", "GradientStream", "TensorStream"]

NOISY = 0.01
"""Share of the mean squared norm from which on the variance may be found as their difference: in float32, to 1e-5."""


@dataclass(frozen=True)
class Figures:
    """What is kept of each of C replicate gradients, in float64 on the CPU."""

    along: Tensor  # (C, T), inner products with the reference, by tensor
    distances: Tensor  # (C,), squared, from the reference
    projections: Tensor  # (C, p), of the gradient minus the reference
    seen: list[Chunk]  # by tensor, each as a deviation from its origin


@dataclass(frozen=True)
class Gradient:
    """The gradients of C replicates.

    Arguments:
        chunks: one a parameter tensor.
        squares: squared norms, (C, T), float64, on the CPU.
    """

    chunks: list[Chunk]
    squares: Tensor

    @classmethod
    def of(cls, chunks: Sequence[Chunk | None], parameters: Parameters) -> "Gradient":
        """Where there is no chunk, no replicate depends on the tensor."""
        C = next((len(chunk) for chunk in chunks if chunk is not None), 1)
        absent = [Dense(p.detach().new_zeros(()).expand(C, *p.shape)) for p in parameters.tensors]
        whole = [there if chunk is None else chunk for chunk, there in zip(chunks, absent, strict=True)]
        return cls(whole, torch.stack([chunk.squares().double().cpu() for chunk in whole], 1))

    def __len__(self) -> int:
        return len(self.squares)

    def repeated(self, count: int) -> "Gradient":
        """The first replicate, several times."""
        return Gradient([chunk.repeated(count) for chunk in self.chunks], self.squares[:1].expand(count, -1))

    def entries(self, places: Tensor, parameters: Parameters) -> Tensor:
        """Single entries of the vector, in ascending order: (C, len(places))."""
        found = []
        for chunk, part in zip(self.chunks, parameters.slices, strict=True):
            inside = places[(places >= part.start) & (places < part.stop)]
            if len(inside):
                found.append(chunk.entries(inside - part.start).cpu())
        return torch.cat(found, 1)


class GradientStream:
    """The gradients of one estimator on one minibatch.

    Arguments:
        centre: the reference gradient (P,), float64; zeros if there is none.
        projection: of the deviations from it.
    """

    def __init__(self, centre: Tensor, projection: Projection) -> None:
        self.count, self.project = 0, projection
        parts = projection.parameters.split(centre)
        self.tensors = [TensorStream(part, *signs) for part, signs in zip(parts, projection.signs, strict=True)]

    def add(self, gradient: Gradient) -> Figures:
        """Take in C replicates, all of them finite."""
        seen = [stream.add(chunk) for chunk, stream in zip(gradient.chunks, self.tensors, strict=True)]
        self.count += len(gradient)
        found = torch.stack([figures for figures, _ in seen], 1)  # (C, T, 3 + J)
        squares, along, apart = found[..., :3].unbind(2)
        offset, own, own_along = torch.stack([stream.offsets for stream in self.tensors], 1)  # (T,) each
        signed = found[..., 3:] + torch.stack([stream.signed_offset for stream in self.tensors])
        return Figures(
            along=along + offset,
            distances=(squares + 2 * apart + own).sum(1),
            projections=self.project.complete(signed, along + own_along),
            seen=[chunk for _, chunk in seen],
        )

    def moments(self) -> TensorMoments:
        """Of the gradient minus the reference."""
        parts = [stream.moments(self.count) for stream in self.tensors]
        whole = TensorMoments([len(mean) for mean, _ in parts])
        whole.count = self.count
        whole.mean, whole.squares = torch.cat([mean for mean, _ in parts]), torch.stack([s for _, s in parts])
        return whole


class TensorStream:
    """The gradients of one parameter tensor.

    Arguments:
        centre: its reference gradient, (O, I), float64.
        rows, columns: J pairs of signs, (J, O) and (J, I).
    """

    def __init__(self, centre: Tensor, rows: Tensor, columns: Tensor) -> None:
        self.centre, self.rows, self.columns = centre, rows, columns
        self.origin: Tensor | None = None  # (O, I)
        self.fixed: Tensor | None = None  # (2 + J, O, I), what deviations are multiplied with
        self.total = torch.zeros(())  # (O, I), float64, as is the next
        self.squares = torch.zeros(())

    def add(self, chunk: Chunk) -> tuple[Tensor, Chunk]:
        """Figures (C, 3 + J): squared distance from the origin, inner products; and the deviations."""
        if self.fixed is None:
            self._begin(chunk)
        assert self.fixed is not None
        seen = chunk if self.origin is None else Dense(chunk.dense().matrices - self.origin)
        squares = seen.squares()
        self.total += seen.total()
        self.squares += squares.double().sum()
        products = seen.against(self.fixed)
        if self.origin is None:
            products = torch.cat([products, -products, seen.signed(self.rows, self.columns)], 1)
        return torch.cat([squares.unsqueeze(1), products], 1).double().cpu(), seen

    def moments(self, count: int) -> tuple[Tensor, Tensor]:
        """Mean deviation from the reference, (n,), and the sum of squared distances from the mean, ()."""
        total = self.total.cpu()
        origin = 0 if self.origin is None else self.origin.double().cpu()
        mean = origin - self.centre + total / max(count, 1)
        squares = self.squares.cpu() - total.square().sum() / max(count, 1)
        return mean.expand_as(self.centre).flatten(), squares.clamp(min=0)

    def _begin(self, chunk: Chunk) -> None:
        """Choose the origin, and what every chunk is multiplied with."""
        if not _is_noisy(chunk):
            self.origin = chunk.repeated(1).dense().matrices[0].clone()
        like = chunk.left if isinstance(chunk, Factors) else chunk.values
        gap = -self.centre if self.origin is None else self.origin.double().cpu() - self.centre
        self.offsets = torch.stack(
            [((gap + self.centre) * self.centre).sum(), gap.square().sum(), (gap * self.centre).sum()]
        )
        self.signed_offset = Dense(gap.unsqueeze(0)).signed(self.rows.double(), self.columns.double())[0]
        self.rows, self.columns = self.rows.to(like), self.columns.to(like)
        fixed = self.centre.to(like).unsqueeze(0)
        if self.origin is not None:
            signs = self.rows.unsqueeze(2) * self.columns.unsqueeze(1)
            fixed = torch.cat([fixed, gap.to(like).unsqueeze(0), signs])
        self.fixed = fixed
        self.total = torch.zeros(self.centre.shape, dtype=torch.float64, device=like.device)
        self.squares = self.total.new_zeros(())


def _is_noisy(chunk: Chunk) -> bool:
    """Whether factors vary so much that no origin near them is needed."""
    if isinstance(chunk, Dense) or len(chunk) < 2:
        return False
    squares = chunk.squares().double().mean()
    return bool(squares - (chunk.total().double() / len(chunk)).square().sum() > NOISY * squares)
