"""The spectral norms of a module's weights, a penalty that bounds how fast its function changes.

sigma(W) = |W' u|,   u the leading eigenvector of W W', a column of (W W')^(2^n): power iterations by squaring, no state
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

__all__ = ["spectral_norm", "sum_of_spectral_norms"]

SQUARINGS = 8
"""(W W')^(2^8): 256 power iterations. Of p of them sigma is low by a share of 1 / (4 e p) at most, for each rival."""


def spectral_norm(weight: Tensor) -> Tensor:
    """The largest singular value of each matrix, (..., N, M) -> (...), with its gradient u v'.

    No buffer is updated, and of a matrix of zeros value and gradient are 0.

    Arguments:
        weight: (..., N, M).

    Example:
        >>> spectral_norm(torch.diag(torch.tensor([3.0, -4.0])))
        tensor(4.)

    References:
        Miyato, Kataoka, Koyama and Yoshida, Spectral normalization for generative adversarial networks, 2018,
        arXiv:1802.05957
    """
    W = weight if weight.shape[-2] <= weight.shape[-1] else weight.mT
    with torch.no_grad():
        power = _over_trace(W @ W.mT)
        for _ in range(SQUARINGS):
            power = _over_trace(power @ power)
        largest = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
        u = torch.take_along_dim(power, largest[..., None, None], -1)  # (..., N, 1)
        u = u / torch.linalg.vector_norm(u, dim=-2, keepdim=True).clamp_min(torch.finfo(u.dtype).tiny)
    return torch.linalg.vector_norm(W.mT @ u, dim=(-2, -1))


def sum_of_spectral_norms(module: nn.Module) -> Tensor:
    """The sum of the spectral norms of all weight matrices and convolution kernels of a module, ().

    A kernel (C', C, h, w) counts as a matrix (C', C h w); of a weight that is parametrized, the weight that is used.

    Arguments:
        module: with linear or convolutional layers within.

    Raises:
        ValueError: there is no such layer.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.weight.data.copy_(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        >>> sum_of_spectral_norms(nn.Sequential(layer, nn.ReLU())).item()
        2.0

    References:
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898, section 3.2
    """
    by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() >= 2 and not isinstance(layer, nn.Embedding):
            is_transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
            matrix = (weight.movedim(1, 0) if is_transposed else weight).flatten(1)
            by_shape[matrix.shape].append(matrix)
    if not by_shape:
        raise ValueError(f"sum_of_spectral_norms: {type(module).__name__} has no weight matrix")
    return torch.cat([spectral_norm(torch.stack(matrices)) for matrices in by_shape.values()]).sum()


def _over_trace(power: Tensor) -> Tensor:
    trace = power.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return power / trace.clamp_min(torch.finfo(power.dtype).tiny)
