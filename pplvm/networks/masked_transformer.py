"""A bidirectional transformer over codes of which some are visible: what it gives depends on these alone."""

import torch
from torch import Tensor, nn

from pplvm.networks.transformer_layers import TransformerLayer, require_transformer_sizes
from pplvm.networks.zero_start import zero_

__all__ = ["MaskedTransformer"]


class MaskedTransformer(nn.Module):
    """A transformer over one-hot codes, those hidden replaced by a mask token.

        v (..., N, K), visible (..., N) -> logits (..., N, K) of v where it is visible

    A function of the set of visible codes: it knows no order among them. Logits start at zero, which is a uniform
    distribution.

    Arguments:
        num_codes: K.
        num_positions: N.
        width: W, of all layers, a multiple of num_heads.
        num_layers: of attention and perceptron.
        num_heads: of the attention.
        dropout: the share of each branch's outputs that is dropped in training mode.

    Raises:
        ValueError: sizes that no transformer has; inputs of another number of codes.

    Example:
        >>> network = MaskedTransformer(16, 9, width=8, num_layers=2, num_heads=2)
        >>> network(torch.zeros(7, 9, 16), torch.ones(7, 9).bool()).shape
        torch.Size([7, 9, 16])
        >>> network(torch.zeros(7, 9, 16), torch.ones(7, 9).bool(), positions=torch.tensor([3]).expand(7)).shape
        torch.Size([7, 16])

    References:
        Devlin, Chang, Lee and Toutanova, BERT: pre-training of deep bidirectional transformers for language
        understanding, 2019, arXiv:1810.04805
        Hoogeboom, Gritsenko, Bastings, Poole, van den Berg and Salimans, Autoregressive diffusion models, 2022,
        arXiv:2110.02037
    """

    def __init__(
        self,
        num_codes: int,
        num_positions: int,
        width: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_transformer_sizes("MaskedTransformer", num_codes, num_positions, width, num_layers, num_heads)
        self.num_codes, self.num_positions = num_codes, num_positions
        self.embedding = nn.Linear(num_codes, width, bias=False)
        self.mask = nn.Parameter(0.02 * torch.randn(width))
        self.positions = nn.Parameter(0.02 * torch.randn(num_positions, width))
        self.layers = nn.ModuleList(TransformerLayer(width, num_heads, dropout) for _ in range(num_layers))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_codes))
        zero_(self.last[1])

    def forward(
        self, v: Tensor, visible: Tensor, positions: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Logits (..., N, K) at all positions, or (..., K) at one of each row.

        Arguments:
            v: (..., N, K), of which what is hidden changes nothing.
            visible: (..., N), true where a code is seen.
            positions: (...,), one of each row; None for all.
            context: (..., N or 1, W), added to each position.
        """
        if tuple(v.shape[-2:]) != (self.num_positions, self.num_codes):
            raise ValueError(
                f"MaskedTransformer: inputs are (..., {self.num_positions}, {self.num_codes}), got {tuple(v.shape)}"
            )
        h = torch.where(visible.unsqueeze(-1), self.embedding(v), self.mask) + self.positions
        h = h if context is None else h + context
        for layer in self.layers:
            h = layer(h, None)
        if positions is None:
            return self.last(h)
        places = positions.expand(h.shape[:-2])[..., None, None].expand(*h.shape[:-2], 1, h.shape[-1])
        return self.last(h.gather(-2, places).squeeze(-2))
