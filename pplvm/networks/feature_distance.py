"""A distance of images by the features of a network, such as a classifier, that is frozen."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

__all__ = ["FeatureDistance"]


class FeatureDistance(nn.Module):
    """The squared distance of two images' features, each position's of unit length, one number a pair.

        d(x, y) = sum_l mean_positions |f_l(x) / |f_l(x)| - f_l(y) / |f_l(y)||^2

    It is no log-likelihood and none is in it. Of a network that was never trained (random features) it is a control for
    what training on labels adds.

    Arguments:
        features: images (..., *shape) to a list of features, (..., channels, height, width) each, as
            `ImageClassifier.features`; a bound method of a module.

    Its network is a copy, in evaluation mode for good, whose weights do not learn. Gradients reach the images.

    Raises:
        TypeError: features is no method of an nn.Module, which could be frozen.

    Example:
        >>> from pplvm.networks.classifier import ImageClassifier
        >>> distance = FeatureDistance(ImageClassifier((1, 8, 8), num_classes=10).features)
        >>> distance(torch.rand(5, 64), torch.rand(3, 5, 64)).shape
        torch.Size([3, 5])

    References:
        Zhang, Isola, Efros, Shechtman and Wang, The unreasonable effectiveness of deep features as a perceptual metric,
        2018, arXiv:1801.03924 (unit lengths; here without its learned weights)
        Hou, Shen, Sun and Qiu, Deep feature consistent variational autoencoder, 2017, arXiv:1610.00291
    """

    def __init__(self, features: Callable[[Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        network = getattr(features, "__self__", None)
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"FeatureDistance: features must be a method of an nn.Module, as classifier.features, got {features!r}"
            )
        self.network, self._method = deepcopy(network).eval().requires_grad_(False), features.__name__

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance of each pair of images, (...), whose leading dimensions broadcast."""
        of = getattr(self.network, self._method)
        pairs = zip(of(x), of(y), strict=True)
        return torch.stack(list(torch.broadcast_tensors(*(_apart(a, b) for a, b in pairs)))).sum(0)

    def train(self, mode: bool = True) -> "FeatureDistance":
        super().train(mode)
        self.network.eval()
        return self


def _apart(a: Tensor, b: Tensor) -> Tensor:
    unit = [f / (f.square().sum(-3, keepdim=True) + LEAST).sqrt() for f in (a, b)]
    return (unit[0] - unit[1]).square().sum(-3).mean((-2, -1))


LEAST = 1e-8
"""Added to squared lengths: features that are all 0 have distance 0, and a finite slope."""
