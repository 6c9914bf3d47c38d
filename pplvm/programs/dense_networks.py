"""Dense encoders and decoders of flattened data, of which the presets of variational autoencoders are made."""

from collections.abc import Sequence

from torch import Tensor, nn

from pplvm.networks.dense import MLP, activation_named
from pplvm.programs.likelihoods import Likelihood, start_at

__all__ = ["dense_decoder", "dense_encoder"]


def dense_encoder(data_size: int, output_size: int, hidden_sizes: Sequence[int], activation: str) -> nn.Sequential:
    """A multilayer perceptron of flattened data, (B, *shape) -> (B, output_size).

    Arguments:
        data_size: D, the size of one flattened datum.
        hidden_sizes, activation: of its hidden layers, by name as for `activation_named`.

    Example:
        >>> import torch
        >>> dense_encoder(6, 4, (5,), "tanh")(torch.zeros(3, 2, 3)).shape
        torch.Size([3, 4])
    """
    return nn.Sequential(nn.Flatten(1), MLP(data_size, output_size, hidden_sizes, activation_named(activation)))


def dense_decoder(
    latent_size: int, likelihood: Likelihood, hidden_sizes: Sequence[int], activation: str, data_mean: Tensor | None
) -> MLP:
    """A multilayer perceptron from latents (..., Z) to what a likelihood takes.

    Arguments:
        hidden_sizes: of the encoder; this has them in reverse.
        data_mean: (D,), the mean of the training data, at which the bias starts, if known.
    """
    decoder = MLP(latent_size, likelihood.output_size, hidden_sizes[::-1], activation_named(activation))
    start_at(decoder.last, likelihood, data_mean)
    return decoder
