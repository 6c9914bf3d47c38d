"""Priors over grids of discrete codes: modules that, called, give a distribution over (N, K) one-hots.

uniform   N log K nats for any codes
"""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.programs.sizes import require_sizes

__all__ = ["UniformCodePrior", "code_prior_named"]


class UniformCodePrior(nn.Module):
    """All K^N grids of codes alike: N log K nats for each.

    Arguments:
        num_codes: K.
        grid: (h, w) of the codes' positions, N = h w.

    Raises:
        ValueError: a size is below 1.

    Example:
        >>> UniformCodePrior(num_codes=8, grid=(2, 3))().event_shape
        torch.Size([6, 8])
    """

    zero: Tensor

    def __init__(self, num_codes: int, grid: Sequence[int]) -> None:
        super().__init__()
        require_sizes("UniformCodePrior", "num_codes", [num_codes])
        require_sizes("UniformCodePrior", "grid", grid, "height and width of the grid of codes", "2,2")
        self.num_codes, self.num_positions = num_codes, math.prod(grid)
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self) -> dist.TorchDistribution:
        logits = self.zero.expand(self.num_positions, self.num_codes)
        return dist.OneHotCategorical(logits=logits).to_event(1)


def code_prior_named(
    name: str, grid: Sequence[int], num_codes: int, num_classes: int | None = None, **settings: Any
) -> nn.Module:
    """The prior over codes that has this name.

    Arguments:
        name: "uniform".
        grid: (h, w) of the codes' positions.
        num_codes: K.
        num_classes: of labels that the prior takes; None for a prior without.
        settings: of the prior's own constructor.

    Raises:
        ValueError: there is no such prior, or it takes no labels.
    """
    if name != "uniform":
        raise ValueError(f"prior must be 'uniform', got {name!r}")
    return UniformCodePrior(num_codes, grid, **settings)
