"""Absorbing diffusion as a prior over grids of discrete codes: any order, of which none is preferred.

order ~ uniform over permutations, in model and guide;   log p(v | order, y) = sum_t log p(v_order[t] | v before t, y)
"""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pplvm.distributions.absorbing_codes import AbsorbingCodes, AbsorbingCodesStep
from pplvm.distributions.low_discrepancy_integer import LowDiscrepancyInteger
from pplvm.distributions.uniform_permutation import UniformPermutation
from pplvm.networks.masked_transformer import MaskedTransformer
from pplvm.programs.sizes import require_grid, require_sizes

__all__ = ["AbsorbingPrior", "ClassConditionalAbsorbingPrior"]


class _AbsorbingPrior(nn.Module):
    """What the priors with and without classes share: the auxiliary latents and the network."""

    def __init__(self, network: MaskedTransformer, one_step: bool) -> None:
        super().__init__()
        self.network, self.one_step = network, one_step

    def auxiliary(self) -> dict[str, TorchDistribution]:
        """What model and guide draw before the codes, by name: "order", and in one-step training "time"."""
        N, device = self.network.num_positions, self.network.mask.device
        order: dict[str, TorchDistribution] = {"order": UniformPermutation(N, device=device)}
        takes_step = self.training and self.one_step
        return order | {"time": LowDiscrepancyInteger(N, device=device)} if takes_step else order

    def _codes(self, order: Tensor, time: Tensor | None, context: Tensor | None) -> TorchDistribution:
        """With a context (..., 1, W) of each datum."""
        network = self.network
        around = None if context is None else context.unsqueeze(-3)  # beside the visible sets

        def logits(v: Tensor, visible: Tensor, positions: Tensor | None) -> Tensor:
            return network(v, visible, positions, around)

        shape = torch.Size() if context is None else context.shape[:-2]
        if time is None:
            return AbsorbingCodes(logits, order, network.mask, network.num_codes, shape)
        return AbsorbingCodesStep(logits, order, network.mask, network.num_codes, time, shape)


class AbsorbingPrior(_AbsorbingPrior):
    """Order-agnostic diffusion over a grid of codes, which starts as the uniform distribution, N log K nats.

    The order is a latent, so that any bound is legal. One-step training looks at each datum at one random time
    instead of all N: one pass of the network instead of N, legal in the elbo only, whose mean is the same; in
    evaluation mode all terms are there.

    Arguments:
        num_codes: K.
        grid: (h, w) of the codes' positions, N = h w.
        width, num_layers, num_heads, dropout: of `pplvm.networks.masked_transformer.MaskedTransformer`.
        one_step: whether training takes one time step of each datum.

    Raises:
        ValueError: a size is below 1, num_codes below 2, or the width no multiple of the heads.

    Example:
        >>> prior = AbsorbingPrior(num_codes=8, grid=(2, 3), width=16).eval()
        >>> order = prior.auxiliary()["order"].sample((5,))
        >>> prior(order=order).sample().shape
        torch.Size([5, 6, 8])

    References:
        Austin, Johnson, Ho, Tarlow and van den Berg, Structured denoising diffusion models in discrete state-spaces,
        2021, arXiv:2107.03006
        Hoogeboom, Gritsenko, Bastings, Poole, van den Berg and Salimans, Autoregressive diffusion models, 2022,
        arXiv:2110.02037
    """

    def __init__(
        self,
        num_codes: int,
        grid: Sequence[int],
        width: int = 64,
        num_layers: int = 3,
        num_heads: int = 4,
        dropout: float = 0.0,
        one_step: bool = True,
    ) -> None:
        num_positions = require_grid(type(self).__name__, num_codes, grid)
        super().__init__(MaskedTransformer(num_codes, num_positions, width, num_layers, num_heads, dropout), one_step)

    def forward(self, *, order: Tensor, time: Tensor | None = None) -> TorchDistribution:
        return self._codes(order, time, None)


class ClassConditionalAbsorbingPrior(_AbsorbingPrior):
    """An `AbsorbingPrior` of each class: a vector of the class is added to all positions.

    Arguments:
        num_codes, grid: as of `AbsorbingPrior`.
        num_classes: of labels 0 .. num_classes - 1.
        width, num_layers, num_heads, dropout, one_step: as of `AbsorbingPrior`.

    Raises:
        ValueError: as of `AbsorbingPrior`; num_classes is below 1.

    Example:
        >>> prior = ClassConditionalAbsorbingPrior(num_codes=8, grid=(2, 3), num_classes=10, width=16).eval()
        >>> order = prior.auxiliary()["order"].sample((3,))
        >>> prior(torch.tensor([3, 1, 3]), order=order).sample().shape
        torch.Size([3, 6, 8])

    References:
        Hoogeboom, Gritsenko, Bastings, Poole, van den Berg and Salimans, Autoregressive diffusion models, 2022,
        arXiv:2110.02037
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
        one_step: bool = True,
    ) -> None:
        num_positions = require_grid(type(self).__name__, num_codes, grid)
        require_sizes(type(self).__name__, "num_classes", [num_classes])
        super().__init__(MaskedTransformer(num_codes, num_positions, width, num_layers, num_heads, dropout), one_step)
        self.embedding = nn.Embedding(num_classes, width)

    def forward(self, labels: Tensor, *, order: Tensor, time: Tensor | None = None) -> TorchDistribution:
        return self._codes(order, time, self.embedding(labels.long()).unsqueeze(-2))
