"""Programs with what may keep a loss from being one graph: buffers that move, modes, all kinds of draws, host reads."""

import ctypes
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import Tensor, nn

from pplvm.programs.vae import VAE


class Small(VAE):
    """A VAE of 8 pixels and 2 latents, whose guide children change."""

    def __init__(self, **options: Any) -> None:
        super().__init__(8, 2, (5,), **options)

    def guide(self, x: Tensor) -> None:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", self.posterior(loc, log_scale, x))

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        return dist.Normal(loc, log_scale.exp()).to_event(1)


class Modes(Small):
    """Batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, 4))


class Codebook(Small):
    """Buffers that the program moves, one in place and one by assignment, by a one-hot code."""

    book: Tensor
    uses: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("book", torch.randn(4, 2))
        self.register_buffer("uses", torch.zeros(4))

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        code = torch.cdist(loc, self.book).argmin(-1)
        if self.training:
            with torch.no_grad():
                chosen = nn.functional.one_hot(code, 4).to(loc)
                self.uses.mul_(0.9).add_(chosen.sum(0))
                self.book = 0.9 * self.book + 0.1 * chosen.T @ loc
        return dist.Normal(loc + self.book[code], log_scale.exp()).to_event(1)


class Tempered(Small):
    """A number on the program that a user changes between steps, and one in a buffer."""

    warmth: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0
        self.register_buffer("warmth", torch.ones(()))

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        return dist.Normal(loc, self.temperature * self.warmth * log_scale.exp()).to_event(1)


class Flow(Small):
    """An autoregressive and a planar flow of Pyro's."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = dist.transforms.affine_autoregressive(2, [4])
        self.planar = dist.transforms.planar(2)

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        base = dist.Normal(loc, log_scale.exp()).to_event(1)
        return dist.TransformedDistribution(base, [self.flow, self.planar])


class Gammas(Small):
    """Draws that no constants make, so that they stay in the graph."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Gamma(torch.ones_like(self.zeros), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        return dist.Gamma(log_scale.exp(), loc.exp()).to_event(1)


class Mixed(Small):
    """A normal, a uniform and a gamma in turn: what follows the gamma must not be drawn before it."""

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        shifted = loc + dist.Uniform(torch.zeros_like(loc), 1.0).sample()
        shifted = shifted + dist.Gamma(torch.ones_like(loc), 1.0).sample() + torch.randperm(2)
        return dist.Normal(shifted, log_scale.exp()).to_event(1)


class OneHot(Small):
    """A one-hot latent, whose draw peeks at the data on the host."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.OneHotCategorical(logits=self.zeros))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        return dist.OneHotCategorical(logits=loc)


class Minibatch(Small):
    """A plate that draws three of the data itself."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x), subsample_size=3) as chosen:
            some = x[chosen]
            z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=some)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x), subsample_size=3) as chosen:
            loc, log_scale = self.encoder(x[chosen]).chunk(2, -1)
            pyro.sample("z", self.posterior(loc, log_scale, x))


class Regression(PyroModule):
    """Bayesian weights under an autoguide, a positive parameter."""

    def __init__(self, autoguide: type = AutoNormal) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](8, 1)
        self.linear.weight = PyroSample(dist.Normal(torch.zeros(1, 8), 1.0).to_event(2))
        self.linear.bias = PyroParam(torch.ones(1), constraint=dist.constraints.positive)
        self.autoguide = autoguide(self.model)

    def model(self, x: Tensor) -> None:
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x[:, 0])

    def guide(self, x: Tensor) -> Any:
        return self.autoguide(x)


class DiagonalRegression(Regression):
    def __init__(self) -> None:
        super().__init__(AutoDiagonalNormal)


class Branching(Small):
    """Python that decides by a value."""

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        if loc.mean() > 0:
            loc = loc + 1
        return dist.Normal(loc, log_scale.exp()).to_event(1)


class Numpy(Small):
    """Numbers that leave torch."""

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        mean = torch.from_numpy(x.numpy().mean(1, keepdims=True))
        return dist.Normal(loc + mean, log_scale.exp()).to_event(1)


class Unseen(Small):
    """Numbers that leave torch by a way that nothing watches."""

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        row = (ctypes.c_double * 8).from_address(x.data_ptr())
        weighed = sum(2**i * value for i, value in enumerate(row))
        return dist.Normal(loc + weighed, log_scale.exp()).to_event(1)


class Counting(Small):
    """State in a number."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        self.calls += 1
        return dist.Normal(loc + 1 / self.calls, log_scale.exp()).to_event(1)


class Recursive(Small):
    """A sampler that loops until all of its draws are accepted."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.VonMises(self.zeros[0], 1.0))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(torch.stack([z, z], -1))).to_event(1), obs=x)

    def posterior(self, loc: Tensor, log_scale: Tensor, x: Tensor) -> dist.TorchDistribution:
        return dist.VonMises(loc[:, 0], log_scale[:, 0].exp())
