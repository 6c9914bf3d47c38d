"""Layers of transformers, for all positions at once or for one with what those before it have left.

h <- h + attention(norm(h)),   h <- h + mlp(norm(h))
"""

from math import sqrt

import torch
from torch import Tensor, nn

__all__ = ["TransformerLayer", "require_transformer_sizes"]


class TransformerLayer(nn.Module):
    """A transformer layer with normalization before attention and perceptron: (..., N, W) -> (..., N, W).

    The attention is written out in matrix products, which have second derivatives (learned control variates take
    them) and a rule for `torch.func.vmap`; torch's fused kernel for the CPU has neither, and on sequences as short as
    codes it is no faster.

    Arguments:
        width: W.
        num_heads: of the attention; W is a multiple of it.
        dropout: the share of each branch's outputs that is dropped in training mode.

    Example:
        >>> TransformerLayer(width=8, num_heads=2)(torch.zeros(6, 7, 5, 8), hidden=None).shape
        torch.Size([6, 7, 5, 8])

    References:
        Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin, Attention is all you need, 2017,
        arXiv:1706.03762
        Xiong, Yang, He, Zheng, Zheng, Xing, Zhang, Lan, Wang and Liu, On layer normalization in the transformer
        architecture, 2020, arXiv:2002.04745
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.width = num_heads, width
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, hidden: Tensor | None) -> Tensor:
        """All positions at once.

        Arguments:
            h: (..., N, W).
            hidden: (..., N, N) or (N, N), true where a position (row) does not see another (column); None if all do.
        """
        query, key, value = self._heads(self.before_attention(h))
        scores = query @ key.transpose(-1, -2)  # (..., heads, N, N)
        if hidden is not None:
            scores = scores.masked_fill(hidden.unsqueeze(-3) if hidden.dim() > 2 else hidden, -torch.inf)
        h = h + self.dropout(self._out(scores.softmax(-1) @ value))
        return h + self.dropout(self.mlp(self.before_mlp(h)))

    def step(self, h: Tensor, keys: Tensor, values: Tensor, place: int) -> Tensor:
        """One position, in evaluation mode: (R, W) -> (R, W); its key and value are written into the cache.

        Arguments:
            h: (R, W).
            keys, values: (R, heads, N, W / heads), of which those before `place` are read.
            place: of the position, from 0.
        """
        query, key, value = self._heads(self.before_attention(h).unsqueeze(1))  # (R, heads, 1, W / heads)
        keys[:, :, place : place + 1], values[:, :, place : place + 1] = key, value
        scores = query @ keys[:, :, : place + 1].transpose(-1, -2)  # (R, heads, 1, place + 1)
        h = h + self._out(scores.softmax(-1) @ values[:, :, : place + 1]).squeeze(1)
        return h + self.mlp(self.before_mlp(h))

    def _heads(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, (..., heads, N, W / heads), the query scaled."""
        parts = self.queries_keys_values(h).unflatten(-1, (3, self.num_heads, -1)).movedim(-4, -2).unbind(-4)
        query, key, value = parts
        return query / sqrt(self.width // self.num_heads), key, value

    def _out(self, heads: Tensor) -> Tensor:
        return self.out(heads.transpose(-3, -2).flatten(-2))


def require_transformer_sizes(
    name: str, num_codes: int, num_positions: int, width: int, num_layers: int, num_heads: int
) -> None:
    """Refuse sizes that no transformer has.

    Raises:
        ValueError: a size is below 1, fewer than two codes, or a width that is no multiple of the heads.
    """
    if min(num_positions, width, num_layers, num_heads) < 1 or num_codes < 2:
        raise ValueError(
            f"{name}: sizes must be at least 1, of 2 codes or more; got num_codes {num_codes}, num_positions "
            f"{num_positions}, width {width}, num_layers {num_layers}, num_heads {num_heads}"
        )
    if width % num_heads:
        raise ValueError(f"{name}: width {width} is no multiple of num_heads {num_heads}: let it be one")
