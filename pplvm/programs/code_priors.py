"""Priors over grids of discrete codes: modules that, called, give a distribution over (N, K) one-hots.

uniform           N log K nats for any codes
pixelcnn          each code given those before it, by masked convolutions
transformer       each code given those before it, by attention
absorbing         each code given those revealed before it in a random order, trained at one time of each datum
absorbing-exact   the same trained at all times, which bounds other than the elbo need
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.uniform_code import UniformCode
from pplvm.programs.absorbing_prior import AbsorbingPrior, ClassConditionalAbsorbingPrior
from pplvm.programs.pixelcnn_prior import ClassConditionalPixelCNNPrior, PixelCNNPrior
from pplvm.programs.sizes import require_sizes
from pplvm.programs.transformer_prior import ClassConditionalTransformerPrior, TransformerPrior

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
        return UniformCode(logits=logits).to_event(1)


NAMED: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module] | None]] = {
    "uniform": (UniformCodePrior, None),
    "pixelcnn": (PixelCNNPrior, ClassConditionalPixelCNNPrior),
    "transformer": (TransformerPrior, ClassConditionalTransformerPrior),
    "absorbing": (AbsorbingPrior, ClassConditionalAbsorbingPrior),
    "absorbing-exact": (
        partial(AbsorbingPrior, one_step=False),
        partial(ClassConditionalAbsorbingPrior, one_step=False),
    ),
}
"""By name: the prior, and the one that takes labels."""


def code_prior_named(
    name: str, grid: Sequence[int], num_codes: int, num_classes: int | None = None, **settings: Any
) -> nn.Module:
    """The prior over codes that has this name.

    Arguments:
        name: one of the above.
        grid: (h, w) of the codes' positions.
        num_codes: K.
        num_classes: of labels that the prior takes; None for a prior without.
        settings: of the prior's own constructor.

    Raises:
        ValueError: there is no such prior, or it takes no labels.

    Example:
        >>> code_prior_named("transformer", (2, 2), num_codes=8, width=16)().event_shape
        torch.Size([4, 8])
    """
    if name not in NAMED:
        raise ValueError(f"prior must be {' or '.join(map(repr, NAMED))}, got {name!r}")
    plain, of_classes = NAMED[name]
    if num_classes is None:
        return plain(num_codes, grid, **settings)
    if of_classes is None:
        told = " or ".join(repr(other) for other, (_, takes) in NAMED.items() if takes is not None)
        raise ValueError(f"the {name!r} prior takes no labels: leave them out, or let prior be {told}")
    return of_classes(num_codes, grid, num_classes, **settings)
