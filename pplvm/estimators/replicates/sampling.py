"""How a comparison draws replicates: seeds, design of the noise, graphs."""

from dataclasses import dataclass
from typing import Any

from pplvm.estimators.replicates.designs import DESIGNS, PLAIN, Design
from pplvm.graphs.compiled import Tier

__all__ = ["Sampling", "replicate_seed"]


@dataclass(frozen=True)
class Sampling:
    """The seeds and designs with which all estimators are drawn.

    Arguments:
        seed: replicates of all estimators share the stream of (seed, minibatch, replicate).
        own_noise: whether estimators have streams of their own instead of common random numbers.
        design: of the noise of one replicate.
        tier: whether replicates are drawn through the estimators' graphs: "off", "graph", "inductor", or "auto", where
            that pays.

    Example:
        >>> print(Sampling.of(noise="antithetic", points=2))
        antithetic, 2 points a gradient, common to all estimators
    """

    seed: int = 0
    own_noise: bool = False
    design: Design = PLAIN
    tier: Tier = "auto"

    @classmethod
    def of(cls, *, noise: str = "independent", points: int = 1, compile: Tier = "auto", **seeds: Any) -> "Sampling":
        """From the options of `pplvm.compare_gradients`.

        Arguments:
            noise, points: a replicate is the mean over so many points of "independent", "antithetic" or "sobol" noise.
            compile: the tier.
            seeds: `seed` and `own_noise`.

        Raises:
            ValueError: there is no such design, or it takes no such number of points.
        """
        if noise not in DESIGNS:
            raise ValueError(f"noise must be one of {', '.join(DESIGNS)}, got {noise!r}")
        return cls(design=DESIGNS[noise](points), tier=compile, **seeds)

    def seed_of(self, minibatch: int, draw: int, estimator: int = 0) -> int:
        """The seed of one replicate; replicate -1 is the minibatch's reference."""
        return replicate_seed(self.seed, minibatch, draw, estimator if self.own_noise else 0)

    def __str__(self) -> str:
        points = "" if self.design.is_plain else f", {self.design.points} points a gradient"
        whose = "each estimator its own" if self.own_noise else "common to all estimators"
        return f"{self.design.name}{points}, {whose}"


def replicate_seed(seed: int, minibatch: int, draw: int, own: int = 0) -> int:
    """The seed of one replicate.

    Arguments:
        own: a number that sets those of an estimator apart, where noise is not shared.
    """
    return (((seed * 1_000_003 + minibatch) * 1_000_003 + draw + 1) + own * 998_244_353 * 1_000_003) % 2**63
