"""A convolutional classifier of images and its cross-entropy, whose features measure how alike two images look."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pplvm.networks.image_layers import Downsampling, convolution

__all__ = ["CrossEntropy", "ImageClassifier", "accuracy"]


class ImageClassifier(nn.Module):
    """A small convolutional network from images to logits of their classes, trained on labels by `CrossEntropy`.

    One convolution at full size and one of stride 2 for each further number of channels, then a hidden layer. It has no
    dropout and no batch normalization: training and evaluation mode compute the same.

    Arguments:
        data_shape: (C, H, W); images come as (..., C, H, W), grey ones as (..., H, W) too, or flattened, (..., C H W);
            a grey one (1, H, W) is one image with a channel, so that batches that may be of one are best flattened.
        num_classes: at least 2.
        channels: of each scale, the first at full size.
        hidden_size: width of the hidden layer.

    Raises:
        ValueError: a size is out of range; in forward, images are of another shape.

    Example:
        >>> import torch
        >>> classifier = ImageClassifier((1, 8, 8), num_classes=10, channels=(4, 8), hidden_size=16)
        >>> classifier(torch.zeros(3, 5, 64)).shape
        torch.Size([3, 5, 10])
        >>> [tuple(found.shape) for found in classifier.features(torch.zeros(2, 1, 8, 8))]
        [(2, 4, 8, 8), (2, 8, 4, 4), (2, 16, 1, 1)]
    """

    def __init__(
        self, data_shape: Sequence[int], num_classes: int, channels: Sequence[int] = (16, 32), hidden_size: int = 64
    ) -> None:
        super().__init__()
        if len(data_shape) != 3 or any(not isinstance(size, int) or size < 1 for size in data_shape):
            raise ValueError(f"ImageClassifier: data_shape must be (C, H, W), each at least 1, got {tuple(data_shape)}")
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(
                f"ImageClassifier: num_classes must be an integer of at least 2, got {num_classes!r}: give data that "
                "have labels"
            )
        if not channels or hidden_size < 1:
            raise ValueError(
                f"ImageClassifier: channels must be one number for each scale and hidden_size at least 1, got "
                f"{tuple(channels)} and {hidden_size}"
            )
        self.data_shape, self.num_classes = tuple(data_shape), num_classes
        C, H, W = data_shape
        pairs = zip(channels, channels[1:], strict=False)
        layers = [convolution(C, channels[0]), *(Downsampling(narrow, wide) for narrow, wide in pairs)]
        self.scales = nn.ModuleList(nn.Sequential(layer, nn.SiLU()) for layer in layers)
        for _ in channels[1:]:
            H, W = (H + 1) // 2, (W + 1) // 2
        self.hidden = nn.Sequential(nn.Linear(channels[-1] * H * W, hidden_size), nn.SiLU())
        self.last = nn.Linear(hidden_size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (..., num_classes)."""
        return self.last(self.features(x)[-1].flatten(-3))

    def features(self, x: Tensor) -> list[Tensor]:
        """The activations of every layer but the last, (..., channels, height, width) each; the hidden one is 1 x 1."""
        images, left = self._images(x)
        found = []
        for scale in self.scales:
            images = scale(images)
            found.append(images)
        hidden = self.hidden(images.flatten(1))[..., None, None]
        return [each.reshape(*left, *each.shape[1:]) for each in [*found, hidden]]

    def _images(self, x: Tensor) -> tuple[Tensor, Sequence[int]]:
        """The images as one batch (N, C, H, W), and their leading dimensions."""
        without_channel = [self.data_shape[1:]] if self.data_shape[0] == 1 else []
        for shape in (self.data_shape, *without_channel, (math.prod(self.data_shape),)):
            if tuple(x.shape[x.dim() - len(shape) :]) == shape:
                return x.reshape(-1, *self.data_shape), x.shape[: x.dim() - len(shape)]
        raise ValueError(
            f"ImageClassifier: made for images of shape {self.data_shape}, flattened or not, and got shape "
            f"{tuple(x.shape)}: build it with the data's shape"
        )


class CrossEntropy(nn.Module):
    """The mean cross-entropy of a classifier's logits, a loss to train by `pplvm.fit` on data with labels.

    Arguments:
        classifier: flattened images (B, D) to logits (B, classes).

    Example:
        >>> import torch
        >>> loss = CrossEntropy(ImageClassifier((1, 8, 8), num_classes=10))
        >>> loss(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 2])).shape
        torch.Size([])
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """The mean over data whose label is known, in nats, (); labels of -1 are of no class."""
        each = cross_entropy(self.classifier(x.flatten(1)), labels, ignore_index=-1, reduction="sum")
        return each / (labels >= 0).sum().clamp(min=1)


def accuracy(classifier: nn.Module, x: Tensor, labels: Tensor) -> float:
    """The share of data of which a classifier gives the right class the highest logit.

    Arguments:
        classifier: flattened images (N, D) to logits (N, classes).
        x: (N, ...).
        labels: (N,) integers.
    """
    return float((classifier(x.flatten(1)).argmax(-1) == labels).double().mean())
