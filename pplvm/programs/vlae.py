"""The variational autoencoder with an autoregressive flow as prior, after the variational lossy autoencoder."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pplvm.programs.autoregressive_flows import AutoregressiveFlowPrior
from pplvm.programs.dense_networks import dense_decoder, dense_encoder
from pplvm.programs.likelihoods import likelihood_named
from pplvm.programs.sizes import require_dense_sizes
from pplvm.programs.vae import VAE

__all__ = ["vlae"]


def vlae(
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
    """A VAE with dense networks, a diagonal normal as posterior and an autoregressive flow as prior.

        p(z) = N(u; 0, I) |du/dz|,   u = flow_T(.. flow_1(z))

    The prior starts as N(0, I). Beside an inverse autoregressive flow as posterior it is the same flow from the other
    side, at no cost for inference and with a deeper decoder. The decoder is dense here; other networks and flows:
    `VAE(prior=AutoregressiveFlowPrior(...), ...)`.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: Z.
        hidden_sizes: of the encoder; the decoder has them in reverse.
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
        >>> program = vlae(data_size=6, latent_size=2, hidden_sizes=(5,), flow_hidden_sizes=(4,))
        >>> program.model(torch.zeros(3, 6))

    References:
        Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever and Abbeel, Variational lossy autoencoder, 2017,
        arXiv:1611.02731
    """
    require_dense_sizes("vlae", latent_size, hidden_sizes)
    p_x = likelihood_named(likelihood, data_size, levels)
    encoder = dense_encoder(data_size, 2 * latent_size, hidden_sizes, activation)
    decoder = dense_decoder(latent_size, p_x, hidden_sizes, activation, data_mean)
    prior = AutoregressiveFlowPrior(latent_size, num_flows, flow_hidden_sizes)
    return VAE(latent_size=latent_size, encoder=encoder, decoder=decoder, likelihood=p_x, prior=prior)
