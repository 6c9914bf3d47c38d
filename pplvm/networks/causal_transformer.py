"""A causal transformer: each position of a sequence of codes depends on those before it, in one pass or by steps."""

from typing import Any

import torch
from torch import Tensor, nn

from pplvm.networks.transformer_layers import TransformerLayer, require_transformer_sizes
from pplvm.networks.zero_start import zero_

__all__ = ["CausalTransformer"]

Cache = tuple[int, Tensor, Tensor, Tensor | None]
"""The place of the next code, keys and values of those before (L, R, heads, N, W / heads), and the context."""


class CausalTransformer(nn.Module):
    """A transformer over one-hot codes whose logits at a position depend on the codes before it.

        (..., N, K) -> (..., N, K),   logits n of codes m < n and of a context

    A learned start token stands before the first code, and positions are learned. Logits start at zero, which is a
    uniform distribution.

    Arguments:
        num_codes: K.
        num_positions: N.
        width: W, of all layers, a multiple of num_heads.
        num_layers: L.
        num_heads: of the attention.
        context_size: C, of a context (..., N, C), or (..., 1, C) if it is the same everywhere; 0 for none.
        dropout: the share of each branch's outputs that is dropped in training mode.

    Raises:
        ValueError: sizes that no transformer has; inputs of another number of codes; a context of size 0 is projected.

    Example:
        >>> network = CausalTransformer(16, 9, width=8, num_layers=2, num_heads=2, context_size=5)
        >>> context = network.project(torch.zeros(7, 1, 5))  # of 7 data
        >>> network(torch.zeros(6, 7, 9, 16), context).shape  # of 6 particles each
        torch.Size([6, 7, 9, 16])
        >>> logits, cache = network.step(network.init_cache(7, context), None)
        >>> logits.shape
        torch.Size([7, 16])

    References:
        Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin, Attention is all you need, 2017,
        arXiv:1706.03762
        Chen, Radford, Child, Wu, Jun, Luan and Sutskever, Generative pretraining from pixels, 2020
    """

    def __init__(
        self,
        num_codes: int,
        num_positions: int,
        width: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        context_size: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_transformer_sizes("CausalTransformer", num_codes, num_positions, width, num_layers, num_heads)
        self.num_codes, self.num_positions, self.num_heads = num_codes, num_positions, num_heads
        self.embedding = nn.Linear(num_codes, width, bias=False)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(num_positions, width))
        self.layers = nn.ModuleList(TransformerLayer(width, num_heads, dropout) for _ in range(num_layers))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_codes))
        zero_(self.last[1])
        self.projection = nn.Linear(context_size, width, bias=False) if context_size else None
        self.register_buffer("later", torch.ones(num_positions, num_positions).triu(1).bool(), persistent=False)

    def project(self, context: Tensor) -> Tensor:
        """What is added to each position, (..., N or 1, W), computed once a datum."""
        if self.projection is None:
            raise ValueError("CausalTransformer: there is no context to project: give context_size")
        return self.projection(context)

    def forward(self, v: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (..., N, K) of one-hot codes (..., N, K) and a context that `project` has given."""
        if tuple(v.shape[-2:]) != (self.num_positions, self.num_codes):
            raise ValueError(
                f"CausalTransformer: inputs are (..., {self.num_positions}, {self.num_codes}), got {tuple(v.shape)}"
            )
        before = self.embedding(v[..., :-1, :])
        h = torch.cat([self.start.expand(*v.shape[:-2], 1, -1), before], -2) + self.positions
        h = h if context is None else h + context
        for layer in self.layers:
            h = layer(h, self.later)
        return self.last(h)

    def init_cache(self, num_rows: int, context: Tensor | None = None) -> Cache:
        """The cache before the first code of each row.

        Arguments:
            num_rows: R, the rows that are drawn side by side.
            context: of `project`, one for each row, (R, N or 1, W), or one for all, (1, N or 1, W).
        """
        shape = (len(self.layers), num_rows, self.num_heads, self.num_positions, len(self.start) // self.num_heads)
        return 0, self.start.new_empty(shape), self.start.new_empty(shape), context

    def step(self, cache: Cache, before: Tensor | None) -> tuple[Tensor, Any]:
        """Logits (R, K) of the next code of each row, given those before, and the next cache.

        Keys and values of each code are computed once; in evaluation mode the logits are those of `forward`.

        Arguments:
            cache: of `init_cache` or of the last step, which is used up.
            before: the one-hot codes drawn last, (R, K); None at the first step.
        """
        place, keys, values, context = cache
        h = self.start.expand(keys.shape[1], -1) if before is None else self.embedding(before)
        h = h + self.positions[place]
        if context is not None:
            h = h + context[:, place if context.shape[1] > 1 else 0]
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, TransformerLayer)
            h = layer.step(h, keys[number], values[number], place)
        return self.last(h), (place + 1, keys, values, context)
