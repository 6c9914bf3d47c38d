"""What streams in from one gradient estimator, and whether its mean is where it should be."""

import copy
import math
from dataclasses import dataclass, field

import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.distributed.unison import in_order
from pplvm.estimators.parameters import SIDES, Parameters
from pplvm.estimators.references.reference import Reference, Target
from pplvm.estimators.replicates.chunks import Chunk
from pplvm.estimators.statistics.bias import BiasNorm, BiasTest, bias_test, principal, with_norms
from pplvm.estimators.statistics.moments import Covariance, Moments, TensorMoments, over_ranks
from pplvm.estimators.statistics.projection import Projection
from pplvm.estimators.statistics.squared_norm import MeanNoise
from pplvm.estimators.statistics.streams import Gradient, GradientStream
from pplvm.objectives.objective import Loss
from pplvm.objectives.targets import UNKNOWN, Tabulated
from pplvm.objectives.tempered_bound import TemperedBound

__all__ = ["Drawn", "Measurement", "particles_of", "pooled_bias", "target_of"]


@dataclass(frozen=True)
class Drawn:
    """C replicates of one estimator."""

    losses: Tensor  # (C,)
    gradient: Gradient
    milliseconds: list[float]  # of each
    cpu_milliseconds: list[float] = field(default_factory=list)  # of each, of the process; empty if not known

    def repeated(self, count: int) -> "Drawn":
        """The first replicate, several times; nothing is drawn and nothing timed."""
        return Drawn(self.losses[:1].expand(count), self.gradient.repeated(count), [math.nan] * count)


