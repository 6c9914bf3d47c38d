"""A variational autoencoder under the VampPrior, the mean of the posteriors of learned pseudo-inputs.

p(z) = 1/C sum_c q(z | u_c),   p(x | z) = likelihood(decoder(z)),   q(z | x) = encoder(x)
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pplvm.programs.dense_networks import dense_decoder, dense_encoder
from pplvm.programs.likelihoods import likelihood_named
from pplvm.programs.mixture_priors import VampPrior
from pplvm.programs.sizes import require_dense_sizes
from pplvm.programs.vae import VAE

__all__ = ["vamp_vae"]


def vamp_vae(
    data_size: int,
    latent_size: int = 16,
    hidden_sizes: Sequence[int] = (200,),
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    data_mean: Tensor | None = None,
    levels: int | None = None,
    num_components: int = 500,
    data_examples: Tensor | None = None,
    activation: Literal["softplus", "tanh", "elu"] = "softplus",
) -> VAE:
    """A dense variational autoencoder under the VampPrior.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: Z.
        hidden_sizes: of the encoder; the decoder has them in reverse.
        likelihood: a name of `pplvm.programs.likelihoods`.
        data_mean: (D,), the mean of the training data, from which the decoder's bias starts.
        levels: of the data, for likelihoods of grey values.
        num_components: C, pseudo-inputs.
        data_examples: (N, D), where the pseudo-inputs start, beyond N at means of two; uniform noise unless given.
        activation: of the hidden layers of encoder and decoder.

    Raises:
        ValueError: there is no such likelihood; num_components is below 1; the examples are of another size.

    Example:
        >>> program = vamp_vae(data_size=6, latent_size=2, hidden_sizes=(5,), num_components=4)
        >>> program.prior().num_components
        4

    References:
        Tomczak and Welling, VAE with a VampPrior, 2018, arXiv:1705.07120
    """
    require_dense_sizes("vamp_vae", latent_size, hidden_sizes)
    if num_components < 1:
        raise ValueError(f"vamp_vae: num_components must be at least 1, got {num_components}")
    if data_examples is None:
        data_examples = torch.rand(num_components, data_size)
    elif data_examples.shape[1:] != (data_size,) or not len(data_examples):
        raise ValueError(
            f"vamp_vae: data_examples of shape {tuple(data_examples.shape)} are no data of size {data_size}: give (N, "
            f"{data_size})"
        )
    outputs = likelihood_named(likelihood, data_size, levels)
    encoder = dense_encoder(data_size, 2 * latent_size, hidden_sizes, activation)
    decoder = dense_decoder(latent_size, outputs, hidden_sizes, activation, data_mean)
    bounds = None if likelihood == "gaussian" else (0.0, 1.0)  # real data have none
    prior = VampPrior(encoder, _started(data_examples, num_components), bounds)
    return VAE(encoder=encoder, decoder=decoder, likelihood=outputs, prior=prior)


def _started(examples: Tensor, count: int) -> Tensor:
    """Examples spread over those there are, (count, D); if there are fewer, the means of two of them after that."""
    N, number = len(examples), torch.arange(count, device=examples.device)
    if count <= N:
        return examples[number * N // count]
    return (examples[number % N] + examples[(number + number // N) % N]) / 2
