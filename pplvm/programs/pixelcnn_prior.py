"""The gated PixelCNN as a prior over grids of discrete codes, with classes or without.

log p(v | y) = sum_n log softmax(network(v_1 .. v_n-1; y))[v_n]
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pplvm.distributions.code_prior import CodePrior
from pplvm.networks.pixelcnn import PixelCNN
from pplvm.programs.sizes import require_sizes

__all__ = ["ClassConditionalPixelCNNPrior", "PixelCNNPrior", "codes_by"]


class PixelCNNPrior(nn.Module):
    """A gated PixelCNN over a grid of codes, which starts as the uniform distribution, N log K nats.

    Sampled with its cache: a code costs one column of the network and no pass.

    Arguments:
        num_codes: K.
        grid: (h, w) of the codes' positions, N = h w.
        channels, kernel_sizes, dropout: of `pplvm.networks.pixelcnn.PixelCNN`.

    Raises:
        ValueError: a size is below 1, num_codes below 2, or a kernel size even.

    Example:
        >>> prior = PixelCNNPrior(num_codes=8, grid=(2, 3), channels=4)
        >>> prior().sample((5,)).shape
        torch.Size([5, 6, 8])

    References:
        van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, Conditional image generation with
        PixelCNN decoders, 2016, arXiv:1606.05328
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    def __init__(
        self,
        num_codes: int,
        grid: Sequence[int],
        channels: int = 64,
        kernel_sizes: Sequence[int] = (5, 3, 3, 3, 3, 3),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _require_codes(type(self).__name__, num_codes, grid)
        self.network = PixelCNN(num_codes, num_codes, grid, channels, kernel_sizes, dropout=dropout)

    def forward(self) -> CodePrior:
        return codes_by(self.network)


class ClassConditionalPixelCNNPrior(nn.Module):
    """A `PixelCNNPrior` of each class: what is learned of a class is added to the features of each layer.

    Arguments:
        num_codes, grid: as of `PixelCNNPrior`.
        num_classes: of labels 0 .. num_classes - 1.
        channels, kernel_sizes, dropout: of `pplvm.networks.pixelcnn.PixelCNN`.

    Raises:
        ValueError: as of `PixelCNNPrior`; num_classes is below 1.

    Example:
        >>> prior = ClassConditionalPixelCNNPrior(num_codes=8, grid=(2, 3), num_classes=10, channels=4)
        >>> prior(torch.tensor([3, 1, 3])).sample().shape
        torch.Size([3, 6, 8])

    References:
        van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, Conditional image generation with
        PixelCNN decoders, 2016, arXiv:1606.05328 (section 2.3)
    """

    def __init__(
        self,
        num_codes: int,
        grid: Sequence[int],
        num_classes: int,
        channels: int = 64,
        kernel_sizes: Sequence[int] = (5, 3, 3, 3, 3, 3),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _require_codes(type(self).__name__, num_codes, grid)
        require_sizes(type(self).__name__, "num_classes", [num_classes])
        self.embedding = nn.Embedding(num_classes, channels)
        self.network = PixelCNN(
            num_codes, num_codes, grid, channels, kernel_sizes, context_channels=channels, dropout=dropout
        )

    def forward(self, labels: Tensor) -> CodePrior:
        return codes_by(self.network, self.network.project(self.embedding(labels)[..., None, None]))


def codes_by(network: PixelCNN, context: Tensor | None = None) -> CodePrior:
    """The distribution over codes that a PixelCNN gives, of a context that its `project` has given.

    Arguments:
        network: of K inputs and K outputs at each position.
        context: (..., layers, 4 channels, H, W), whose leading dimensions are the distribution's batch.
    """
    H, W = network.grid
    batch_shape = torch.Size() if context is None else context.shape[:-4]

    def first(shape: torch.Size) -> object:
        if context is None:
            return network.init_cache(shape.numel())
        of_context = context.shape[-4:]
        return network.init_cache(shape.numel(), context.expand(*shape, *of_context).reshape(-1, *of_context))

    return CodePrior(
        lambda v: network(v, context),
        first,
        network.step,
        event_shape=(H * W, network.last.weight.shape[0]),
        batch_shape=batch_shape,
    )


def _require_codes(name: str, num_codes: int, grid: Sequence[int]) -> None:
    require_sizes(name, "grid", grid, "height and width of the grid of codes", "2,2")
    if len(grid) != 2:
        raise ValueError(f"{name}: grid must be height and width of the grid of codes, got {tuple(grid)}")
    if num_codes < 2:
        raise ValueError(f"{name}: num_codes must be at least 2, got {num_codes}: one code alone says nothing")
