"""The parts of a top-down hierarchy of latents, made of residual blocks."""

import torch
from torch import Tensor, nn

from pplvm.networks.soft_clamp import soft_clamp

__all__ = ["BottomUp", "ResidualBlock", "StateToOutputs", "TopDown"]


class ResidualBlock(nn.Module):
    """h + W_2 a(W_1 a(h)), a = SiLU, which is the identity at the start.

    Arguments:
        size: of the last dimension, (..., size) -> (..., size).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.act, self.first, self.second = nn.SiLU(), nn.Linear(size, size), nn.Linear(size, size)
        _zero(self.second)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.second(self.act(self.first(self.act(h))))


class StateToOutputs(nn.Module):
    """Residual blocks, an activation, and a linear layer.

    Arguments:
        in_size: equal to `hidden_size`, or a linear layer comes first.
        out_size: (..., in_size) -> (..., out_size).
        hidden_size: of the blocks.
        blocks: their number.

    Example:
        >>> StateToOutputs(3, 2, hidden_size=5, blocks=1)(torch.zeros(7, 4, 3)).shape
        torch.Size([7, 4, 2])
    """

    def __init__(self, in_size: int, out_size: int, hidden_size: int, blocks: int) -> None:
        super().__init__()
        first = nn.Identity() if in_size == hidden_size else nn.Linear(in_size, hidden_size)
        self.layers = nn.Sequential(first, *(ResidualBlock(hidden_size) for _ in range(blocks)), nn.SiLU())
        self.last = nn.Linear(hidden_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x))


class BottomUp(nn.Module):
    """Features of a datum for each group of latents, the topmost first, which has seen the most blocks.

    Arguments:
        data_size: D.
        hidden_size: of the features, (B, D) -> a list of (B, hidden_size).
        groups: the number of groups, L.
        blocks: residual blocks for each group.
        data_mean: (D,), taken off the data first.

    Example:
        >>> [e.shape for e in BottomUp(6, hidden_size=5, groups=2, blocks=1)(torch.zeros(3, 6))]
        [torch.Size([3, 5]), torch.Size([3, 5])]
    """

    centre: Tensor

    def __init__(
        self, data_size: int, hidden_size: int, groups: int, blocks: int, data_mean: Tensor | None = None
    ) -> None:
        super().__init__()
        self.first = nn.Linear(data_size, hidden_size)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(hidden_size) for _ in range(blocks))) for _ in range(groups)
        )
        mean = torch.zeros(data_size) if data_mean is None else data_mean.flatten()
        self.register_buffer("centre", mean.to(self.first.weight))

    def forward(self, x: Tensor) -> list[Tensor]:
        h, found = self.first(x.flatten(1) - self.centre), []
        for level in self.levels:
            h = level(h)
            found.append(h)
        return found[::-1]


class TopDown(nn.Module):
    """One group of a hierarchy: what its latent's prior and posterior are, given the state, and how it moves the state.

        prior(h) -> loc, log_scale        residuals(h, e) -> d_loc, d_log_scale, zero at the start
        update(h, z) -> h                 all log scales, and all residuals, softly clamped

    Arguments:
        latent_size: Z of this group.
        hidden_size: of the state h and of the features e.
        blocks: residual blocks after the latent has come in.
        clamp: bound of log scales and residuals; None for no bound.
    """

    def __init__(self, latent_size: int, hidden_size: int, blocks: int, clamp: float | None = 5.0) -> None:
        super().__init__()
        self.act, self.clamp = nn.SiLU(), clamp
        self.prior_head = nn.Linear(hidden_size, 2 * latent_size)
        self.of_state, self.of_features = (nn.Linear(hidden_size, hidden_size) for _ in range(2))
        self.residual_head = nn.Linear(hidden_size, 2 * latent_size)
        self.of_latent = nn.Linear(latent_size, hidden_size)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden_size) for _ in range(blocks)))
        _zero(self.prior_head)
        _zero(self.residual_head)

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = self.prior_head(self.act(h)).chunk(2, dim=-1)
        return loc, self._clamped(log_scale)

    def residuals(self, h: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        joined = self.of_state(self.act(h)) + self.of_features(self.act(e))
        d_loc, d_log_scale = self._clamped(self.residual_head(self.act(joined))).chunk(2, dim=-1)
        return d_loc, d_log_scale

    def update(self, h: Tensor, z: Tensor) -> Tensor:
        return self.blocks(h + self.of_latent(z))

    def _clamped(self, x: Tensor) -> Tensor:
        return x if self.clamp is None else soft_clamp(x, self.clamp)


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
