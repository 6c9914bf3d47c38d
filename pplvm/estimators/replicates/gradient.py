"""Replicates of one estimator: C values of the loss and C gradients by parameter tensor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pplvm.estimators.parameters import Parameters
from pplvm.estimators.replicates.chunks import Chunk, Dense, Factors

__all__ = ["Drawn", "Gradient", "joined"]


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
        """From chunks; no replicate depends on a tensor without a chunk."""
        C = next((len(chunk) for chunk in chunks if chunk is not None), 1)
        absent = [Dense(p.detach().new_zeros(()).expand(C, *p.shape)) for p in parameters.tensors]
        whole = [there if chunk is None else chunk for chunk, there in zip(chunks, absent, strict=True)]
        return cls(whole, torch.stack([chunk.squares() for chunk in whole], 1).double().cpu())

    def __len__(self) -> int:
        return len(self.squares)

    def repeated(self, count: int) -> "Gradient":
        """The first replicate, repeated."""
        return Gradient([chunk.repeated(count) for chunk in self.chunks], self.squares[:1].expand(count, -1))

    def entries(self, places: Tensor, parameters: Parameters) -> Tensor:
        """Single entries of the vector, in ascending order: (C, len(places))."""
        found = []
        for chunk, part in zip(self.chunks, parameters.slices, strict=True):
            inside = places[(places >= part.start) & (places < part.stop)]
            if len(inside):
                found.append(chunk.entries(inside - part.start).cpu())
        return torch.cat(found, 1)


@dataclass(frozen=True)
class Drawn:
    """C replicates of one estimator."""

    losses: Tensor  # (C,)
    gradient: Gradient
    milliseconds: list[float]  # of each
    cpu_milliseconds: list[float] = field(default_factory=list)  # of each, of the process; empty if not known

    def repeated(self, count: int) -> "Drawn":
        """The first replicate, repeated; nothing is drawn or timed."""
        return Drawn(self.losses[:1].expand(count), self.gradient.repeated(count), [math.nan] * count)


def joined(parts: Sequence[Drawn]) -> Drawn:
    """Concatenate replicates of one estimator."""
    if len(parts) == 1:
        return parts[0]
    chunks = [_after_one_another(each) for each in zip(*[part.gradient.chunks for part in parts], strict=True)]
    squares = torch.cat([part.gradient.squares for part in parts])
    milliseconds = [each for part in parts for each in part.milliseconds]
    cpu = [each for part in parts for each in part.cpu_milliseconds or [math.nan] * len(part.milliseconds)]
    return Drawn(torch.cat([part.losses for part in parts]), Gradient(chunks, squares), milliseconds, cpu)


def _after_one_another(chunks: Sequence[Chunk]) -> Chunk:
    """Concatenate chunks of one tensor, all factors or all dense."""
    factors = [chunk for chunk in chunks if isinstance(chunk, Factors)]
    if len(factors) == len(chunks):
        left, inputs = torch.cat([chunk.left for chunk in factors]), [chunk.inputs for chunk in factors]
        is_shared = all(len(each) == 1 for each in inputs)
        right = inputs[0].expand(len(left), -1, -1) if is_shared else torch.cat([chunk.right for chunk in factors])
        return Factors(left, right)
    return Dense(torch.cat([chunk.dense().values for chunk in chunks]))
