"""The deterministic parts of a hierarchy of latents: features from the bottom up, and a state from the top down.

e_L = f_L(x), e_l = f_l(e_{l+1})                  bottom-up, once a datum
h_l = g_l(h_{l-1} + V_l z_l)                      top-down, from a latent to the next
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pplvm.networks.soft_clamp import soft_clamp
from pplvm.networks.zero_start import zero_

__all__ = ["BottomUp", "ResidualBlock", "TopDown", "dense_blocks", "dense_bottom_up", "dense_top_down"]


class ResidualBlock(nn.Module):
    """h + W_2 a(W_1 a(h)), a = SiLU, which is the identity at the start.

    Arguments:
        size: of the last dimension, (..., size) -> (..., size).

    Example:
        >>> h = torch.ones(3, 5)
        >>> bool((ResidualBlock(5)(h) == h).all())
        True
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.SiLU(), nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size))
        zero_(self.layers[-1])

    def forward(self, h: Tensor) -> Tensor:
        return h + self.layers(h)


class BottomUp(nn.Module):
    """The features of a datum for each group of latents, one after another, that of the topmost group first.

    Arguments:
        stages: modules from the data up, one a group: x (B, *shape) to the features of the lowest group, and each on.
        centre: of the shape of the data, or one that broadcasts; taken off the data first.

    Example:
        >>> [e.shape for e in BottomUp([nn.Linear(6, 5), nn.Linear(5, 4)], torch.zeros(6))(torch.zeros(3, 6))]
        [torch.Size([3, 4]), torch.Size([3, 5])]
    """

    centre: Tensor

    def __init__(self, stages: Sequence[nn.Module], centre: Tensor) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.register_buffer("centre", centre.to(next(self.stages.parameters())))

    def forward(self, x: Tensor) -> list[Tensor]:
        h, found = x.reshape(len(x), *self.centre.shape) - self.centre, []
        for stage in self.stages:
            h = stage(h)
            found.append(h)
        return found[::-1]


class TopDown(nn.Module):
    """A group of latents: its prior and its posterior, given the state h above it, and how it moves that state.

        prior(h)          loc and log scale; N(0, I) at the start
        residuals(h, e)   d_loc and d_log_scale of the posterior, given the datum's features e; zero at the start
        update(h, z)      the state below

    Log scales and residuals are softly clamped, each by itself.

    Arguments:
        layer: makes a layer of so many inputs and outputs: `nn.Linear`, or a convolution.
        latent_size: Z of the group, the size of dimension `dim`.
        hidden_size: of the state and the features.
        body: what follows where the latent has come into the state, such as residual blocks, and upsampling.
        clamp: bound of log scales and residuals; None for no bound.
        dim: of the features: -1 for vectors, -3 for maps (C, H, W).

    Raises:
        ValueError: clamp is not positive.

    Example:
        >>> group = TopDown(nn.Linear, latent_size=2, hidden_size=5, body=ResidualBlock(5))
        >>> loc, log_scale = group.prior(torch.zeros(4, 5))
        >>> loc.shape, group.update(torch.zeros(4, 5), loc).shape
        (torch.Size([4, 2]), torch.Size([4, 5]))
    """

    def __init__(
        self,
        layer: Callable[[int, int], nn.Module],
        latent_size: int,
        hidden_size: int,
        body: nn.Module,
        clamp: float | None = 5.0,
        dim: int = -1,
    ) -> None:
        super().__init__()
        if clamp is not None and not clamp > 0:
            raise ValueError(f"TopDown: clamp must be a positive number, or none, got {clamp}")
        self.act, self.body, self.clamp, self.dim = nn.SiLU(), body, clamp, dim
        self.prior_head = layer(hidden_size, 2 * latent_size)
        self.of_state, self.of_features = layer(hidden_size, hidden_size), layer(hidden_size, hidden_size)
        self.residual_head = layer(hidden_size, 2 * latent_size)
        self.of_latent = layer(latent_size, hidden_size)
        zero_(self.prior_head)
        zero_(self.residual_head)

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = self.prior_head(self.act(h)).chunk(2, dim=self.dim)
        return loc, self._clamped(log_scale)

    def residuals(self, h: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        joined = self.of_state(self.act(h)) + self.of_features(self.act(e))
        d_loc, d_log_scale = self._clamped(self.residual_head(self.act(joined))).chunk(2, dim=self.dim)
        return d_loc, d_log_scale

    def update(self, h: Tensor, z: Tensor) -> Tensor:
        return self.body(h + self.of_latent(z))

    def _clamped(self, x: Tensor) -> Tensor:
        return x if self.clamp is None else soft_clamp(x, self.clamp)


def dense_bottom_up(
    data_size: int, hidden_size: int, num_groups: int, num_blocks: int = 1, data_mean: Tensor | None = None
) -> BottomUp:
    """Features by residual multilayer perceptrons, for flattened data.

    Arguments:
        data_size: D.
        hidden_size: of the features.
        num_groups: L.
        num_blocks: residual blocks for each group.
        data_mean: (D,), taken off the data; zeros unless given.
    """
    stages = [dense_blocks(hidden_size, num_blocks) for _ in range(num_groups)]
    stages[0].insert(0, nn.Linear(data_size, hidden_size))
    return BottomUp(stages, torch.zeros(data_size) if data_mean is None else data_mean.flatten())


def dense_top_down(latent_size: int, hidden_size: int, num_blocks: int = 1, clamp: float | None = 5.0) -> TopDown:
    """A group of vectors whose heads are linear and whose state passes through residual multilayer perceptrons."""
    return TopDown(nn.Linear, latent_size, hidden_size, dense_blocks(hidden_size, num_blocks), clamp)


def dense_blocks(size: int, count: int) -> nn.Sequential:
    """Residual multilayer perceptrons one after another, (..., size) -> (..., size)."""
    return nn.Sequential(*(ResidualBlock(size) for _ in range(count)))
