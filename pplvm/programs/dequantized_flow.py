"""A flow of grey values, dequantized: the model's latent is real, and the data are its whole part.

v ~ flow on [0, levels)^D,   x = floor(v) / (levels - 1),   q: v = k + u,   u in (0, 1) uniform or learned

log w = log p(k + u) - log q(u | k), so that iwae is importance-weighted dequantization.
"""

from collections.abc import Callable
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.distributions.dequantized import Dequantized
from pplvm.distributions.floor import Floor
from pplvm.distributions.grey_levels import require_levels
from pplvm.distributions.logistic import Logistic
from pplvm.distributions.transforms.scaled_sigmoid import ScaledSigmoid
from pplvm.programs.coupling_flows import ActivationNormalizer
from pplvm.programs.dequantizers import FlowDequantizer, UniformDequantizer
from pplvm.programs.split_couplings import SplitCouplings, mixture

__all__ = ["DequantizedFlow", "LevelsFlow", "dequantized_flow"]


class DequantizedFlow(nn.Module):
    """A density on [0, levels)^D with no other latent, and the noise by which its bins are integrated.

    Arguments:
        flow: called, gives the distribution of v, with event (D,) and support [0, levels)^D, as `LevelsFlow`.
        dequantizer: from k (B, D) to the distribution of u, with event (D,), on the unit interval.
        levels: of the data, which are k / (levels - 1).

    Raises:
        ValueError: levels is below 2; in guide(x), the noise has another size than the data.

    Example:
        >>> program = DequantizedFlow(LevelsFlow((6,), levels=4), UniformDequantizer(6), levels=4)
        >>> program.guide(torch.zeros(3, 6))

    References:
        Theis, van den Oord and Bethge, A note on the evaluation of generative models, 2016, arXiv:1511.01844
        Ho, Chen, Srinivas, Duan and Abbeel, Flow++: improving flow-based generative models with variational
        dequantization and architecture design, 2019, arXiv:1902.00275
    """

    def __init__(
        self,
        flow: Callable[[], dist.TorchDistribution],
        dequantizer: Callable[[Tensor], dist.TorchDistribution],
        levels: int,
    ) -> None:
        super().__init__()
        self.flow, self.dequantizer, self.levels = flow, dequantizer, _require_levels(levels)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            v = pyro.sample("x_continuous", self.flow())  # (K, B, D)
            pyro.sample("x", Floor(v, self.levels).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        k = (x.flatten(1) * (self.levels - 1)).round()  # (B, D)
        noise = self.dequantizer(k)
        if noise.event_shape != k.shape[1:]:
            raise ValueError(
                f"DequantizedFlow: the dequantizer gives noise of event shape {tuple(noise.event_shape)}, and a datum "
                f"has shape {tuple(k.shape[1:])} when flattened: make them equal"
            )
        with pyro.plate("batch", len(x)):
            pyro.sample("x_continuous", Dequantized(noise, k, self.levels))


class LevelsFlow(nn.Module):
    """A flow on [0, levels)^D: logit, activation normalization, mixture couplings, logistic noise.

    Arguments:
        shape: (D,) of vectors, or (C, H, W) of images; values are flattened.
        levels: the upper end.
        num_couplings: an even number.
        num_components: of the mixture of each coupling.
        channels: hidden, of each network.

    Raises:
        ValueError: as of `SplitCouplings`.

    Example:
        >>> LevelsFlow((1, 4, 4), levels=16)().event_shape
        torch.Size([16])
    """

    zeros: Tensor

    def __init__(
        self, shape: tuple[int, ...], levels: int, num_couplings: int = 4, num_components: int = 4, channels: int = 32
    ) -> None:
        super().__init__()
        self.couplings, self.levels = SplitCouplings(shape, num_couplings, mixture(num_components), channels), levels
        self.normalizer = ActivationNormalizer(self.couplings.size)
        self.register_buffer("zeros", torch.zeros(self.couplings.size))

    def initialise(self, k: Tensor) -> None:
        """Start the normalization at data (N, D), whole numbers, with noise in each bin that is spread evenly."""
        n, d = torch.arange(len(k), device=k.device).unsqueeze(-1), torch.arange(k.shape[-1], device=k.device)
        u = ((n + 0.5) / len(k) + GOLDEN * d).frac().to(k).clamp(1e-3, 1 - 1e-3)
        self.normalizer.initialise(ScaledSigmoid(self.levels).inv(k + u))

    def forward(self) -> dist.TorchDistribution:
        chain = [ScaledSigmoid(self.levels).inv, self.normalizer(), *self.couplings()]
        noise = Logistic(self.zeros, 1.0).to_event(1)
        return dist.TransformedDistribution(noise, [t.inv for t in reversed(chain)])


GOLDEN = 0.6180339887498949
"""Multiples of the golden ratio are spread evenly, modulo 1."""


def dequantized_flow(
    data_size: int,
    levels: int | None = None,
    data_shape: tuple[int, ...] | None = None,
    data_examples: Tensor | None = None,
    dequantizer: Literal["uniform", "variational"] = "uniform",
    num_couplings: int = 4,
    num_components: int = 4,
    channels: int = 32,
) -> DequantizedFlow:
    """A `DequantizedFlow` of mixture couplings, convolutional for images, with a dequantizer by name.

    Arguments:
        data_size: D.
        levels: of the data; real data have none.
        data_shape: (C, H, W) of images, H and W even; None for vectors.
        data_examples: (N, D), from which the flow's normalization starts.
        dequantizer: "uniform", or "variational" for a flow given k.
        num_couplings: of the flow, an even number.
        num_components: of the mixture of each coupling.
        channels: hidden, of each network of the flow; half as many of the dequantizer; 0 for dense networks.

    Raises:
        ValueError: the data have no levels, there is no such dequantizer, or sizes do not fit.

    Example:
        >>> program = dequantized_flow(data_size=6, levels=4, dequantizer="variational")
        >>> program.guide(torch.zeros(3, 6))
    """
    if dequantizer not in DEQUANTIZERS:
        names = " or ".join(map(repr, DEQUANTIZERS))
        raise ValueError(f"dequantized_flow: dequantizer must be {names}, got {dequantizer!r}")
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 0:
        raise ValueError(f"dequantized_flow: channels must be 0, for dense networks, or positive, got {channels!r}")
    levels = _require_levels(levels)
    shape = (data_size,) if data_shape is None or channels == 0 else tuple(data_shape)
    flow = LevelsFlow(shape, levels, num_couplings, num_components, channels or DENSE)
    if data_examples is not None:
        flow.initialise((data_examples * (levels - 1)).round())
    return DequantizedFlow(flow, DEQUANTIZERS[dequantizer](shape, levels, channels or DENSE), levels)


DENSE = 128
"""Hidden units of dense networks."""

DEQUANTIZERS: dict[str, Callable[[tuple[int, ...], int, int], nn.Module]] = {
    "uniform": lambda shape, levels, channels: UniformDequantizer(torch.Size(shape).numel()),
    "variational": lambda shape, levels, channels: FlowDequantizer(shape, levels, channels=max(1, channels // 2)),
}


def _require_levels(levels: int | None) -> int:
    if levels is None:
        raise ValueError(
            "DequantizedFlow: real data have no levels: give data of grey levels, with --levels if they are grey "
            "images, or take a density of real data, as ppca"
        )
    return require_levels(levels, "DequantizedFlow")
