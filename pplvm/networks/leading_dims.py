"""A wrapper that lets layers with one batch dimension take any number of leading dimensions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

__all__ = ["LeadingDims"]


class LeadingDims(nn.Module):
    """Flatten all dimensions left of the last `num_dims` into one batch dimension, call the layer, restore them.

    Particles, and states that are summed out, stand in dimensions left of the batch; a convolution, a recurrent
    layer or attention knows one batch dimension only. Of several inputs the leading dimensions are broadcast.

    Arguments:
        layer: takes inputs (N, *shape) and gives a tensor, or several, of N rows; a recurrent layer must be made with
            batch_first=True, and its states come back as (layers, ..., H).
        num_dims: dimensions of one input: 3 for an image (C, H, W), 2 for a sequence (N, D).

    Raises:
        ValueError: num_dims is no integer of at least 0; a recurrent layer is not batch_first; an input has fewer
            dimensions.

    Example:
        >>> LeadingDims(nn.Conv2d(1, 2, kernel_size=3), num_dims=3)(torch.zeros(4, 5, 1, 8, 8)).shape
        torch.Size([4, 5, 2, 6, 6])
    """

    def __init__(self, layer: Callable[..., Any], num_dims: int) -> None:
        super().__init__()
        if isinstance(num_dims, bool) or not isinstance(num_dims, int) or num_dims < 0:
            raise ValueError(f"LeadingDims: num_dims must be an integer of at least 0, got {num_dims!r}")
        if not getattr(layer, "batch_first", True):
            raise ValueError(f"LeadingDims: make {type(layer).__name__} with batch_first=True")
        self.layer, self.num_dims = layer, num_dims

    def forward(self, *inputs: Tensor) -> Any:
        for x in inputs:
            if x.dim() < self.num_dims:
                raise ValueError(f"LeadingDims: an input of shape {tuple(x.shape)} has fewer than {self.num_dims} dims")
        shapes = [x.shape[x.dim() - self.num_dims :] for x in inputs]
        first, *_ = torch.broadcast_tensors(*[x[(..., *[0] * self.num_dims)] for x in inputs])
        left = first.shape
        folded = [x.expand(*left, *shape).reshape(-1, *shape) for x, shape in zip(inputs, shapes, strict=True)]
        given = self.layer(*folded)
        if isinstance(self.layer, nn.RNNBase):
            output, states = given
            return _unfolded(output, left, 0), tree_map_only(Tensor, lambda h: _unfolded(h, left, 1), states)
        return tree_map_only(Tensor, lambda out: _unfolded(out, left, 0), given)


def _unfolded(output: Tensor, left: torch.Size, dim: int) -> Tensor:
    return output.reshape(*output.shape[:dim], *left, *output.shape[dim + 1 :])
