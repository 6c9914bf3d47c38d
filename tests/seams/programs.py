"""Six small programs, one for each seam, as a user would write them; the closed forms of each beside it.

The tests copy this file to a user's own directory and name its programs by import path, `seams:SemiSupervised`.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pplvm.networks.leading_dims import LeadingDims
from pplvm.objectives.pathwise import AnalyticKL


class SemiSupervised(nn.Module):
    """M2 of linear Gaussians: y ~ Cat(pi), z ~ N(0, I), x ~ N(mu_y + W z, s^2 I); the label y is -1 where unknown."""

    def __init__(self, data_size: int, num_classes: int, latent_size: int = 2) -> None:
        super().__init__()
        self.classes, self.latent_size = num_classes, latent_size
        self.logits = nn.Parameter(torch.linspace(-0.3, 0.4, num_classes))
        self.means = nn.Parameter(torch.randn(num_classes, data_size))
        self.weight, self.log_s = (
            nn.Parameter(torch.randn(data_size, latent_size) / 2),
            nn.Parameter(torch.tensor(-0.2)),
        )
        self.classifier = nn.Linear(data_size, num_classes)
        self.encoder = nn.Linear(data_size + num_classes, latent_size)
        self.log_scale = nn.Parameter(torch.full((latent_size,), -0.5))

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            label = pyro.sample("y", dist.Categorical(logits=self.logits), obs=y.clamp(min=0), obs_mask=y >= 0)
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_size), 1.0).to_event(1))
            mean = self.means[label] + z @ self.weight.T
            pyro.sample("x", dist.Normal(mean, self.log_s.exp()).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor, y: Tensor) -> None:
        x = x.flatten(1)
        with pyro.plate("batch", len(x)):
            with poutine.mask(mask=y < 0):
                drawn = pyro.sample("y_unobserved", dist.Categorical(logits=self.classifier(x)))
            label = torch.where(y < 0, drawn, y)
            pyro.sample("z", dist.Normal(self.encoded(x, label), self.log_scale.exp()).to_event(1))

    def encoded(self, x: Tensor, label: Tensor) -> Tensor:
        told = one_hot(label, self.classes).to(x.dtype)
        return self.encoder(torch.cat([x.expand(*told.shape[:-1], x.shape[-1]), told], -1))

    def elbo(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,), y summed where it is unknown and z in closed form."""
        every = torch.arange(self.classes).expand(len(x), -1)  # (B, C)
        of_label = self.elbo_given(x.unsqueeze(1), every)
        log_q = self.classifier(x).log_softmax(-1)
        unknown = (log_q.exp() * (of_label - log_q)).sum(-1)
        return torch.where(y < 0, unknown, of_label.gather(1, y.clamp(min=0).unsqueeze(1)).squeeze(1))

    def elbo_given(self, x: Tensor, label: Tensor) -> Tensor:
        """E_q(z | x, y) log p(x, y, z) / q(z | x, y)."""
        loc, scale, s2 = self.encoded(x, label), self.log_scale.exp(), (2 * self.log_s).exp()
        gap = (x - self.means[label] - loc @ self.weight.T).square().sum(-1)
        gap = gap + (self.weight.square() * scale.square()).sum()
        log_lik = -0.5 * (gap / s2 + x.shape[-1] * (math.log(2 * math.pi) + 2 * self.log_s))
        kl = 0.5 * (loc.square() + scale.square() - 1 - 2 * self.log_scale).sum(-1)
        return self.logits.log_softmax(0)[label] + log_lik - kl

    def log_joint(self, x: Tensor, y: Tensor) -> Tensor:
        """log p(x, y) where y is known and log p(x) where it is not, (B,)."""
        given = linear_gaussian(self.weight, self.log_s, self.means).log_prob(x.unsqueeze(1))  # (B, C)
        both = given + self.logits.log_softmax(0)
        return torch.where(y < 0, both.logsumexp(-1), both.gather(1, y.clamp(min=0).unsqueeze(1)).squeeze(1))

    @torch.no_grad()
    def at_posterior(self) -> "SemiSupervised":
        """With the exact posterior of y, and of a single latent z, as guide."""
        fill_encoder(self, self.encoder)
        covariance = linear_gaussian(self.weight, self.log_s, self.means[0]).covariance_matrix
        directions = torch.linalg.solve(covariance, self.means.T).T  # (C, D)
        self.classifier.weight.copy_(directions)
        self.classifier.bias.copy_(self.logits.log_softmax(0) - 0.5 * (directions * self.means).sum(-1))
        return self


