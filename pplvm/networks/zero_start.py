"""Layers that start at zero, so that a residual, a coupling or a posterior starts as the identity."""

from torch import nn

__all__ = ["zero_"]


def zero_(layer: nn.Module) -> None:
    """Set all parameters of a layer to zero.

    Example:
        >>> zero_(layer := nn.Linear(3, 2))
        >>> bool(layer.weight.any() or layer.bias.any())
        False
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
