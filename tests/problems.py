"""Programs whose answers are known, and the exact moments of estimators on them.

Numbers D1, D2, ... name the closed forms of the field's notes: Gaussian quadratic, Bernoulli toy, estimator
enumeration, linear Gaussian.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from pplvm.objectives.objective import Objective
from pplvm.particles.enumeration import enumerate_guide
from pplvm.particles.pair import Pair, pair_up
from pplvm.programs.sigmoid_belief import SigmoidBeliefNet


def small_net(latent_sizes=(2,), data_size=3, seed=0) -> SigmoidBeliefNet:
    """A belief net with parameters drawn widely enough that nothing is symmetric."""
    torch.manual_seed(seed)
    net = SigmoidBeliefNet(data_size, latent_sizes)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn_like(p))
    return net


def two_data() -> Tensor:
    return torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


class BernoulliToy(nn.Module):
    """D2: b ~ Bern(sigmoid(phi)), log w = (b - t)^2; the model's prior is the guide held still."""

    def __init__(self, phi: float, t: float) -> None:
        super().__init__()
        self.phi, self.t = nn.Parameter(torch.tensor([phi])), t

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=self.phi.detach()).to_event(1))
            pyro.factor("gain", (b[..., 0] - self.t) ** 2)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=self.phi).to_event(1))


class PathlessNormal(dist.Normal):
    """A normal whose draws carry no gradient; Pyro's `has_rsample_(False)` does not survive `.to_event` in a plate."""

    has_rsample = False


class Quadratic(nn.Module):
    """D1: z ~ N(mu, sigma^2 I_D), log w = -||z - c||^2; the model's prior is the guide held still."""

    def __init__(self, mu: Tensor, sigma: float, c: Tensor, has_path: bool) -> None:
        super().__init__()
        self.mu, self.sigma, self.c, self.has_path = nn.Parameter(mu), sigma, c, has_path

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(self.mu.detach(), self.sigma).to_event(1))
            pyro.factor("gain", -(z - self.c).square().sum(-1))

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            kind = dist.Normal if self.has_path else PathlessNormal
            pyro.sample("z", kind(self.mu, self.sigma).to_event(1))


class LinearGaussian(nn.Module):
    """D4: z ~ N(0, I), x | z ~ N(W z + b, s^2 I); log p(x) and the posterior are known.

    The guide is N(A x + a, diag(exp(log_scale))^2), which `at_posterior` sets to the posterior where W^T W is
    diagonal.
    """

    def __init__(self, weight: Tensor, bias: Tensor, s: float) -> None:
        super().__init__()
        D, Z = weight.shape
        self.weight, self.bias, self.s = nn.Parameter(weight), nn.Parameter(bias), s
        self.encoder = nn.Linear(D, Z)
        self.log_scale = nn.Parameter(torch.zeros(Z))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.weight.shape[1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.weight.T + self.bias, self.s).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), self.log_scale.exp()).to_event(1))

    def covariance(self) -> Tensor:
        W = self.weight
        return torch.linalg.inv(torch.eye(W.shape[1]) + W.T @ W / self.s**2)

    def log_evidence(self, x: Tensor) -> Tensor:
        W = self.weight
        covariance = W @ W.T + self.s**2 * torch.eye(len(W))
        return torch.distributions.MultivariateNormal(self.bias, covariance).log_prob(x)

    @torch.no_grad()
    def at_posterior(self) -> "LinearGaussian":
        gain = self.covariance() @ self.weight.T / self.s**2
        self.encoder.weight.copy_(gain)
        self.encoder.bias.copy_(-gain @ self.bias)
        self.log_scale.copy_(self.covariance().diagonal().log() / 2)
        return self


def linear_gaussian(latent_size=2, data_size=3) -> LinearGaussian:
    """With orthogonal columns, so that the posterior is diagonal."""
    torch.manual_seed(1)
    basis = torch.linalg.qr(torch.randn(data_size, latent_size))[0]
    return LinearGaussian(basis * torch.tensor([1.3, 0.7])[:latent_size], torch.randn(data_size), 0.6)


class Forced(Messenger):
    """Sites take the given values instead of draws."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] in self.values and not msg["done"] and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def states_of(pair: Pair, x: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Each latent's value in each joint state (S, event...), and the tables log p, log q (S, B)."""
    seen = {}

    class Record(Messenger):
        def _pyro_post_sample(self, msg):
            if not msg["is_observed"] and not site_is_subsample(msg):
                seen[msg["name"]] = (msg["value"], msg["fn"].event_dim)

    with Record():
        log_p, log_q = enumerate_guide(pair, (x,), {})
    batch = torch.broadcast_shapes(*[v.shape[: v.dim() - event] for v, event in seen.values()])
    values = {
        name: v.expand(*batch, *v.shape[v.dim() - event :]).reshape(-1, *v.shape[v.dim() - event :])
        for name, (v, event) in seen.items()
    }
    return values, log_p, log_q


