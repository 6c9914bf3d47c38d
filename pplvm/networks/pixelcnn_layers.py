"""Layers of the gated PixelCNN: convolutions over the rows above and over what is left of a position."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

__all__ = ["GatedLayer", "GroupedPointwise", "gated"]


def gated(features: Tensor, dim: int = 1) -> Tensor:
    """tanh(a) sigmoid(b), a and b the halves of the features."""
    a, b = features.chunk(2, dim)
    return a.tanh() * b.sigmoid()


class GroupedPointwise(nn.Module):
    """A 1x1 convolution whose output groups see the input groups up to their own.

    Arguments:
        in_channels, out_channels: multiples of num_groups, and in the order of their groups.
        num_groups: G, with one group a plain 1x1 convolution.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        _uniform(self.weight, self.bias, in_channels)
        self.register_buffer("mask", _group_mask(out_channels, in_channels, num_groups), persistent=False)

    @property
    def matrix(self) -> Tensor:
        """The masked weight, (out_channels, in_channels)."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.matrix[:, :, None, None], self.bias)


class GatedLayer(nn.Module):
    """A layer of both stacks; the first sees the inputs, but not at the position itself or, by groups, not all of them.

        a = conv(rows above; v),   v' = gated(a),   h' = h + out(gated(conv(left; h) + A a))

    In the first layer v and h are the inputs, the rows above and the columns at the left are strictly so, and nothing
    is added to h. In later layers the row and the column of the position belong to them.

    Arguments:
        in_channels: of the inputs, or those of both stacks.
        channels: C of both stacks.
        kernel_size: k, odd.
        num_groups: G of the channels at one position.
        dropout: share of gated features that is dropped in training mode.
        first: whether it is the first.
    """

    mask: Tensor

    def __init__(
        self, in_channels: int, channels: int, kernel_size: int, num_groups: int, dropout: float, *, first: bool
    ) -> None:
        super().__init__()
        self.reach, self.first = kernel_size // 2, first
        height = self.reach if first else self.reach + 1
        self.sees_itself = not first or num_groups > 1
        width = self.reach + self.sees_itself
        self.vertical = nn.Conv2d(in_channels, 2 * channels, (height, kernel_size))
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.weight = nn.Parameter(torch.empty(2 * channels, in_channels, 1, width))  # of the horizontal stack
        self.bias = nn.Parameter(torch.empty(2 * channels))
        _uniform(self.weight, self.bias, in_channels * width)
        mask = torch.ones(2 * channels, in_channels, 1, width, dtype=torch.bool)
        if self.sees_itself:
            mask[:, :, 0, -1] = _group_mask(channels, in_channels, num_groups, strictly=first).repeat(2, 1)
        self.register_buffer("mask", mask, persistent=False)
        self.out = GroupedPointwise(channels, channels, num_groups)
        self.dropout = nn.Dropout(dropout)

    @property
    def kernel(self) -> Tensor:
        """The masked weight of the horizontal stack, (2 C, in_channels, 1, width)."""
        return self.weight * self.mask

    def forward(
        self, vertical: Tensor, horizontal: Tensor, biases: Tensor | None, left: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Both stacks' features (rows, C, H, W), the rows being the dims `left` of what was put in, flattened.

        Arguments:
            biases: of the context, (..., 4 C, H, W), whose leading dims broadcast against `left`.
        """
        r = self.reach
        above = self.vertical(pad(vertical, (r, r, r, -1 if self.first else 0)))
        beside = conv2d(pad(horizontal, (r, 0 if self.sees_itself else -1)), self.kernel, self.bias)
        beside = beside + self.across(above)
        if biases is not None:
            of_above, of_beside = biases.chunk(2, -3)
            above = (above.reshape(*left, *above.shape[1:]) + of_above).reshape(above.shape)
            beside = (beside.reshape(*left, *beside.shape[1:]) + of_beside).reshape(beside.shape)
        found = self.out(self.dropout(gated(beside)))
        return self.dropout(gated(above)), found if self.first else horizontal + found


def _group_mask(out_channels: int, in_channels: int, num_groups: int, strictly: bool = False) -> Tensor:
    """(out_channels, in_channels), true where the group of an output sees that of an input."""
    group_of_output = torch.arange(out_channels)[:, None] * num_groups // out_channels
    group_of_input = torch.arange(in_channels) * num_groups // in_channels
    return group_of_input < group_of_output if strictly else group_of_input <= group_of_output


def _uniform(weight: nn.Parameter, bias: nn.Parameter, fan_in: int) -> None:
    """As torch's own convolutions start."""
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(weight, -bound, bound)
    nn.init.uniform_(bias, -bound, bound)
