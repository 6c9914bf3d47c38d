"""The variational autoencoder whose posterior is an inverse autoregressive flow."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pplvm.programs.autoregressive_flows import IAFPosterior
from pplvm.programs.dense_networks import dense_decoder, dense_encoder
from pplvm.programs.likelihoods import likelihood_named
from pplvm.programs.sizes import require_dense_sizes
from pplvm.programs.vae import VAE

__all__ = ["iaf_vae"]


def iaf_vae(
    data_size: int,
    latent_size: int = 16,
    hidden_sizes: Sequence[int] = (200,),
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    data_mean: Tensor | None = None,
    levels: int | None = None,
    num_flows: int = 2,
    flow_hidden_sizes: Sequence[int] = (200,),
    activation: Literal["softplus", "tanh", "elu"] = "elu",
) -> VAE:
    """A VAE with dense networks, prior N(0, I) and an inverse autoregressive flow as posterior.

        z = flow_T(.. flow_1(z_0; h); h),   z_0 ~ N(loc(x), scale(x)^2),   h = h(x)

    It starts as the VAE with a diagonal normal. Other networks and flows: `VAE(encoder=IAFPosterior(...), ...)`.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: Z.
        hidden_sizes: of the encoder; the decoder has them in reverse. h has the size of the last.
        likelihood: by name, see `pplvm.programs.likelihoods`.
        data_mean: (D,), the mean of the training data, from which the decoder's bias starts.
        levels: of the data, of likelihoods of grey values only.
        num_flows: T, at least 1.
        flow_hidden_sizes: widths of each flow's autoregressive network.
        activation: of the hidden layers of encoder and decoder.

    Raises:
        ValueError: a size is below 1, or there is no such likelihood.

    Example:
        >>> import torch
        >>> program = iaf_vae(data_size=6, latent_size=2, hidden_sizes=(5,), flow_hidden_sizes=(4,))
        >>> program.guide(torch.zeros(3, 6))

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, Improved variational inference with inverse
        autoregressive flow, 2016, arXiv:1606.04934
    """
    require_dense_sizes("iaf_vae", latent_size, hidden_sizes)
    p_x = likelihood_named(likelihood, data_size, levels)
    context_size = [latent_size, *hidden_sizes][-1]
    network = dense_encoder(data_size, 2 * latent_size + context_size, hidden_sizes, activation)
    encoder = IAFPosterior(network, latent_size, context_size, num_flows, flow_hidden_sizes)
    decoder = dense_decoder(latent_size, p_x, hidden_sizes, activation, data_mean)
    return VAE(latent_size=latent_size, encoder=encoder, decoder=decoder, likelihood=p_x)
