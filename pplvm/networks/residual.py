"""Residual multilayer perceptrons.

h_0 = W x + b,   h_{l+1} = h_l + s V_l act(W_l act(h_l)),   y = U act(h_L) + c,   s = 1 / sqrt(L)
"""

import math

from torch import Tensor, nn

__all__ = ["ResidualMLP"]


class ResidualMLP(nn.Module):
    """A multilayer perceptron of residual blocks of two layers each, over the last dimension.

    Arguments:
        in_size, out_size: sizes of the last dimension, (..., in_size) -> (..., out_size).
        hidden_size: the width of all blocks.
        num_blocks: L, at least 1; blocks start with weights scaled by 1 / sqrt(L), so that depth keeps the scale.
        activation: the module class applied before each linear layer but the first.

    Raises:
        ValueError: a size or num_blocks is no integer of at least 1.

    Example:
        >>> import torch
        >>> ResidualMLP(3, 2, hidden_size=8, num_blocks=2)(torch.zeros(7, 4, 3)).shape
        torch.Size([7, 4, 2])

    References:
        He, Zhang, Ren and Sun, Identity mappings in deep residual networks, 2016, arXiv:1603.05027
        Child, Very deep VAEs generalize autoregressive models and can outperform them on images, 2021,
        arXiv:2011.10650 (the scale of the blocks)
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        hidden_size: int = 200,
        num_blocks: int = 2,
        activation: type[nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        sizes = {"in_size": in_size, "out_size": out_size, "hidden_size": hidden_size, "num_blocks": num_blocks}
        for word, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"ResidualMLP: {word} must be an integer of at least 1, got {size!r}")
        self.first = nn.Linear(in_size, hidden_size)
        self.blocks = nn.Sequential(*[_Block(hidden_size, num_blocks, activation) for _ in range(num_blocks)])
        self.activation = activation()
        self.last = nn.Linear(hidden_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.activation(self.blocks(self.first(x))))


class _Block(nn.Module):
    def __init__(self, size: int, num_blocks: int, activation: type[nn.Module]) -> None:
        super().__init__()
        last = nn.Linear(size, size)
        nn.init.zeros_(last.bias)
        last.weight.data.div_(math.sqrt(num_blocks))
        self.layers = nn.Sequential(activation(), nn.Linear(size, size), activation(), last)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.layers(h)