def every_draw(objective: Objective, program: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D3: all S^K draws of one datum (1, D), as rows of a batch: their probability, surrogate, value, each (T,)."""
    pair = pair_up(program.model, program.guide, (x,), {})
    values, _, log_q = states_of(pair, x)
    K, S = objective.num_particles, len(log_q)
    tuples = torch.tensor(list(itertools.product(range(S), repeat=K))).T  # (K, T)
    probability = log_q[:, 0].detach()[tuples].sum(0).exp()
    with Forced({name: v[tuples] if K > 1 else v[tuples[0]] for name, v in values.items()}):
        estimate = objective.estimate(pair, x.expand(tuples.shape[1], -1))
    return probability, estimate.surrogate, estimate.value.detach()


def exact_moments(objective: Objective, program: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean gradient (P,), its variance (P,) and the mean value over every draw: no Monte Carlo, no tolerance."""
    probability, surrogate, value = every_draw(objective, program, x)
    gradients = per_row_gradients(surrogate, list(program.parameters()))  # (T, P)
    mean = probability @ gradients
    return mean, probability @ gradients.square() - mean.square(), float(probability @ value)


def exact_mean(objective: Objective, program: nn.Module, x: Tensor) -> Tensor:
    """The mean gradient alone (P,), in one backward pass."""
    probability, surrogate, _ = every_draw(objective, program, x)
    return per_row_gradients((probability @ surrogate).reshape(1), list(program.parameters()))[0]


def hermite_grid(nodes: int, dims: int) -> tuple[Tensor, Tensor]:
    """Gauss-Hermite quadrature over a standard normal: probability (T,) and noise (dims, T), T = nodes^dims."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(list(itertools.product(range(nodes), repeat=dims))).T
    return torch.tensor(weights / weights.sum())[grid].prod(0), torch.tensor(points)[grid]


def quadrature_mean(
    objective: Objective,
    program: nn.Module,
    x: Tensor,
    paths: Callable[[Tensor], dict[str, Tensor]],
    nodes: int,
    dims: int,
) -> Tensor:
    """The mean gradient (P,) of one datum (1, D) over a Gaussian guide's noise, dims numbers a particle.

    `paths` turns noise (K, T, dims) into the value of each latent, on its path.
    """
    K = objective.num_particles
    probability, noise = hermite_grid(nodes, K * dims)
    draws = paths(noise.reshape(K, dims, -1).transpose(1, 2))
    pair = pair_up(program.model, program.guide, (x,), {})
    with Forced(draws if K > 1 else {name: value[0] for name, value in draws.items()}):
        surrogate = objective.estimate(pair, x.expand(len(probability), -1)).surrogate
    return per_row_gradients((probability @ surrogate).reshape(1), list(program.parameters()))[0]


def entries(program: nn.Module, word: str) -> Tensor:
    """Which entries of the parameter vector (P,) belong to tensors whose name holds the word."""
    return torch.cat([torch.full((p.numel(),), word in name) for name, p in program.named_parameters()])


def per_row_gradients(values: Tensor, parameters: list[Tensor]) -> Tensor:
    """The gradient of each of T values, (T, P): one vectorized backward pass."""
    found = torch.autograd.grad(values, parameters, torch.eye(len(values)), is_grads_batched=True, allow_unused=True)
    parts = [torch.zeros(len(values), *p.shape) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([part.reshape(len(values), -1) for part in parts], 1)


def sampled_gradients(objective: Objective, program: nn.Module, x: Tensor, draws: int) -> Tensor:
    """Independent gradients of one datum (1, D), (draws, P), a hundred rows at a time."""
    pair = pair_up(program.model, program.guide, (x,), {})
    parameters = list(program.parameters())
    chunks = [
        per_row_gradients(objective.estimate(pair, x.expand(100, *x.shape[1:])).surrogate, parameters)
        for _ in range(draws // 100)
    ]
    return torch.cat(chunks)


def exact_gradient(
    program: nn.Module, x: Tensor, bound: Callable[[Tensor], Tensor], num_particles: int
) -> tuple[Tensor, float]:
    """The gradient (P,) and value of E[bound(log-weights)] by summing over all S^K states, for one datum."""
    pair = pair_up(program.model, program.guide, (x,), {})
    log_p, log_q = enumerate_guide(pair, (x,), {})
    log_p, log_q = log_p[:, 0], log_q[:, 0]
    tuples = torch.tensor(list(itertools.product(range(len(log_p)), repeat=num_particles))).T
    probability = log_q[tuples].sum(0).exp()  # (T,)
    value = (probability * bound((log_p - log_q)[tuples])).sum()
    gradient = torch.autograd.grad(value, list(program.parameters()), allow_unused=True)
    parts = [torch.zeros_like(p) if g is None else g for p, g in zip(program.parameters(), gradient, strict=True)]
    return torch.cat([part.flatten() for part in parts]), float(value.detach())
