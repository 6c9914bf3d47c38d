"""A variational autoencoder with a flow as prior: RealNVP, learned together with the rest.

p(z) = N(f^-1(z); 0, I) |det df^-1/dz|,   p(x | z) dense,   q(z | x) a diagonal normal
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pplvm.programs.coupling_flows import CouplingPrior
from pplvm.programs.dense_networks import dense_decoder, dense_encoder
from pplvm.programs.likelihoods import likelihood_named
from pplvm.programs.sizes import require_dense_sizes
from pplvm.programs.vae import VAE

__all__ = ["flow_prior_vae"]


def flow_prior_vae(
    data_size: int,
    latent_size: int = 16,
    hidden_sizes: Sequence[int] = (200,),
    likelihood: Literal["bernoulli", "gaussian", "discretized-logistic"] = "bernoulli",
    data_mean: Tensor | None = None,
    levels: int | None = None,
    num_couplings: int = 6,
    flow_hidden_sizes: Sequence[int] = (128,),
    activation: Literal["softplus", "tanh", "elu"] = "elu",
) -> VAE:
    """A VAE whose prior is a RealNVP flow; the prior starts as N(0, I) exactly.

    Arguments:
        data_size: D, the size of one flattened datum.
        latent_size: Z, at least 2.
        hidden_sizes: of the dense encoder; the dense decoder has them in reverse.
        likelihood: by name, of `pplvm.programs.likelihoods`.
        data_mean: (D,), the mean of the training data, from which the decoder's bias starts.
        levels: grey levels of the data, where the likelihood needs them.
        num_couplings: affine couplings of the prior, an even number.
        flow_hidden_sizes: widths of each coupling's network.
        activation: of the hidden layers of encoder and decoder.

    Raises:
        ValueError: latent_size is below 2, num_couplings is not a positive even number, or there is no such likelihood.

    Example:
        >>> program = flow_prior_vae(data_size=6, latent_size=2, hidden_sizes=(5,))
        >>> program.prior().event_shape
        torch.Size([2])

    References:
        Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, 2017, arXiv:1605.08803
        Xu, Chen, Lai, Lv, Wang, Pei and Liu, On the necessity and effectiveness of learning the prior of variational
        auto-encoder, 2019, arXiv:1905.13452
    """
    require_dense_sizes("flow_prior_vae", latent_size, hidden_sizes)
    outputs = likelihood_named(likelihood, data_size, levels)
    decoder = dense_decoder(latent_size, outputs, hidden_sizes, activation, data_mean)
    encoder = dense_encoder(data_size, 2 * latent_size, hidden_sizes, activation)
    return VAE(
        encoder=encoder,
        decoder=decoder,
        likelihood=outputs,
        prior=CouplingPrior(latent_size, num_couplings, flow_hidden_sizes),
    )
