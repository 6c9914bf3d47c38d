"""The causal transformer as a prior over grids of discrete codes, with classes or without.

log p(v | y) = sum_n log softmax(network(v_1 .. v_n-1; y))[v_n]
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pplvm.distributions.code_prior import CodePrior
from pplvm.networks.causal_transformer import CausalTransformer
from pplvm.programs.sizes import require_grid, require_sizes

__all__ = ["ClassConditionalTransformerPrior", "TransformerPrior", "codes_by_transformer"]


class TransformerPrior(nn.Module):
    """A causal transformer over a grid of codes, row by row, which starts as the uniform distribution, N log K nats.

    Sampled with its keys and values kept: a code costs one position of the network and no pass.

    Arguments:
        num_codes: K.
        grid: (h, w) of the codes' positions, N = h w.
        width, num_layers, num_heads, dropout: of `pplvm.networks.causal_transformer.CausalTransformer`.

    Raises:
        ValueError: a size is below 1, num_codes below 2, or the width no multiple of the heads.

    Example:
        >>> prior = TransformerPrior(num_codes=8, grid=(2, 3), width=16)
        >>> prior().sample((5,)).shape
        torch.Size([5, 6, 8])

    References:
        Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin, Attention is all you need, 2017,
        arXiv:1706.03762
        Razavi, van den Oord and Vinyals, Generating diverse high-fidelity images with VQ-VAE-2, 2019, arXiv:1906.00446
    """

    def __init__(
        self,
        num_codes: int,
        grid: Sequence[int],
        width: int = 64,
        num_layers: int = 3,
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        num_positions = require_grid(type(self).__name__, num_codes, grid)
        self.network = CausalTransformer(num_codes, num_positions, width, num_layers, num_heads, dropout=dropout)

    def forward(self) -> CodePrior:
        return codes_by_transformer(self.network)


class ClassConditionalTransformerPrior(nn.Module):
    """A `TransformerPrior` of each class: a vector of the class is added to all positions.

    Arguments:
        num_codes, grid: as of `TransformerPrior`.
        num_classes: of labels 0 .. num_classes - 1.
        width, num_layers, num_heads, dropout: as of `TransformerPrior`.

    Raises:
        ValueError: as of `TransformerPrior`; num_classes is below 1.

    Example:
        >>> prior = ClassConditionalTransformerPrior(num_codes=8, grid=(2, 3), num_classes=10, width=16)
        >>> prior(torch.tensor([3, 1, 3])).sample().shape
        torch.Size([3, 6, 8])

    References:
        Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin, Attention is all you need, 2017,
        arXiv:1706.03762
    """

    def __init__(
        self,
        num_codes: int,
        grid: Sequence[int],
        num_classes: int,
        width: int = 64,
        num_layers: int = 3,
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        num_positions = require_grid(type(self).__name__, num_codes, grid)
        require_sizes(type(self).__name__, "num_classes", [num_classes])
        self.embedding = nn.Embedding(num_classes, width)
        self.network = CausalTransformer(num_codes, num_positions, width, num_layers, num_heads, dropout=dropout)

    def forward(self, labels: Tensor) -> CodePrior:
        return codes_by_transformer(self.network, self.embedding(labels.long()).unsqueeze(-2))


def codes_by_transformer(network: CausalTransformer, context: Tensor | None = None) -> CodePrior:
    """The distribution over codes that a causal transformer gives, of a context.

    Arguments:
        context: (..., N or 1, W), whose leading dimensions are the distribution's batch.
    """

    def first(shape: torch.Size) -> Any:
        if context is None:
            return network.init_cache(shape.numel())
        of_context = context.shape[-2:]
        return network.init_cache(shape.numel(), context.expand(*shape, *of_context).reshape(-1, *of_context))

    return CodePrior(
        lambda v: network(v, context),
        first,
        network.step,
        event_shape=(network.num_positions, network.num_codes),
        batch_shape=torch.Size() if context is None else context.shape[:-2],
    )
