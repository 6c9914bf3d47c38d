"""Masked networks: each output depends on the inputs before it in an order, and on a context.

output_i = f(input_j, j before i; context)
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pplvm.networks.zero_start import zero_

__all__ = ["MADE", "MaskedLinear"]


class MaskedLinear(nn.Linear):
    """A linear layer whose connections are those of a mask.

        y = (mask * weight) x + bias

    Arguments:
        mask: (out_size, in_size), true where an output sees an input.
        bias: whether a bias is added.

    Raises:
        ValueError: the mask is no matrix.

    Example:
        >>> layer = MaskedLinear(torch.tensor([[False, False], [True, False]]), bias=False)
        >>> layer(torch.ones(3, 2))[:, 0]
        tensor([0., 0., 0.], grad_fn=<SelectBackward0>)
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        if mask.dim() != 2:
            raise ValueError(f"MaskedLinear: mask must be a matrix (out_size, in_size), got shape {tuple(mask.shape)}")
        super().__init__(mask.shape[1], mask.shape[0], bias)
        self.register_buffer("mask", mask.bool(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    """An autoregressive network: a masked autoencoder with direct connections from inputs to outputs.

        (..., D) -> (..., num_outputs, D), numbers i of inputs j before i in the order, and of a context

    Hidden layers may have any sizes, also below D. The context is projected once by `project`, (B, C) -> (B, H), and
    the result is added to the first hidden layer of all particles.

    Arguments:
        size: D.
        hidden_sizes: widths of the hidden layers, at least one.
        num_outputs: numbers for each input.
        order: the inputs from first to last, a permutation of 0 .. D - 1; 0, 1, .. D - 1 unless given.
        context_size: C, 0 for no context.
        activation: the module class applied after each hidden layer.
        zero_init: start with outputs of zero, whatever the inputs and the context.

    Raises:
        ValueError: a size is below 1; the order is no permutation; a context of size 0 is projected.

    Example:
        >>> network = MADE(3, (5,), order=(2, 1, 0), context_size=4)
        >>> context = network.project(torch.zeros(7, 4))  # of 7 data
        >>> network(torch.zeros(6, 7, 3), context).shape  # of 6 particles each
        torch.Size([6, 7, 2, 3])

    References:
        Germain, Gregor, Murray and Larochelle, MADE: masked autoencoder for distribution estimation, 2015,
        arXiv:1502.03509
    """

    def __init__(
        self,
        size: int,
        hidden_sizes: Sequence[int] = (200,),
        num_outputs: int = 2,
        order: Sequence[int] | None = None,
        context_size: int = 0,
        activation: type[nn.Module] = nn.ELU,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        if size < 1 or num_outputs < 1 or not hidden_sizes or min(hidden_sizes) < 1 or context_size < 0:
            raise ValueError(
                f"MADE: sizes must be at least 1, of one hidden layer or more; got size {size}, hidden_sizes "
                f"{tuple(hidden_sizes)}, num_outputs {num_outputs}, context_size {context_size}"
            )
        self.order = tuple(range(size)) if order is None else tuple(int(i) for i in order)
        if sorted(self.order) != list(range(size)):
            raise ValueError(f"MADE: order must be a permutation of 0 .. {size - 1}, got {self.order}")
        self.num_outputs, first = num_outputs, 0 if context_size else min(1, size - 1)
        position = torch.tensor([self.order.index(i) for i in range(size)])
        before = [_degrees(size, hidden, first) for hidden in hidden_sizes]  # how many inputs a hidden unit may see
        masks = [position < before[0][:, None]]
        masks += [seen <= sees[:, None] for seen, sees in zip(before[:-1], before[1:], strict=True)]
        layers: list[nn.Module] = [MaskedLinear(masks[0])]
        for mask in masks[1:]:
            layers += [activation(), MaskedLinear(mask)]
        self.hidden = nn.Sequential(*layers[1:], activation())
        self.first = layers[0]
        self.last = MaskedLinear((before[-1] <= position[:, None]).repeat(num_outputs, 1))
        self.direct = MaskedLinear((position < position[:, None]).repeat(num_outputs, 1), bias=False)
        self.projection = nn.Linear(context_size, hidden_sizes[0], bias=False) if context_size else None
        if zero_init:
            zero_(self.last)
            zero_(self.direct)

    def project(self, context: Tensor) -> Tensor:
        """What is added to the first hidden layer: (..., C) -> (..., H)."""
        if self.projection is None:
            raise ValueError("MADE: there is no context to project: give context_size")
        return self.projection(context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Outputs (..., num_outputs, D) of inputs (..., D) and a context (..., H) that `project` has given."""
        first = self.first(x)
        hidden = self.hidden(first if context is None else first + context)
        return (self.last(hidden) + self.direct(x)).unflatten(-1, (self.num_outputs, -1))


def _degrees(size: int, hidden: int, first: int) -> Tensor:
    """The number of inputs that each of the hidden units may see, evenly from `first` to size - 1."""
    return first + torch.arange(hidden) * (size - first) // hidden
