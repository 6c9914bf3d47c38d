"""What streams in from one gradient estimator, and whether its mean is where it should be."""

import torch
from torch import Tensor

from pplvm.bounds import elbo
from pplvm.evaluation.bias import BiasTest, bias_test
from pplvm.evaluation.moments import Covariance, Moments
from pplvm.evaluation.parameters import Parameters
from pplvm.evaluation.reference import Reference, Target
from pplvm.objectives.objective import Loss

__all__ = ["Measurement", "pooled_bias", "target_of"]


class Measurement:
    """What streams in from one estimator on one minibatch."""

    def __init__(self, reference: Reference | None, parameters: Parameters, directions: Tensor, kept: int) -> None:
        self.reference, self.parameters, self.kept = reference, parameters, kept
        size = parameters.size
        self.centre = torch.zeros(size) if reference is None else reference.gradient
        self.gradient = Moments(size)  # of the gradient minus the reference
        self.directions = torch.cat([self._along_reference(directions[:1]), directions[1:]])
        self.projections = Covariance(directions.shape[0] * len(parameters.names))
        self.spread = Moments(1)  # of the squared distance to the reference
        self.alignment = Moments(2)  # with the reference, on the model's and the guide's side
        self.cosine = Moments(1)
        self.milliseconds: list[float] = []  # of the kept draws, as are the next
        self.records: list[dict[str, float]] = []
        self.entries: list[Tensor] = []

    @property
    def mean(self) -> Tensor:
        """The mean gradient, (P,), float64."""
        return self.gradient.mean + self.centre

    def add(self, loss: float, gradient: Tensor, milliseconds: float, entries: Tensor) -> None:
        """Take in one replicate gradient (P,)."""
        self._last = (loss, gradient, milliseconds, entries)
        deviation = (gradient - self.centre).double()
        self.gradient.add(deviation)
        self.projections.add(self.project(deviation))
        self.spread.add(deviation.square().sum().reshape(1))
        norm = gradient.double().norm()
        cosine = torch.dot(gradient.double(), self.centre.double()) / (norm * self.centre.double().norm())
        self.cosine.add(cosine.nan_to_num().reshape(1))
        self.alignment.add(self._aligned(gradient.double()))
        if len(self.records) < self.kept:
            self.milliseconds.append(milliseconds)
            self.records.append({"loss": loss, "grad_norm": float(norm), "cosine": float(cosine)})
            self.entries.append(gradient[entries])

    @property
    def is_constant(self) -> bool:
        """Ten draws that were all the same, as of an objective without noise."""
        return self.gradient.count >= 10 and float(self.spread.variance) == 0

    def repeat(self) -> None:
        """Take in the last draw once more, for an objective without noise."""
        self.add(*self._last)

    def _along_reference(self, otherwise: Tensor) -> Tensor:
        """Each tensor's own reference gradient as a direction, (1, P): where a shrunken gradient shows first."""
        direction = otherwise.clone()
        for part in self.parameters.slices:
            size = self.centre[part].double().square().mean().sqrt()
            if size > 0:
                direction[0, part] = self.centre[part].double() / size
        return direction

    def project(self, vector: Tensor) -> Tensor:
        """Of each parameter tensor: the part along the reference and random signed sums, (J x tensors,)."""
        signed = self.directions * vector  # (J, P)
        return torch.cat([signed[:, part].sum(1) for part in self.parameters.slices])

    def _aligned(self, gradient: Tensor) -> Tensor:
        sides = [self.parameters.side(side) for side in ("model", "guide")]
        centre = self.centre.double()
        return torch.stack([torch.dot(gradient[s], centre[s]) / centre[s].square().sum() for s in sides]).nan_to_num(
            posinf=0.0, neginf=0.0
        )


def pooled_bias(found: list[Measurement], alpha: float) -> BiasTest | None:
    """The bias test of one estimator over its minibatches; None without a reference."""
    references = [m.reference for m in found if m.reference is not None]
    if len(references) < len(found):
        return None
    M = len(found)
    covariance = torch.stack([m.projections.matrix / m.gradient.count for m in found]).sum(0) / M**2
    for m, reference in zip(found, references, strict=True):
        if reference.draws is not None:
            projected = torch.stack([m.project(d.double()) for d in reference.draws])
            covariance = covariance + torch.cov(projected.T) / len(projected) / M**2
    return bias_test(
        mean=torch.stack([m.projections.mean for m in found]).mean(0),
        covariance=covariance,
        draws=sum(m.gradient.count - 1 for m in found) + 1,
        gradient=torch.stack([_reference_of(side, found) for side in ("model", "guide")]),
        alpha=alpha,
    )


def _reference_of(side: str, found: list[Measurement]) -> Tensor:
    """Projections of the mean reference gradient, one side of it."""
    return torch.stack([m.project(m.centre.double() * m.parameters.side(side)) for m in found]).mean(0)


def target_of(loss: Loss) -> Target:
    """What a loss estimates, and with how many particles; Pyro's own estimate the elbo."""
    kind = getattr(loss.objective, "target", elbo)
    return kind, 1 if kind is elbo or isinstance(kind, str) else loss.objective.num_particles