class Measurement:
    """What streams in from one estimator on one minibatch."""

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
        """Of the gradient minus the reference."""
        return self._merged or self.stream.moments()

    @property
    def spectrum(self) -> Moments:
        """Of triples of replicates: tr C^2 on each side, then tr C^3, C the covariance of one gradient."""
        return self._merged_spectrum or self.stream.spectrum

    @property
    def mean(self) -> Tensor:
        """The mean gradient, (P,), float64."""
        return self.gradient.mean + self.centre

    def add(self, drawn: Drawn, entries: Tensor) -> list[Chunk]:
        """Take in C replicates; what the stream made of them, by tensor."""
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
        """With what the other ranks drew; milliseconds are those of the rank that drew. Called by all ranks alike."""
        whole = copy.copy(self)
        whole._merged, whole.projections = over_ranks(self.gradient), over_ranks(self.projections)
        whole._merged_spectrum = over_ranks(self.spectrum)
        whole.spread, whole.alignment = over_ranks(self.spread), over_ranks(self.alignment)
        whole.milliseconds, whole.records = in_order(self.milliseconds), in_order(self.records)
        whole.cpu_milliseconds, whole.entries = in_order(self.cpu_milliseconds), in_order(self.entries)
        return whole

    def _along_reference(self) -> Tensor:
        """What inner products with the reference, by tensor, count on each side: (2, T).

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


def pooled_bias(found: list[Measurement], alpha: float, doubt: float) -> BiasTest | None:
    """The bias test of one estimator over its minibatches; None without a reference.

    Arguments:
        alpha: the chance of calling an unbiased estimator biased, by either test.
        doubt: the chance of not calling it unbiased because of its mean.
    """
    references = [m.reference for m in found if m.reference is not None]
    if len(references) < len(found):
        return None
    M = len(found)
    parts = [(m.projections.matrix / m.projections.count / M**2, m.projections.freedom) for m in found]
    for reference in references:
        if reference.projected is not None:
            drawn = Covariance(reference.projected.shape[1])
            for projected in reference.projected:
                drawn.add(projected)
            parts.append((drawn.matrix / drawn.count / M**2, drawn.freedom))
    covariance = torch.stack([matrix for matrix, _ in parts]).sum(0)
    freedom = _freedom(parts, covariance)
    test = bias_test(
        mean=torch.stack([m.projections.mean for m in found]).mean(0),
        covariance=covariance,
        draws=freedom + 1,
        gradient=torch.stack([_reference_of(side, found) for side in SIDES]),
        alpha=(1 - OF_NORM) * alpha,
        singular=principal(sum(m.projections.count for m in found)),
    )
    norms = [norm for side in SIDES if (norm := _norm_of(side, found, freedom)) is not None]
    return with_norms(test, norms, OF_NORM * alpha, doubt / 2)


OF_NORM = 0.1
"""Share of alpha that goes to the norms; the other test hardly sees less for it, a bias of 1.002 for 1."""


def _norm_of(side: str, found: list[Measurement], freedom: int) -> BiasNorm | None:
    """The bias of one side by its squared norm; None where the side has no gradient or no noise.

    Norms of covariances add up to at least that of their sum; of a reference that is itself an estimate only the
    trace is known, which bounds its norm.
    """
    M, inside, place = len(found), found[0].parameters.side(side), SIDES.index(side)
    length = float(torch.stack([m.centre for m in found]).mean(0)[inside].norm())
    trace = frobenius = cubes = 0.0
    for m in found:
        of_draws = float(m.gradient.error[m.parameters.tensors_of(side)].sum()) / M**2
        of_reference = 0.0 if m.reference is None else float(m.reference.error[inside].sum()) / M**2
        square, cube = _spectrum_of(m.spectrum, place, of_draws * M**2 * m.gradient.count)
        trace += of_draws + of_reference
        frobenius += square**0.5 / m.gradient.count / M**2 + of_reference
        cubes += cube ** (1 / 3) / m.gradient.count / M**2 + of_reference
    if not length or not frobenius:
        return None
    squared = float(torch.stack([m.gradient.mean for m in found]).mean(0)[inside].square().sum())
    return BiasNorm(squared - trace, length, MeanNoise(trace, frobenius, min((cubes / frobenius) ** 3, 1.0), freedom))


def _spectrum_of(spectrum: Moments, place: int, trace: float) -> tuple[float, float]:
    """Tr C^2 and tr C^3 of one side, a standard error above their estimates, and no more than the trace allows."""
    if spectrum.count < FEWEST_TRIPLES:
        return trace**2, trace**3
    above = (spectrum.mean + spectrum.standard_error).clamp(min=0)
    square = min(float(above[place]), trace**2)
    return square, min(float(above[place + len(SIDES)]), square**1.5)


FEWEST_TRIPLES = 4
"""Triples of replicates that tell of a covariance; with fewer, all noise is taken to be in one direction."""


def _freedom(parts: list[tuple[Tensor, Tensor]], whole: Tensor) -> int:
    """Degrees of freedom of a sum of covariances, the fewest over coordinates (Welch and Satterthwaite)."""
    spent = torch.stack([matrix.diagonal().square() / freedom for matrix, freedom in parts]).sum(0)
    varies = spent > 0
    if not varies.any():
        return sum(int(freedom.min()) for _, freedom in parts)
    return int((whole.diagonal().square() / spent)[varies].min())


def _reference_of(side: str, found: list[Measurement]) -> Tensor:
    """Projections of the mean reference gradient, one side of it."""
    return torch.stack([m.project(m.centre.double() * m.parameters.side(side)) for m in found]).mean(0)


def target_of(loss: Loss) -> Target:
    """What a loss estimates, and with how many particles; without a word of its own, Pyro's own the elbo."""
    known = elbo if isinstance(loss.objective, PYROS_ELBOS) else UNKNOWN
    kind = getattr(loss.objective, "target", known)
    bound = kind.bound if isinstance(kind, TemperedBound) else kind
    return kind, 1 if bound is elbo or isinstance(kind, Tabulated) else loss.objective.num_particles


def particles_of(loss: Loss) -> int:
    """How many particles a loss draws; 1 of an objective that has none."""
    return getattr(loss.objective, "num_particles", 1)


PYROS_ELBOS = (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO)
