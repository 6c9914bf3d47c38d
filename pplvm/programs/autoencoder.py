"""Variational autoencoders composed of parts: any encoder, decoder, prior, posterior and likelihood.

p(z) = prior,   p(x | z) = likelihood(decoder(z)),   q(z | x) = posterior(encoder(x))
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.programs.parts import diagonal_normal

__all__ = ["Autoencoder", "ComposedVAE"]


class Autoencoder(nn.Module, ABC):
    """Model and guide of one latent z, whose three distributions a child makes from parts of its own.

    What makes q(z | x) runs once a datum, on x (B, *shape); what makes p(x | z) on every particle, (K, B, Z), so that
    its layers take any number of leading dimensions (`LeadingDims` makes those that do not).
    """

    def model(self, x: Tensor, *conditions: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", self._prior(*conditions))  # (K, B, Z)
            p_x = self._likelihood(z, *conditions)
            pyro.sample("x", p_x, obs=self._shaped(x, p_x.event_shape))

    def guide(self, x: Tensor, *conditions: Tensor) -> None:
        q_z = self._posterior(x, *conditions)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", q_z)

    @abstractmethod
    def _prior(self, *conditions: Tensor) -> dist.TorchDistribution:
        """p(z), or p(z | y)."""

    @abstractmethod
    def _likelihood(self, z: Tensor, *conditions: Tensor) -> dist.TorchDistribution:
        """p(x | z), its event one datum."""

    @abstractmethod
    def _posterior(self, x: Tensor, *conditions: Tensor) -> dist.TorchDistribution:
        """q(z | x)."""

    def _shaped(self, x: Tensor, shape: torch.Size) -> Tensor:
        """The data as the likelihood has them: flattened, or with the channel that they were stored without."""
        if x[:1].numel() != len(x[:1]) * shape.numel():
            raise ValueError(
                f"{type(self).__name__}: the likelihood is one of data of shape {tuple(shape)}, and these have shape "
                f"{tuple(x.shape[1:])}: give it a decoder of their size, and its event as many dimensions (.to_event)"
            )
        return x.reshape(len(x), *shape)


class ComposedVAE(Autoencoder):
    """A variational autoencoder of the parts that it is given; `VAE` is the one of dense networks.

    Arguments:
        encoder: x (B, *shape) to the parameters of q(z | x), what `posterior` takes.
        decoder: z (..., *event) to the parameters of p(x | z), what `likelihood` takes.
        likelihood: these to a distribution whose event is one datum: `bernoulli`, `GaussianLikelihood()`, ...
        prior: called, gives a distribution whose event is one z: `StandardNormal(Z)`, ...
        posterior: the encoder's output to a distribution over z: `diagonal_normal`, ...

    With conditions, as model(x, y) and guide(x, y), those are called as encoder(x, y), decoder(z, y) and prior(y) which
    take y. A part with parameters is an nn.Module; functions and lambdas serve for those without.

    Raises:
        TypeError: a part cannot be called.
        ValueError: in model(x), data are not of the likelihood's size; in model(x, y), no part takes y.

    Example:
        >>> import torch
        >>> from pplvm.networks.dense import MLP
        >>> from pplvm.programs.parts import StandardNormal, bernoulli
        >>> program = ComposedVAE(MLP(6, 4), MLP(2, 6), likelihood=bernoulli, prior=StandardNormal(2))
        >>> program.guide(torch.zeros(3, 6))

    References:
        Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114
        Sohn, Yan and Lee, Learning structured output representation using deep conditional generative models, 2015
    """

    encoder: Callable[..., Any]
    decoder: Callable[..., Any]
    likelihood: Callable[[Any], dist.TorchDistribution]
    prior: Callable[..., dist.TorchDistribution]
    posterior: Callable[[Any], dist.TorchDistribution]

    def __init__(
        self,
        encoder: Callable[..., Any],
        decoder: Callable[..., Any],
        likelihood: Callable[[Any], dist.TorchDistribution],
        prior: Callable[..., dist.TorchDistribution],
        posterior: Callable[[Any], dist.TorchDistribution] = diagonal_normal,
    ) -> None:
        super().__init__()
        parts = {
            "encoder": encoder,
            "decoder": decoder,
            "likelihood": likelihood,
            "prior": prior,
            "posterior": posterior,
        }
        for name, part in parts.items():
            if not callable(part):
                raise TypeError(f"ComposedVAE: {name} must be a module or a function, got {part!r}")
            setattr(self, name, part)

    def _prior(self, *conditions: Tensor) -> dist.TorchDistribution:
        if conditions and not any(
            _places(part) > own for part, own in ((self.encoder, 1), (self.decoder, 1), (self.prior, 0))
        ):
            raise ValueError(
                "ComposedVAE: the data have conditions, and no part takes them: let the encoder, the decoder or the "
                "prior have a further argument, such as forward(self, z, y)"
            )
        return _given(self.prior, (), conditions)

    def _likelihood(self, z: Tensor, *conditions: Tensor) -> dist.TorchDistribution:
        return self.likelihood(_given(self.decoder, (z,), conditions))

    def _posterior(self, x: Tensor, *conditions: Tensor) -> dist.TorchDistribution:
        return self.posterior(_given(self.encoder, (x,), conditions))


def _given(part: Callable[..., Any], inputs: tuple[Tensor, ...], conditions: tuple[Tensor, ...]) -> Any:
    """Call a part with its inputs and as many conditions as it takes."""
    if not conditions:
        return part(*inputs)
    return part(*inputs, *conditions[: max(0, _places(part) - len(inputs))])


def _places(part: Callable[..., Any]) -> int:
    """Positional arguments that a part takes, a module's own forward if it is one."""
    taken = inspect.signature(part.forward if isinstance(part, nn.Module) else part).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in taken):
        return 2**31
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in taken)
