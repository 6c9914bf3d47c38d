"""Programs whose evidence is known and whose path from guide to posterior can be drawn from exactly."""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pplvm.evaluation.annealing.path import AnnealingPath
from pplvm.evaluation.annealing.point import Point


class GammaPoisson(nn.Module):
    """z ~ Gamma(a, b), x | z ~ Poisson(z), a guide far off: every density of the path is a Gamma."""

    prior, guess = (2.0, 0.5), (3.0, 2.0)

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Gamma(*self.prior))
            pyro.sample("x", dist.Poisson(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Gamma(*self.guess))

    def on_path(self, x: Tensor, beta: float) -> dist.Gamma:
        (a, b), (c, d) = self.prior, self.guess
        return dist.Gamma((1 - beta) * c + beta * (a + float(x)), (1 - beta) * d + beta * (b + 1))

    def log_evidence(self, x: Tensor) -> Tensor:
        return dist.GammaPoisson(*map(torch.tensor, self.prior)).log_prob(x)


class Mixed(nn.Module):
    """c ~ Categorical, z | c ~ N(m_c, s_c^2), x | z ~ N(z, r^2), the guide's c and z apart and off."""

    weights, means, scales, noise = [0.5, 0.3, 0.2], [-2.0, 0.0, 2.0], [0.6, 0.4, 0.8], 0.7

    def model(self, x: Tensor) -> None:
        means, scales = torch.tensor(self.means), torch.tensor(self.scales)
        with pyro.plate("batch", len(x)):
            c = pyro.sample("c", dist.Categorical(torch.tensor(self.weights)))
            z = pyro.sample("z", dist.Normal(means[c], scales[c]))
            pyro.sample("x", dist.Normal(z, self.noise), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("c", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
            pyro.sample("z", dist.Normal(-0.3, 1.2))

    def log_evidence(self, x: Tensor) -> Tensor:
        spreads = (torch.tensor(self.scales).square() + self.noise**2).sqrt()
        each = dist.Normal(torch.tensor(self.means), spreads).log_prob(x.unsqueeze(-1))
        return (each + torch.tensor(self.weights).log()).logsumexp(-1)

    def on_path(self, x: Tensor, beta: float, draws: int) -> dict[str, Tensor]:
        """Exact draws (draws, 1) of f_beta, a mixture of Gaussians whose parts are products of Gaussians."""
        means, scales = torch.tensor(self.means), torch.tensor(self.scales)
        parts = [
            ((1 - beta), torch.tensor(-0.3), torch.tensor(1.2)),
            (beta, means, scales),
            (beta, x.squeeze(), torch.tensor(self.noise)),
        ]
        precision = sum(power / scale**2 for power, _, scale in parts)
        centre = sum(power * mean / scale**2 for power, mean, scale in parts) / precision
        masses = (1 - beta) * torch.tensor([0.2, 0.5, 0.3]).log() + beta * torch.tensor(self.weights).log()
        for power, mean, scale in parts:
            masses = masses + power * dist.Normal(mean, scale).log_prob(centre)
        c = dist.Categorical(logits=masses - precision.log() / 2).sample((draws,))
        return {"c": c[:, None], "z": dist.Normal(centre[c], precision[c] ** -0.5).sample()[:, None]}


class Simplex(nn.Module):
    """p ~ Dirichlet, counts | p ~ Multinomial."""

    prior = [0.8, 2.0, 1.5]

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            p = pyro.sample("p", dist.Dirichlet(torch.tensor(self.prior)))
            pyro.sample("x", dist.Multinomial(5, p), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("p", dist.Dirichlet(torch.tensor([2.0, 1.0, 1.0])))

    def log_evidence(self, x: Tensor) -> Tensor:
        return dist.DirichletMultinomial(torch.tensor(self.prior), 5).log_prob(x)


class Nested(nn.Module):
    """g ~ N(0, 1), z_m | g ~ N(g, 1) in a plate inside the batch, x_m | z_m ~ N(z_m, 1): x ~ N(0, 2 I + 1 1^T)."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x), dim=-1):
            g = pyro.sample("g", dist.Normal(0.0, 1.0))
            with pyro.plate("places", x.shape[1], dim=-2):
                z = pyro.sample("z", dist.Normal(g, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x.T)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x), dim=-1):
            pyro.sample("g", dist.Normal(0.3, 0.8))
            with pyro.plate("places", x.shape[1], dim=-2):
                pyro.sample("z", dist.Normal(x.T / 2, 1.0))

    def log_evidence(self, x: Tensor) -> Tensor:
        M = x.shape[1]
        return dist.MultivariateNormal(torch.zeros(M), 2 * torch.eye(M) + 1).log_prob(x)


class Codes(nn.Module):
    """Two codes of twelve values, which one draw of `flip` does not weigh all, one-hot, over a sum with noise."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            logits = torch.linspace(-1, 1, 12)
            c = pyro.sample("c", dist.OneHotCategorical(logits=logits.expand(2, 12)).to_event(1))
            value = (c * torch.arange(12.0)).sum(-1)
            pyro.sample("x", dist.Normal(value[..., 0] + value[..., 1] / 3, 0.8), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("c", dist.OneHotCategorical(logits=torch.zeros(2, 12)).to_event(1))


class Walled(nn.Module):
    """z ~ Gamma(2, 1), x | z ~ Uniform(0, z), which gives most draws of z no density: p(x) = exp(-x)."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Uniform(0.0, z, validate_args=False), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Gamma(1.5, 0.8))

    def log_evidence(self, x: Tensor) -> Tensor:
        return -x


def chi_square(counts: Tensor, shares: Tensor) -> float:
    """Of counts against their expected shares, in standard deviations above its mean; rare cells are one."""
    expected = shares / shares.sum() * counts.sum()
    order = expected.argsort(descending=True)
    counts, expected = counts[order], expected[order]
    often = int((expected > 20).sum()) - 1
    counts, expected = (torch.cat([each[:often], each[often:].sum()[None]]) for each in (counts, expected))
    degrees = len(counts) - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / math.sqrt(2 * degrees))


def z_of(samples: Tensor) -> float:
    """The mean of samples (T,) in standard errors."""
    return float(samples.mean() / (samples.std() / len(samples) ** 0.5))


def no_jacobian(monkeypatch: object) -> None:
    """A wrong path: the bijections' Jacobian is left out."""
    right = AnnealingPath._values

    def wrong(self, free, states):
        values, log_jacobian = right(self, free, states)
        return values, torch.zeros_like(log_jacobian)

    monkeypatch.setattr(AnnealingPath, "_values", wrong)


def wrong_sign(monkeypatch: object) -> None:
    """A wrong rule: trajectories are accepted by minus the change of log f."""
    right = Point.log_density
    monkeypatch.setattr(Point, "log_density", lambda self, beta: -right(self, beta))
