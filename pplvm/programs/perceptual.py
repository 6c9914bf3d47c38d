"""A penalty on how unlike the data a program's reconstructions look, beside any program of data x."""

from collections.abc import Callable
from typing import Any

import pyro
from pyro import poutine
from torch import Tensor, nn

__all__ = ["Perceptual"]


class Perceptual(nn.Module):
    """A program whose guide tells the perceptual distance of the data and their reconstruction, as a penalty.

        perceptual_b = distance(x_b, E[x | z_b]),     z_b ~ q(z | x_b)

    It is the deterministic site "perceptual", which `Penalized(objective, {"perceptual": weight})` alone minimises, or
    `--penalty perceptual=WEIGHT`. It enters no bound and no likelihood: both are the program's own, and what a
    program that looks better is worth as a model of the data is still its log p(x).

    The reconstruction is the mean of the model's observed site given the guide's latents: the model is run in the
    guide, once more than without.

    Arguments:
        program: with methods model and guide; all its latents have values in the guide.
        distance: flattened data (B, D) and reconstructions (K, B, D) to one number a pair, as `FeatureDistance`.
        observed: the name of the observed site.

    Raises:
        TypeError: program is no program.
        ValueError: in the guide, the model has no observed site of that name, or its distribution has no mean.

    Example:
        >>> import torch
        >>> from pplvm.networks.classifier import ImageClassifier
        >>> from pplvm.networks.feature_distance import FeatureDistance
        >>> from pplvm.objectives.objective import Loss
        >>> from pplvm.objectives.pathwise import AnalyticKL
        >>> from pplvm.objectives.penalized import Penalized
        >>> from pplvm.programs.vae import VAE
        >>> distance = FeatureDistance(ImageClassifier((1, 8, 8), num_classes=10).features)
        >>> program = Perceptual(VAE(64), distance)
        >>> loss = Loss(Penalized(AnalyticKL(), {"perceptual": 10.0}), program)
        >>> loss(torch.zeros(3, 64)).backward()

    References:
        Hou, Shen, Sun and Qiu, Deep feature consistent variational autoencoder, 2017, arXiv:1610.00291
        Esser, Rombach and Ommer, Taming transformers for high-resolution image synthesis, 2021, arXiv:2012.09841
    """

    def __init__(self, program: nn.Module, distance: Callable[[Tensor, Tensor], Tensor], observed: str = "x") -> None:
        super().__init__()
        if not isinstance(program, nn.Module) or not all(callable(getattr(program, n, None)) for n in ROLES):
            raise TypeError(
                f"Perceptual: {type(program).__name__} is no program: an nn.Module with model(x) and guide(x)"
            )
        self.program, self.distance, self.observed = program, distance, observed

    def model(self, *args: Any) -> None:
        self.program.model(*args)  # pyright: ignore[reportCallIssue]

    def guide(self, *args: Any) -> None:
        with poutine.trace() as drawn:
            self.program.guide(*args)  # pyright: ignore[reportCallIssue]
        with poutine.block(), poutine.trace() as rerun, poutine.replay(trace=drawn.trace):
            self.program.model(*args)  # pyright: ignore[reportCallIssue]
        pyro.deterministic("perceptual", self.distance(args[0].flatten(1), self._reconstruction(rerun.trace.nodes)))

    @property
    def default_objective(self) -> str | None:
        """The program's own."""
        return getattr(self.program, "default_objective", None)

    @property
    def default_penalties(self) -> dict[str, float]:
        """The program's own; the weight of "perceptual" is to be named."""
        return dict(getattr(self.program, "default_penalties", {}))

    def _reconstruction(self, sites: Any) -> Tensor:
        """The mean of the observed site, flattened, (K, B, D)."""
        if self.observed not in sites or not sites[self.observed]["is_observed"]:
            raise ValueError(
                f"Perceptual: {type(self.program).__name__} has no observed site {self.observed!r}: name it, as "
                "Perceptual(program, distance, observed='x')"
            )
        fn = sites[self.observed]["fn"]
        try:
            mean = fn.mean
        except NotImplementedError as error:
            raise ValueError(
                f"Perceptual: the distribution of site {self.observed!r}, {type(fn).__name__}, has no mean, which is "
                "what is compared to the data: give the program a likelihood that has one"
            ) from error
        return mean.reshape(*mean.shape[: mean.dim() - len(fn.event_shape)], -1)


ROLES = ("model", "guide")
