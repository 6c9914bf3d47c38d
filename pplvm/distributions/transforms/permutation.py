"""A fixed permutation of the coordinates of a vector: y_i = x_order(i), with determinant +-1."""

from torch import Tensor

from pplvm.distributions.transforms.cached_pair import CachedPair

__all__ = ["Permutation"]


class Permutation(CachedPair):
    """Reorders coordinates; between couplings it decides which part moves next, and on images it squeezes.

        y_i = x_order(i),   log |det dy/dx| = 0

    Arguments:
        order: (D,) integers, where each coordinate of y comes from.
        inverse: (D,) integers, `order.argsort()` unless given; pass it where a module keeps it.

    Raises:
        ValueError: a vector has another size.

    Example:
        >>> import torch
        >>> Permutation(torch.tensor([2, 0, 1]))(torch.tensor([10.0, 20.0, 30.0]))
        tensor([30., 10., 20.])

    References:
        Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, 2017, arXiv:1605.08803
    """

    def __init__(self, order: Tensor, inverse: Tensor | None = None) -> None:
        super().__init__(len(order))
        self.order, self.inverse = order, order.argsort() if inverse is None else inverse

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.index_select(-1, self.order), x.new_zeros(()).expand(x.shape[:-1])

    def inverse_and_log_det(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return y.index_select(-1, self.inverse), y.new_zeros(()).expand(y.shape[:-1])
