"""The bias of one estimator pooled over minibatches, tested by projections and by the norm."""

import torch
from torch import Tensor

from pplvm.estimators.measurements.measurement import Measurement
from pplvm.estimators.parameters import SIDES
from pplvm.estimators.statistics.bias import BiasNorm, BiasTest, bias_test, principal, with_norms
from pplvm.estimators.statistics.moments import Covariance, Moments
from pplvm.estimators.statistics.squared_norm import MeanNoise

__all__ = ["pooled_bias"]


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
    """The bias of one side by its squared norm; None for a side without gradient or noise.

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
    """The fewest degrees of freedom, over coordinates, of a sum of covariances (Welch and Satterthwaite)."""
    spent = torch.stack([matrix.diagonal().square() / freedom for matrix, freedom in parts]).sum(0)
    varies = spent > 0
    if not varies.any():
        return sum(int(freedom.min()) for _, freedom in parts)
    return int((whole.diagonal().square() / spent)[varies].min())


def _reference_of(side: str, found: list[Measurement]) -> Tensor:
    """Projections of the mean reference gradient on one side."""
    return torch.stack([m.project(m.centre.double() * m.parameters.side(side)) for m in found]).mean(0)
