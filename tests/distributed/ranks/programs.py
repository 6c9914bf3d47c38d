"""Losses and programs that go wrong under data parallelism, each in its own way, and the batch that they are given."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pplvm.distributed.collectives import shared_mean
from pplvm.distributed.ranks import rank, size
from pplvm.programs.vae import VAE

B = 14  # a size of nothing else here, nor is half of it, by which noise finds the data's dimension


def whole_batch():
    return (torch.rand(B, 8, generator=torch.Generator().manual_seed(2)) < 0.4).double()


def my_half():
    share = B // size()
    return slice(rank() * share, (rank() + 1) * share)


def vae():
    torch.manual_seed(1)
    return VAE(8, 2, (5,))


class Lazy(VAE):
    """A guide that makes its parameters when it is first run, as Pyro's AutoGuides do."""

    def __init__(self):
        super().__init__(8, 2, (5,))
        self.encoder = nn.LazyLinear(4)

    def guide(self, x):
        if not hasattr(self, "shift"):
            self.shift = nn.Parameter(torch.randn(2))
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc + self.shift, log_scale.exp()).to_event(1))


class Subsampling(VAE):
    """Given all the data, it picks some by itself."""

    def model(self, x):
        with pyro.plate("batch", len(x), subsample_size=4) as self.rows:
            z = pyro.sample("z", dist.Normal(self.zeros, 1.0).to_event(1))
            logits = self.decoder(z)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x[self.rows])

    def guide(self, x):
        with pyro.plate("batch", len(x), subsample_size=4) as rows:
            loc, log_scale = self.encoder(x[rows]).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


class Heads(nn.Module):
    """One of two heads is used, or both from the second step on."""

    def __init__(self, sometimes=False):
        super().__init__()
        self.used, self.other, self.sometimes, self.steps = nn.Linear(8, 1), nn.Linear(8, 1), sometimes, 0

    def forward(self, x):
        self.steps += 1
        both = self.sometimes and self.steps == 1
        return (self.used(x) + (self.other(x) if both else 0.0)).mean()


class Normed(VAE):
    def __init__(self):
        super().__init__(8, 2, (5,))
        self.encoder = nn.Sequential(nn.BatchNorm1d(8), self.encoder)


class Standardized(nn.Module):
    """Starts from the statistics of its first batch, as activation normalization does."""

    def __init__(self, of_all):
        super().__init__()
        self.of_all, self.shift = of_all, nn.Parameter(torch.zeros(8))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, x):
        if self.training and not self.started:
            with torch.no_grad():
                self.shift.copy_(shared_mean(x.mean(0)) if self.of_all else x.mean(0))
                self.started.fill_(True)
        return (x - self.shift).square().mean()


class Branching(VAE):
    """Two latents; whether the model reads the second depends on the data."""

    def model(self, x):
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(2)).to_event(1))
            y = pyro.sample("y", dist.Bernoulli(0.5 * torch.ones(2)).to_event(1))
            read = torch.cat([z, y if x[0, 0] > 0 else torch.zeros(2).expand(z.shape)], -1)
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(read[..., :2] + read[..., 2:])).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("batch", len(x)):
            first, second = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Bernoulli(logits=first).to_event(1))
            pyro.sample("y", dist.Bernoulli(logits=second).to_event(1))


class Masked(nn.Module):
    """A loss of data, integer labels and masks, without noise."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.encoder, self.embedding = nn.Linear(8, 4), nn.Embedding(3, 4)

    def forward(self, x, y, seen):
        return (self.encoder(torch.where(seen, x, 0.5)) - self.embedding(y)).square().sum(-1).mean()


def whole_batch_with_conditions():
    seen = torch.rand(B, 8, generator=torch.Generator().manual_seed(3)) < 0.7
    return whole_batch(), torch.arange(B) % 3, seen