class Labelled(nn.Module):
    """A mixture without other latents: y ~ Cat(pi), x ~ N(mu_y, I), y known for some (-1 where not), no guide to y."""

    def __init__(self, data_size: int, num_classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(-0.3, 0.4, num_classes))
        self.means = nn.Parameter(torch.randn(num_classes, data_size))

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            label = pyro.sample("y", dist.Categorical(logits=self.logits), obs=y.clamp(min=0), obs_mask=y >= 0)
            pyro.sample("x", dist.Normal(self.means[label], 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor) -> None:
        pass

    def log_joint(self, x: Tensor, y: Tensor) -> Tensor:
        given = dist.Normal(self.means, 1.0).to_event(1).log_prob(x.unsqueeze(1))
        both = given + self.logits.log_softmax(0)
        return torch.where(y < 0, both.logsumexp(-1), both.gather(1, y.clamp(min=0).unsqueeze(1)).squeeze(1))


class Conditional(nn.Module):
    """z ~ N(0, I), x ~ N(mu_y + W z, s^2 I): the label y is given to both sides and never modelled."""

    def __init__(self, data_size: int, num_classes: int, latent_size: int = 2) -> None:
        super().__init__()
        self.classes, self.latent_size = num_classes, latent_size
        self.means = nn.Parameter(torch.randn(num_classes, data_size))
        self.weight, self.log_s = (
            nn.Parameter(torch.randn(data_size, latent_size) / 2),
            nn.Parameter(torch.tensor(-0.2)),
        )
        self.encoder = nn.Linear(data_size + num_classes, latent_size)
        self.log_scale = nn.Parameter(torch.full((latent_size,), -0.5))

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_size), 1.0).to_event(1))
            mean = self.means[y] + z @ self.weight.T
            pyro.sample("x", dist.Normal(mean, self.log_s.exp()).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor, y: Tensor) -> None:
        told = torch.cat([x.flatten(1), one_hot(y, self.classes).to(x.dtype)], -1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(told), self.log_scale.exp()).to_event(1))

    def log_given(self, x: Tensor, y: Tensor) -> Tensor:
        """log p(x | y), (B,)."""
        return linear_gaussian(self.weight, self.log_s, self.means[y]).log_prob(x)

    @torch.no_grad()
    def at_posterior(self) -> "Conditional":
        """With the exact posterior of a single latent z as guide."""
        fill_encoder(self, self.encoder)
        return self


class Penalized(nn.Module):
    """z ~ N(0, I), x ~ N(W z, I) with a guide N(A x, s^2 I) that tells two penalties, `far` and `wide`."""

    def __init__(self, data_size: int, latent_size: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(data_size, latent_size) / 2)
        self.encoder = nn.Linear(data_size, latent_size)
        self.log_scale = nn.Parameter(torch.full((latent_size,), -0.5))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.weight.shape[1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.weight.T, 1.0).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        loc, scale = self.encoder(x.flatten(1)), self.log_scale.exp()
        with pyro.plate("batch", len(x)):
            pyro.deterministic("far", loc.square().sum(-1))
            pyro.deterministic("wide", scale.square().sum().expand(len(x)))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def elbo(self, x: Tensor) -> Tensor:
        loc, scale = self.encoder(x), self.log_scale.exp()
        gap = (x - loc @ self.weight.T).square().sum(-1) + (self.weight.square() * scale.square()).sum()
        log_lik = -0.5 * (gap + x.shape[-1] * math.log(2 * math.pi))
        return log_lik - 0.5 * (loc.square() + scale.square() - 1 - 2 * self.log_scale).sum(-1)

    def penalties(self, x: Tensor) -> dict[str, Tensor]:
        """Mean of each over the batch."""
        return {"far": self.encoder(x).square().sum(-1).mean(), "wide": (2 * self.log_scale).exp().sum()}


WEIGHTS = {"far": 0.3, "wide": 2.0}


