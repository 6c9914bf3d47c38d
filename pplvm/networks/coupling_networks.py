"""Networks of couplings: from a part of a vector, and features of what it is conditional on, to parameters.

All end in a layer that starts at zero, so that a coupling starts from its bias alone.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from pplvm.networks.leading_dims import LeadingDims
from pplvm.networks.zero_start import zero_

__all__ = ["ConvolutionalCouplingNetwork", "DenseCouplingNetwork"]


class ConvolutionalCouplingNetwork(nn.Module):
    """A small residual network of images that come flattened, and leave flattened.

    Arguments:
        shape: (C, H, W) of the part that is given.
        out_channels: of what leaves, (..., out_channels H W).
        channels: hidden.
        num_blocks: residual blocks, each a 3 x 3 and a 1 x 1 convolution.
        context_channels: of what it is conditional on, flattened (..., context_channels H W), and added to the first
            layer; 0 for none.

    Example:
        >>> import torch
        >>> ConvolutionalCouplingNetwork((2, 4, 4), out_channels=6)(torch.zeros(3, 5, 32)).shape
        torch.Size([3, 5, 96])
    """

    def __init__(
        self,
        shape: Sequence[int],
        out_channels: int,
        channels: int = 32,
        num_blocks: int = 1,
        context_channels: int = 0,
    ) -> None:
        super().__init__()
        C, self.shape = shape[0], tuple(shape)
        self.first = LeadingDims(nn.Conv2d(C, channels, 3, padding=1), 3)
        self.of_context = (
            LeadingDims(nn.Conv2d(context_channels, channels, 3, padding=1), 3) if context_channels else None
        )
        self.blocks = nn.ModuleList(LeadingDims(_block(channels), 3) for _ in range(num_blocks))
        self.last = nn.Conv2d(channels, out_channels, 1)
        self.out = LeadingDims(nn.Sequential(nn.SiLU(), self.last), 3)
        zero_(self.last)

    def forward(self, part: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(part.unflatten(-1, self.shape))
        if self.of_context is not None and context is not None:
            h = h + self.of_context(context.unflatten(-1, (-1, *self.shape[1:])))
        for block in self.blocks:
            h = h + block(h)
        return self.out(h).flatten(-3)


class DenseCouplingNetwork(nn.Module):
    """A network with one hidden layer.

    Arguments:
        in_size, out_size: sizes of the last dimension.
        hidden_size: of the hidden layer.
        context_size: of what it is conditional on, (..., context_size), added to the first layer; 0 for none.

    Example:
        >>> import torch
        >>> DenseCouplingNetwork(3, 8, context_size=5)(torch.zeros(2, 4, 3), torch.zeros(4, 5)).shape
        torch.Size([2, 4, 8])
    """

    def __init__(self, in_size: int, out_size: int, hidden_size: int = 64, context_size: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(in_size, hidden_size)
        self.of_context = nn.Linear(context_size, hidden_size) if context_size else None
        self.middle, self.last = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, out_size)
        zero_(self.last)

    def forward(self, part: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(part)
        if self.of_context is not None and context is not None:
            h = h + self.of_context(context)
        h = nn.functional.silu(h)
        return self.last(nn.functional.silu(self.middle(h)))


def _block(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, channels, 1)
    )
