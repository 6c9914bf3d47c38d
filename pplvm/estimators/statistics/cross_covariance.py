"""Cross-covariances between estimators that are drawn at the same seeds, as their replicates stream in.

    trace of the covariance of g and h = (sum <g - o, h - o'> - <S, S'> / N) / (N - 1),    S = sum (g - o)

with the origins o, o' that their streams have chosen (`pplvm.estimators.statistics.streams`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pplvm.estimators.replicates.chunks import Chunk, Dense
from pplvm.estimators.statistics.moments import CrossCovariance
from pplvm.estimators.statistics.streams import GradientStream

__all__ = ["CrossCovarianceStream"]


class CrossCovarianceStream:
    """Inner products between the gradient streams of E estimators.

    Arguments:
        streams: each has taken in all replicates that are added here, and no others.
    """

    def __init__(self, streams: Sequence[GradientStream]) -> None:
        self.streams = list(streams)
        self._products = torch.zeros(len(streams), len(streams), dtype=torch.float64)

    @property
    def count(self) -> int:
        return self.streams[0].count

    def add(self, seen: Sequence[Sequence[Chunk]]) -> None:
        """Add the deviations of the same replicates in each stream, by tensor."""
        if len(seen) > 1:
            for chunks in zip(*seen, strict=True):
                self._products += _inner_products(chunks).cpu()

    def drop(self, index: int) -> None:
        """Remove one of the estimators."""
        stay = [i for i in range(len(self.streams)) if i != index]
        self.streams, self._products = [self.streams[i] for i in stay], self._products[stay][:, stay]

    def moments(self) -> CrossCovariance:
        """The moments so far."""
        each = [stream.moments() for stream in self.streams]
        products = self._products.clone()
        for tensors in zip(*[stream.tensors for stream in self.streams], strict=True):
            totals = torch.stack([tensor.total.cpu().flatten() for tensor in tensors])  # (E, n)
            products -= totals @ totals.T / max(self.count, 1)
        products.diagonal().copy_(torch.stack([moments.squares.sum() for moments in each]))
        return CrossCovariance(torch.stack([moments.mean for moments in each]), products, self.count)


def _inner_products(chunks: Sequence[Chunk]) -> Tensor:
    """Inner products summed over replicates, (E, E); the diagonal only where it is cheap."""
    dense = [chunk.flat for chunk in chunks if isinstance(chunk, Dense)]
    found = torch.zeros(len(chunks), len(chunks), dtype=torch.float64, device=_device(chunks[0]))
    if len(dense) == len(chunks):
        at_once = max(1, AT_ONCE // (len(dense) * dense[0].shape[1]))
        for parts in zip(*[flat.split(at_once) for flat in dense], strict=True):
            stacked = torch.stack(parts, 1)  # (c, E, n)
            found += (stacked @ stacked.mT).double().sum(0)
        return found
    for i, one in enumerate(chunks):
        for j, other in enumerate(chunks[:i]):
            found[i, j] = found[j, i] = one.inner(other).double().sum()
    return found


AT_ONCE = 2**20
"""Entries that are copied side by side at a time: few enough to stay in a cache."""


def _device(chunk: Chunk) -> torch.device:
    return chunk.values.device if isinstance(chunk, Dense) else chunk.left.device
