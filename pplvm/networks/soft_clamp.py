"""A bound on what a head gives that keeps small values and their slope."""

from torch import Tensor

__all__ = ["soft_clamp"]


def soft_clamp(x: Tensor, bound: float = 5.0) -> Tensor:
    """Values within (-bound, bound), bound tanh(x / bound): of slope 1 at 0, and finite with its slope for any x.

    It stands in the heads, where a log scale that ran away would overflow in its exponential.

    Example:
        >>> import torch
        >>> soft_clamp(torch.tensor([0.1, 100.0]))
        tensor([0.1000, 5.0000])

    References:
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898
    """
    return bound * (x / bound).tanh()
