"""What streams in from one gradient estimator, and whether its mean is where it should be."""

import copy

import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.evaluation.estimators.bias import BiasTest, bias_test
from pplvm.evaluation.estimators.moments import Covariance, Moments, over_ranks
from pplvm.evaluation.estimators.parameters import Parameters
from pplvm.evaluation.estimators.reference import Reference, Target
from pplvm.objectives.objective import Loss
from pplvm.objectives.targets import UNKNOWN, Tabulated
from pplvm.tempering import TemperedBound
from pplvm.unison import in_order

__all__ = ["Measurement", "Projection", "pooled_bias", "target_of"]


class Measurement:
    """What streams in from one estimator on one minibatch."""

    def __init__(
        self, reference: Reference | None, parameters: Parameters, projection: "Projection", kept: int
    ) -> None:
        self.reference, self.parameters, self.project, self.kept = reference, parameters, projection, kept
        size = parameters.size
        self.centre = (torch.zeros(size) if reference is None else reference.gradient).double()
        self._length = self.centre.norm()
        self._towards = self._along_reference()
        self.gradient = Moments(size)  # of the gradient minus the reference
        self.projections = Covariance(projection.size)
        self.spread = Moments(1)  # of the squared distance to the reference
        self.alignment = Moments(2)  # with the reference, on the model's and the guide's side
        self.milliseconds: list[float] = []  # of the kept draws, as are the next
        self.records: list[dict[str, float]] = []
        self.entries: list[Tensor] = []

    @property
    def mean(self) -> Tensor:
        """The mean gradient, (P,), float64."""
        return self.gradient.mean + self.centre

    def add(self, loss: float, gradient: Tensor, milliseconds: float, entries: Tensor) -> Tensor:
        """Take in one replicate gradient (P,); its deviation from the reference (P,), float64."""
        self._last = (loss, gradient, milliseconds, entries)
        drawn = gradient.double()
        deviation = drawn - self.centre
        self.gradient.add(deviation)
        self.projections.add(self.project(deviation))
        self.spread.add(deviation.square().sum().reshape(1))
        self.alignment.add(self._towards @ drawn)
        if len(self.records) < self.kept:
            norm = drawn.norm()
            cosine = torch.dot(drawn, self.centre) / (norm * self._length)
            self.milliseconds.append(milliseconds)
            self.records.append({"loss": loss, "grad_norm": float(norm), "cosine": float(cosine)})
            self.entries.append(gradient[entries])
        return deviation

    def repeat(self) -> Tensor:
        """Take in the last draw once more, for an objective without noise."""
        return self.add(*self._last)

    def over_ranks(self) -> "Measurement":
        """With what the other ranks drew; milliseconds are those of the rank that drew. Called by all ranks alike."""
        whole = copy.copy(self)
        whole.gradient, whole.projections = over_ranks(self.gradient), over_ranks(self.projections)
        whole.spread, whole.alignment = over_ranks(self.spread), over_ranks(self.alignment)
        whole.milliseconds, whole.records = in_order(self.milliseconds), in_order(self.records)
        whole.entries = in_order(self.entries)
        return whole

    def _along_reference(self) -> Tensor:
        """Each side of the reference over its squared norm, which is freed of its own noise: (2, P)."""
        error = torch.zeros_like(self.centre) if self.reference is None else self.reference.error
        found = []
        for side in ("model", "guide"):
            inside = self.parameters.side(side)
            squared = self.centre[inside].square().sum() - error[inside].sum()
            found.append(self.centre * inside / squared if squared > 0 else torch.zeros_like(self.centre))
        return torch.stack(found)


class Projection:
    """Random signed sums of each parameter tensor's entries: the few numbers in which bias is sought.

    Arguments:
        count: J, sums per tensor.
        seed: of the signs.
    """

    def __init__(self, parameters: Parameters, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (count, parameters.size), generator=generator)
        self.directions, self.slices = (signs * 2 - 1).double(), parameters.slices

    @property
    def size(self) -> int:
        return len(self.directions) * len(self.slices)

    def along(self, gradient: Tensor) -> "Projection":
        """The same, but for one sum per tensor that is along a known gradient, where shrinking shows first."""
        towards = copy.copy(self)
        towards.directions = self.directions.clone()
        for part in self.slices:
            size = gradient[part].square().mean().sqrt()
            if size > 0:
                towards.directions[0, part] = gradient[part] / size
        return towards

    def __call__(self, vector: Tensor) -> Tensor:
        """(P,) to (J x tensors,)."""
        signed = self.directions * vector  # (J, P)
        return torch.cat([signed[:, part].sum(1) for part in self.slices])


def pooled_bias(found: list[Measurement], alpha: float) -> BiasTest | None:
    """The bias test of one estimator over its minibatches; None without a reference."""
    references = [m.reference for m in found if m.reference is not None]
    if len(references) < len(found):
        return None
    M = len(found)
    parts = [(m.projections.matrix / m.gradient.count / M**2, m.projections.freedom) for m in found]
    for reference in references:
        if reference.projected is not None:
            drawn = Covariance(reference.projected.shape[1])
            for projected in reference.projected:
                drawn.add(projected)
            parts.append((drawn.matrix / drawn.count / M**2, drawn.freedom))
    covariance = torch.stack([matrix for matrix, _ in parts]).sum(0)
    return bias_test(
        mean=torch.stack([m.projections.mean for m in found]).mean(0),
        covariance=covariance,
        draws=_freedom(parts, covariance) + 1,
        gradient=torch.stack([_reference_of(side, found) for side in ("model", "guide")]),
        alpha=alpha,
    )


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


PYROS_ELBOS = (Trace_ELBO, TraceMeanField_ELBO, TraceEnum_ELBO)