def with_penalties():
    """The objective of `Penalized`, for the command line."""
    from pplvm.objectives.penalized import Penalized as Weighed

    return Weighed(AnalyticKL(), WEIGHTS)


class Gaussian(nn.Module):
    """N(loc, exp(log_scale)^2 I) as a part of a program."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    def forward(self) -> dist.Distribution:
        return dist.Normal(self.loc, self.log_scale.exp()).to_event(1)


class TwoStages(nn.Module):
    """x ~ N(W z + b, s^2 I) under a standard normal prior, or (`learned_prior`) one that a second stage learns.

    The encoder has batch norm and dropout, whose state a frozen encoder must keep.
    """

    def __init__(self, data_size: int, latent_size: int = 2, learned_prior: bool = False) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.decoder = nn.Linear(latent_size, data_size)
        self.log_s = nn.Parameter(torch.tensor(-0.2))
        self.encoder = nn.Sequential(
            nn.Linear(data_size, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2 * latent_size)
        )
        self.prior = Gaussian(latent_size) if learned_prior else None

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            standard = dist.Normal(x.new_zeros(self.latent_size), 1.0).to_event(1)
            z = pyro.sample("z", standard if self.prior is None else self.prior())
            pyro.sample("x", dist.Normal(self.decoder(z), self.log_s.exp()).to_event(1), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        loc, log_scale = self.encoder(x.flatten(1)).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    def log_evidence_known(self, x: Tensor) -> Tensor:
        """log p(x) under the learned prior, (B,)."""
        W, prior = self.decoder.weight, self.prior
        loc, scale = prior.loc, prior.log_scale.exp()
        return linear_gaussian(W * scale, self.log_s, self.decoder.bias + W @ loc).log_prob(x)


class Convolutional(nn.Module):
    """A small VAE of images (C, H, W), with convolutions in encoder and decoder."""

    def __init__(self, data_shape: tuple[int, int, int], latent_size: int = 3, channels: int = 4) -> None:
        super().__init__()
        C, H, W = data_shape
        self.latent_size, self.half = latent_size, (channels, H // 2, W // 2)
        size = math.prod(self.half)
        down = nn.Sequential(nn.Conv2d(C, channels, 4, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(size, 2 * latent_size))
        self.encoder = LeadingDims(down, 3)
        up = nn.Sequential(
            nn.Linear(latent_size, size),
            nn.Unflatten(-1, self.half),
            nn.SiLU(),
            nn.ConvTranspose2d(channels, C, 4, 2, 1),
        )
        self.decoder = LeadingDims(up, 1)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_size), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(3), obs=x)

    def guide(self, x: Tensor) -> None:
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


class WithoutLatents(nn.Module):
    """A Gaussian with a full covariance L L^T: its log p(x) is exact, and its guide is empty."""

    def __init__(self, data_size: int) -> None:
        super().__init__()
        self.loc, self.below = nn.Parameter(torch.zeros(data_size)), nn.Parameter(torch.zeros(data_size, data_size))
        self.log_diagonal = nn.Parameter(torch.zeros(data_size))

    def density(self) -> dist.Distribution:
        lower = self.below.tril(-1) + self.log_diagonal.exp().diag()
        return dist.MultivariateNormal(self.loc, scale_tril=lower)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("x", self.density(), obs=x.flatten(1))

    def guide(self, x: Tensor) -> None:
        pass


def linear_gaussian(weight: Tensor, log_s: Tensor, mean: Tensor) -> dist.Distribution:
    """N(mean, W W^T + s^2 I)."""
    noise = (2 * log_s).exp() * torch.eye(len(weight), dtype=weight.dtype)
    return dist.MultivariateNormal(mean, weight @ weight.T + noise)


def fill_encoder(program: nn.Module, encoder: nn.Linear) -> None:
    """The posterior of one latent z given x and the label: N((x - mu_y) w / (s^2 + w^2), s^2 / (s^2 + w^2))."""
    w, s2 = program.weight[:, 0], (2 * program.log_s).exp()
    total = s2 + w.square().sum()
    encoder.weight.copy_(torch.cat([w, -program.means @ w])[None] / total)
    encoder.bias.zero_()
    program.log_scale.copy_((s2 / total).log().expand(1) / 2)
