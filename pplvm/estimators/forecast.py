"""The expected running time of a comparison, from one draw of each estimator and reference."""

from collections.abc import Mapping
from dataclasses import dataclass

from pplvm.estimators.references.minibatches import References
from pplvm.estimators.references.target import particles_of
from pplvm.estimators.replicates.drawing import Drawing
from pplvm.objectives.objective import Loss

__all__ = ["Forecast", "forecast_of"]


@dataclass(frozen=True)
class Forecast:
    """Numbers and seconds of replicates and references."""

    seconds: float  # one by one; graphs, where they pay, make it less
    replicates: int  # a minibatch, of each estimator
    minibatches: int
    estimators: int
    reference_draws: list[tuple[str, int]]  # a minibatch: what is drawn, and how often, for each target
    seconds_each: dict[str, float]  # of one gradient, by estimator
    particles: dict[str, int]  # of each estimator


def forecast_of(
    losses: Mapping[str, Loss], drawings: Mapping[str, Drawing], references: References, replicates: int
) -> Forecast:
    """The forecast for estimators and references that were drawn once.

    Arguments:
        replicates: of each estimator, a minibatch.
    """
    ahead = sum(drawing.seconds_ahead for drawing in drawings.values())
    return Forecast(
        seconds=ahead + references.seconds,
        replicates=replicates,
        minibatches=len(references.batches),
        estimators=len(losses),
        reference_draws=[(draw.source, draw.count) for draw in references.drawn],
        seconds_each={name: drawing.seconds_each for name, drawing in drawings.items()},
        particles={name: particles_of(loss) for name, loss in losses.items()},
    )
