"""Activation normalization of Glow: y = (x - loc) exp(-log_scale), of each coordinate, the same for all vectors."""

from torch import Tensor

from pplvm.distributions.transforms.cached_pair import CachedPair

__all__ = ["ActivationNormalization"]


class ActivationNormalization(CachedPair):
    """Shifts and scales each coordinate; from data, loc and exp(log_scale) start as their mean and deviation.

        y = (x - loc) exp(-log_scale),   log |det dy/dx| = -sum log_scale

    Arguments:
        loc, log_scale: (D,) each.

    Raises:
        ValueError: a vector has another size.

    Example:
        >>> import torch
        >>> ActivationNormalization(torch.tensor([1.0, 2.0]), torch.zeros(2))(torch.tensor([1.0, 3.0]))
        tensor([0., 1.])

    References:
        Kingma and Dhariwal, Glow: generative flow with invertible 1x1 convolutions, 2018, arXiv:1807.03039
    """

    def __init__(self, loc: Tensor, log_scale: Tensor) -> None:
        super().__init__(loc.shape[-1])
        self.loc, self.log_scale = loc, log_scale

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.loc) * (-self.log_scale).exp(), self._log_det(x)

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y * self.log_scale.exp() + self.loc, self._log_det(y)

    def _log_det(self, value: Tensor) -> Tensor:
        return -self.log_scale.sum(-1).expand(value.shape[:-1])
