"""The grey levels k / (levels - 1) of data, k = 0 .. levels - 1, as a support and as numbers."""

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

__all__ = ["GreyLevels", "grey_levels", "level_of", "require_levels"]


class GreyLevels(Constraint):
    """The values k / (levels - 1) for k = 0 .. levels - 1, within the rounding of float32.

    Arguments:
        levels: L, at least 2.
    """

    is_discrete = True
    event_dim = 0

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        steps = self.levels - 1
        level = (value * steps).round()
        rounding = 4 * max(torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0, 2.0**-23)
        is_close = (value * steps - level).abs() <= min(0.25, rounding * steps)
        return is_close & (level >= 0) & (level <= steps)

    def __repr__(self) -> str:
        return f"the {self.levels} levels k/{self.levels - 1}"


def grey_levels(levels: int, like: Tensor) -> Tensor:
    """The values k / (levels - 1), (levels,), with the dtype and on the device of a tensor."""
    return torch.arange(levels, dtype=like.dtype, device=like.device) / (levels - 1)


def level_of(value: Tensor, levels: int) -> Tensor:
    """The level k of each value k / (levels - 1), as a real number."""
    return (value * (levels - 1)).round()


def require_levels(levels: int, name: str) -> int:
    """Refuse a number of levels that is no integer from 2 on."""
    if not isinstance(levels, int) or isinstance(levels, bool) or levels < 2:
        raise ValueError(f"{name}: levels must be an integer of at least 2, of values k / (levels - 1), got {levels!r}")
    return levels
