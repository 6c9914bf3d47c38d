"""The moments of one estimator's gradients on one minibatch, against the reference gradient."""

import copy
import math

import torch
from torch import Tensor

from pplvm.distributed.object_collectives import all_gather_interleaved
from pplvm.estimators.parameters import SIDES, Parameters
from pplvm.estimators.references.tables import Reference
from pplvm.estimators.replicates.chunks import Chunk
from pplvm.estimators.replicates.gradient import Drawn
from pplvm.estimators.statistics.moments import Covariance, Moments, TensorMoments, over_ranks
from pplvm.estimators.statistics.projection import Projection
from pplvm.estimators.statistics.streams import GradientStream

__all__ = ["Measurement"]


class Measurement:
    """Streaming moments of one estimator on one minibatch."""

    def __init__(self, reference: Reference | None, parameters: Parameters, projection: Projection, kept: int) -> None:
        self.reference, self.parameters, self.project, self.kept = reference, parameters, projection, kept
        self.centre = (torch.zeros(parameters.size) if reference is None else reference.gradient).double()
        self.stream = GradientStream(self.centre, projection)
        self._merged: TensorMoments | None = None
        self._merged_spectrum: Moments | None = None
        self._length = self.centre.norm()
        self._towards = self._along_reference()
        self.projections = Covariance(projection.size)
        self.spread = Moments(1)  # of the squared distance to the reference
        self.alignment = Moments(2)  # with the reference, on the model's and the guide's side
        self.milliseconds: list[float] = []  # of the kept draws, as are the next
        self.cpu_milliseconds: list[float] = []
        self.records: list[dict[str, float]] = []
        self.entries: list[Tensor] = []

    @property
    def gradient(self) -> TensorMoments:
        """The moments of gradient minus reference."""
        return self._merged or self.stream.moments()

    @property
    def spectrum(self) -> Moments:
        """From triples of replicates: tr C^2 on each side, then tr C^3, C the covariance of one gradient."""
        return self._merged_spectrum or self.stream.spectrum

    @property
    def mean(self) -> Tensor:
        """The mean gradient, (P,), float64."""
        return self.gradient.mean + self.centre

    def add(self, drawn: Drawn, entries: Tensor) -> list[Chunk]:
        """Add C replicates; returns their deviations by tensor."""
        figures = self.stream.add(drawn.gradient)
        self.projections += Covariance.of(figures.projections)
        self.spread += Moments.of(figures.distances.unsqueeze(1))
        self.alignment += Moments.of(figures.along @ self._towards.T)
        if (room := self.kept - len(self.records)) > 0:
            norms = drawn.gradient.squares.sum(1).sqrt()
            cosines = figures.along.sum(1) / (norms * self._length)
            single = zip(drawn.losses.tolist(), norms.tolist(), cosines.tolist(), strict=True)
            records = [{"loss": loss, "grad_norm": norm, "cosine": cosine} for loss, norm, cosine in single]
            self.records += records[:room]
            self.milliseconds += drawn.milliseconds[:room]
            self.cpu_milliseconds += (drawn.cpu_milliseconds or [math.nan] * len(norms))[:room]
            self.entries += list(drawn.gradient.entries(entries, self.parameters)[:room])
        return figures.seen

    def over_ranks(self) -> "Measurement":
        """Merge what all ranks drew, milliseconds of each kept; a collective operation."""
        whole = copy.copy(self)
        whole._merged, whole.projections = over_ranks(self.gradient), over_ranks(self.projections)
        whole._merged_spectrum = over_ranks(self.spectrum)
        whole.spread, whole.alignment = over_ranks(self.spread), over_ranks(self.alignment)
        whole.milliseconds, whole.records = (
            all_gather_interleaved(self.milliseconds),
            all_gather_interleaved(self.records),
        )
        whole.cpu_milliseconds, whole.entries = (
            all_gather_interleaved(self.cpu_milliseconds),
            all_gather_interleaved(self.entries),
        )
        return whole

    def _along_reference(self) -> Tensor:
        """Weights of inner products with the reference, by tensor, on each side: (2, T).

        One over the squared norm of the reference there, which is freed of its own noise.
        """
        error = torch.zeros_like(self.centre) if self.reference is None else self.reference.error
        found = []
        for side in SIDES:
            inside = self.parameters.side(side)
            squared = self.centre[inside].square().sum() - error[inside].sum()
            of_side = self.parameters.tensors_of(side).double()
            found.append(of_side / squared if squared > 0 else torch.zeros_like(of_side))
        return torch.stack(found)
