"""The variational autoencoder, composed of encoder, decoder, prior and likelihood.

p(z) = prior,   p(x | z) = likelihood(decoder(z)),   q(z | x) = encoder(x)
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.networks.dense import MLP, activation_named
from pplvm.programs.conditions import given, require_taken, shaped
from pplvm.programs.likelihoods import BernoulliOutputs, GaussianOutputs, Likelihood, likelihood_named, start_at
from pplvm.programs.parts import bernoulli, diagonal_normal, gaussian
from pplvm.programs.sizes import require_dense_sizes

__all__ = ["VAE"]


class VAE(nn.Module):
    """A variational autoencoder of the parts that it is given; parts that are left out are dense, of these sizes.

    Arguments:
        data_size: D, the size of one flattened datum; of the dense networks only.
        latent_size: Z, of the dense networks and the standard normal prior.
        hidden_sizes: of the dense encoder; the dense decoder has them in reverse.
        likelihood: the decoder's output to a distribution whose event is one datum, as those of `pplvm.programs.parts`;
            or by name, of flattened data: "bernoulli" for {0, 1}, "gaussian" (one learned scale) for real data,
            "discretized-logistic" for grey data k / (levels - 1).
        data_mean: (D,), the mean of the training data, from which the dense decoder's bias starts.
        activation: of the hidden layers, "softplus", "elu" or "tanh" (Burda et al.: hidden_sizes 200 and 200, Z = 50).
        levels: of grey data.
        encoder: x (B, *shape) to a distribution over z, or to loc and log scale of a diagonal normal, (B, 2 Z); it runs
            once a datum.
        decoder: z (..., *event of z) to what `likelihood` takes, for any number of leading dimensions (`LeadingDims`).
        prior: called, gives a distribution whose event is one z; N(0, I) unless given.

    With conditions, as model(x, y) and guide(x, y), those of encoder(x, y), decoder(z, y) and prior(y) which take y are
    given it; an option such as temperature=1.0 takes none. A part with parameters is an nn.Module; functions serve for
    those without.

    Raises:
        TypeError: a part cannot be called.
        ValueError: likelihood or activation has another name; data_size is needed, or data_mean has no use; in
            model(x), data are not of the likelihood's size, or a part needs y; in model(x, y), no part takes y.

    Example:
        >>> from pplvm.programs.parts import StandardNormal
        >>> dense = VAE(data_size=6, latent_size=2, hidden_sizes=(5,))
        >>> deep = VAE(encoder=MLP(6, 4), decoder=MLP(2, 6), likelihood=bernoulli, prior=StandardNormal(2))
        >>> deep.guide(torch.zeros(3, 6))

    References:
        Kingma and Welling, Auto-encoding variational Bayes, 2014, arXiv:1312.6114
        Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, 2016, arXiv:1509.00519
        Sohn, Yan and Lee, Learning structured output representation using deep conditional generative models, 2015
    """

    zeros: Tensor

    def __init__(
        self,
        data_size: int | None = None,
        latent_size: int = 16,
        hidden_sizes: Sequence[int] = (200,),
        likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"]
        | Callable[[Any], dist.TorchDistribution] = "bernoulli",
        data_mean: Tensor | None = None,
        activation: Literal["softplus", "tanh", "elu"] = "softplus",
        *,
        levels: int | None = None,
        encoder: Callable[..., Any] | None = None,
        decoder: Callable[..., Any] | None = None,
        prior: Callable[..., dist.TorchDistribution] | None = None,
    ) -> None:
        super().__init__()
        require_dense_sizes("VAE", latent_size, hidden_sizes)
        named = likelihood_named(likelihood, data_size or 0, levels) if isinstance(likelihood, str) else None
        if data_size is None and (encoder is None or decoder is None):
            raise ValueError("VAE: give data_size, of which dense networks are made, or both an encoder and a decoder")
        if data_size is None and not isinstance(named, BernoulliOutputs | GaussianOutputs | None):
            raise ValueError(f"VAE: give data_size, by which likelihood {likelihood!r} reads the decoder's outputs")
        if data_mean is not None and (decoder is not None or named is None):
            raise ValueError(
                "VAE: data_mean is where the dense decoder of a likelihood by name starts: leave it out beside a "
                "decoder or likelihood of your own"
            )
        self._flattens = encoder is None
        D, layer = data_size or 0, activation_named(activation)
        self.encoder = MLP(D, 2 * latent_size, hidden_sizes, layer) if encoder is None else encoder
        if decoder is None:
            decoder = MLP(latent_size, named.output_size if named else D, hidden_sizes[::-1], layer)
            if named:
                start_at(decoder.last, named, data_mean)
        self.decoder = decoder
        self.likelihood: Any = self._preset(named) if named else likelihood
        if prior is None:
            self.register_buffer("zeros", torch.zeros(latent_size))
        self.prior = self._standard_normal if prior is None else prior
        for name in ("encoder", "decoder", "likelihood", "prior"):
            if not callable(part := getattr(self, name)):
                raise TypeError(f"VAE: {name} must be a module or a function, got {part!r}")

    def model(self, x: Tensor, *conditions: Tensor) -> None:
        require_taken("VAE", conditions, (self.encoder, 1), (self.decoder, 1), (self.prior, 0))
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", given("VAE", self.prior, (), conditions))  # (K, B, *event)
            p_x = self.likelihood(given("VAE", self.decoder, (z,), conditions))
            pyro.sample("x", p_x, obs=shaped("VAE", x, p_x.event_shape))

    def guide(self, x: Tensor, *conditions: Tensor) -> None:
        found = given("VAE", self.encoder, (x.flatten(1) if self._flattens else x,), conditions)
        q_z = diagonal_normal(found) if isinstance(found, Tensor) else found
        with pyro.plate("batch", len(x)):
            pyro.sample("z", q_z)

    def _standard_normal(self) -> dist.TorchDistribution:
        return dist.Normal(self.zeros, 1.0).to_event(1)

    def _preset(self, named: Likelihood) -> Callable[[Any], dist.TorchDistribution]:
        """The likelihood of a name; the first two keep the place of their parameters in saved weights."""
        if isinstance(named, GaussianOutputs):
            self.log_scale = named.log_scale
            return self._gaussian
        return bernoulli if isinstance(named, BernoulliOutputs) else named

    def _gaussian(self, mean: Tensor) -> dist.TorchDistribution:
        return gaussian(mean, self.log_scale)
