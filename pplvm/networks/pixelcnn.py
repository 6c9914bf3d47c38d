"""The gated PixelCNN: each position of a grid depends on all those before it, in one pass or step by step.

v_l = act(a_l),   a_l = conv(rows above; v_l-1)                              the vertical stack
h_l = h_l-1 + out(act(conv(left of it; h_l-1) + A_l a_l))                    the horizontal stack
act(a, b) = tanh(a) sigmoid(b),   output = last(relu(hidden(relu(h_L))))
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pplvm.networks.pixelcnn_layers import GatedLayer, GroupedPointwise
from pplvm.networks.pixelcnn_steps import PixelCNNCache, first_cache, next_outputs
from pplvm.networks.zero_start import zero_

__all__ = ["PixelCNN"]


class PixelCNN(nn.Module):
    """A masked convolutional network over a grid, read row by row: an output depends on the positions before it.

        (..., N, S) -> (..., N, O),   N = H W, output n of inputs m < n and of a context

    A vertical stack sees the rows above and a horizontal stack what is left of a position, so that there is no blind
    spot: with the reach R = sum of (kernel size - 1) / 2 an output sees each position before it that is at most R rows
    above and at most R columns aside, and no other. Where the inputs are the channels of a pixel they may be parted
    into groups in order, red before green before blue: outputs of a group then also see the groups before it at the
    same position. Outputs start at zero, which is a uniform distribution where they are logits.

    Arguments:
        in_channels: S, of codes their number K (one-hots), of pixels their channels.
        out_channels: O, the numbers given for each position.
        grid: (H, W).
        channels: of both stacks.
        kernel_sizes: of each layer, odd; the first, whose mask hides the position itself, is at least 3.
        num_groups: of the channels at one position, G; S, O and channels are multiples of it.
        context_channels: of a context (..., C, H, W), or (..., C, 1, 1) if it is the same everywhere; 0 for none.
        dropout: the share of features of each layer that is dropped in training mode.

    Raises:
        ValueError: a size is below 1, a kernel size is even, groups do not divide the channels; in forward, inputs are
            of another grid; a context of no channels is projected.

    Example:
        >>> network = PixelCNN(16, 16, grid=(3, 3), channels=8, kernel_sizes=(3, 3), context_channels=5)
        >>> context = network.project(torch.zeros(7, 5, 1, 1))  # of 7 data
        >>> network(torch.zeros(6, 7, 9, 16), context).shape  # of 6 particles each
        torch.Size([6, 7, 9, 16])
        >>> logits, cache = network.step(network.init_cache(7, context), None)
        >>> logits.shape
        torch.Size([7, 16])

    References:
        van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, Conditional image generation with
        PixelCNN decoders, 2016, arXiv:1606.05328
        van den Oord, Kalchbrenner and Kavukcuoglu, Pixel recurrent neural networks, 2016, arXiv:1601.06759
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Sequence[int],
        channels: int = 64,
        kernel_sizes: Sequence[int] = (5, 3, 3, 3, 3, 3),
        num_groups: int = 1,
        context_channels: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _require(in_channels, out_channels, grid, channels, kernel_sizes, num_groups, context_channels)
        self.grid, self.num_groups = (int(grid[0]), int(grid[1])), num_groups
        sizes = [in_channels] + [channels] * len(kernel_sizes)
        self.layers = nn.ModuleList(
            GatedLayer(size, channels, kernel, num_groups, dropout, first=not i)
            for i, (size, kernel) in enumerate(zip(sizes, kernel_sizes, strict=False))
        )
        self.hidden = GroupedPointwise(channels, channels, num_groups)
        self.last = GroupedPointwise(channels, out_channels, num_groups)
        zero_(self.last)
        self.projection = nn.Conv2d(context_channels, 4 * channels * len(sizes[1:]), 1) if context_channels else None

    @property
    def reach(self) -> int:
        """Rows above and columns aside of a position that its output sees, R."""
        return sum(layer.reach for layer in self.layers)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def project(self, context: Tensor) -> Tensor:
        """What is added to the layers, (..., L, 4 channels, H, W) of a context (..., C, H, W), computed once a datum.

        Arguments:
            context: (..., C, H, W), or (..., C, 1, 1) for one that is the same at all positions.
        """
        if self.projection is None:
            raise ValueError("PixelCNN: there is no context to project: give context_channels")
        if tuple(context.shape[-2:]) not in (self.grid, (1, 1)):
            raise ValueError(
                f"PixelCNN: a context is (..., C, H, W) on the grid {self.grid}, or (..., C, 1, 1), got shape "
                f"{tuple(context.shape)}"
            )
        flat = self.projection(context.reshape(-1, *context.shape[-3:]))
        return flat.reshape(*context.shape[:-3], len(self.layers), -1, *context.shape[-2:])

    def forward(self, v: Tensor, context: Tensor | None = None) -> Tensor:
        """Outputs (..., N, O) of inputs (..., N, S) and a context that `project` has given."""
        H, W = self.grid
        if v.dim() < 2 or v.shape[-2] != H * W:
            raise ValueError(f"PixelCNN: inputs of a grid {H}x{W} are (..., {H * W}, S), got shape {tuple(v.shape)}")
        left = v.shape[:-2]
        if context is not None:
            left = torch.broadcast_shapes(left, context.shape[:-4])
            v = v.expand(*left, *v.shape[-2:])
        vertical = horizontal = v.reshape(-1, H, W, v.shape[-1]).movedim(-1, 1)  # (rows, S, H, W)
        for i, layer in enumerate(self.layers):
            biases = None if context is None else context[..., i, :, :, :]
            vertical, horizontal = layer(vertical, horizontal, biases, left)
        outputs = self.last(relu(self.hidden(relu(horizontal))))
        return outputs.movedim(1, -1).reshape(*left, H * W, -1)

    def init_cache(self, num_rows: int, context: Tensor | None = None) -> PixelCNNCache:
        """The cache before the first value of each row.

        Arguments:
            num_rows: R, the rows that are drawn side by side.
            context: of `project`, one for each row or one for all.
        """
        return first_cache(self, num_rows, context)

    def step(self, cache: PixelCNNCache, before: Tensor | None) -> tuple[Tensor, Any]:
        """Outputs (R, O / G) of the next values of each row, given those before, and the next cache.

        The vertical stack runs once a row of the grid, the horizontal stack one column at a time; in evaluation mode
        they give what `forward` does.

        Arguments:
            cache: of `init_cache` or of the last step, which is used up.
            before: the inputs of the last value, (R, S / G), or (R,) where S = G; None at the first step.
        """
        return next_outputs(self, cache, before)


def _require(
    in_channels: int,
    out_channels: int,
    grid: Sequence[int],
    channels: int,
    kernel_sizes: Sequence[int],
    num_groups: int,
    context_channels: int,
) -> None:
    if len(grid) != 2 or min(in_channels, out_channels, channels, num_groups, *grid) < 1 or context_channels < 0:
        raise ValueError(
            f"PixelCNN: sizes must be at least 1, of a grid (H, W); got in_channels {in_channels}, out_channels "
            f"{out_channels}, grid {tuple(grid)}, channels {channels}, num_groups {num_groups}, context_channels "
            f"{context_channels}"
        )
    if not kernel_sizes or any(k < 1 or k % 2 == 0 for k in kernel_sizes) or kernel_sizes[0] < 3:
        raise ValueError(
            f"PixelCNN: kernel_sizes must be odd, one of each layer, and the first at least 3; got "
            f"{tuple(kernel_sizes)}"
        )
    for name, size in {"in_channels": in_channels, "out_channels": out_channels, "channels": channels}.items():
        if size % num_groups:
            raise ValueError(f"PixelCNN: {name} must be a multiple of num_groups, got {size} and {num_groups}")
