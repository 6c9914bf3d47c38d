"""Tiny programs with known gradients: discrete states enumerated, Gaussians by quadrature."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple
from pplvm.particles.contract import sample_sites
from pplvm.particles.enumeration import coordinates, is_enumerable, one_coordinate, support
from pplvm.particles.pair import pair_up, sum_sites
from pplvm.particles.tempering import Tempering, latent_terms

__all__ = ["KNOWN", "Known", "Tables", "tables_of", "true_gradient"]

Bound = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Known:
    """A program, one datum, and a description of its guide's draws."""

    title: str
    build: Callable[[], nn.Module]
    x: Batch  # (1, ...), or a tuple of it and its conditions


@dataclass(frozen=True)
class Tables:
    """Log-densities of all S states of one datum, differentiable; Gaussian sites at quadrature nodes."""

    log_p: Tensor  # (S,)
    log_q: Tensor  # (S,)
    log_mass: Tensor  # (S,), of the discrete sites and of the quadrature's nodes
    values: dict[str, Tensor]  # by guide site, (S, event...)
    is_discrete: bool


class _BeliefNet(nn.Module):
    """Layers of Bernoulli latents over three binary pixels, with a bottom-up guide."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        whole = [*sizes, 3]
        self.prior = nn.Parameter(torch.zeros(sizes[0]))
        self.down = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(whole))
        self.up = nn.ModuleList(nn.Linear(b, a) for a, b in itertools.pairwise(whole))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            logits = self.prior
            for number, down in enumerate(self.down):
                z = pyro.sample(f"z_{number}", dist.Bernoulli(logits=logits).to_event(1))
                logits = down(z)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            below = x
            for number, up in reversed(list(enumerate(self.up))):
                below = pyro.sample(f"z_{number}", dist.Bernoulli(logits=up(below)).to_event(1))


class _Gaussians(nn.Module):
    """Two Gaussian layers over one real number."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.middle, self.bottom = (nn.Parameter(torch.zeros(2)) for _ in range(3))
        self.inwards, self.upwards = (nn.Parameter(torch.zeros(3)) for _ in range(2))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            y = pyro.sample("y", dist.Normal(self.top[0], (0.3 * self.top[1]).exp()))
            z = pyro.sample("z", dist.Normal(self.middle[0] * y, (0.3 * self.middle[1]).exp()))
            pyro.sample("x", dist.Normal(self.bottom[0] * z, (0.3 * self.bottom[1]).exp()), obs=x)

    def guide(self, x: Tensor) -> None:
        a, b = self.inwards, self.upwards
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(a[0] + a[1] * x, (0.3 * a[2]).exp()))
            pyro.sample("y", dist.Normal(b[0] + b[1] * z, (0.3 * b[2]).exp()))


class _Mixed(nn.Module):
    """Three categories, then a Gaussian, then a Bernoulli, over one real number."""

    def __init__(self) -> None:
        super().__init__()
        self.prior, self.centres = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
        self.switch, self.read = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
        self.a, self.b, self.c = (nn.Parameter(torch.zeros(n)) for n in (3, 4, 3))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(logits=self.prior))
            y = pyro.sample("y", dist.Normal((c * self.centres).sum(-1), 1.0))
            b = pyro.sample("b", dist.Bernoulli(logits=self.switch[0] + self.switch[1] * y))
            pyro.sample("x", dist.Normal(self.read[0] * y + self.read[1] * b, 0.8), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(logits=self.a * x.unsqueeze(-1)))
            y = pyro.sample("y", dist.Normal((c * self.b[:3]).sum(-1), (0.3 * self.b[3]).exp()))
            pyro.sample("b", dist.Bernoulli(logits=self.c[0] + self.c[1] * y + self.c[2] * x))


class _ByDistance(dist.OneHotCategorical):
    """A code drawn by its distance to a vector, which rules for codes know by its attributes."""

    def __init__(self, z: Tensor, codes: Tensor) -> None:
        self.z, self.codes = z, codes
        super().__init__(logits=z @ codes.T - codes.square().sum(-1) / 2)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_ByDistance":
        return _ByDistance(self.z.expand(*batch_shape, -1), self.codes)


class _Codes(nn.Module):
    """A code of three, over one real number."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.up, self.down = (nn.Parameter(torch.zeros(n, 2)) for n in (3, 2, 1))

    def model(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            v = pyro.sample("v", dist.OneHotCategorical(logits=x.new_zeros(3)))
            pyro.sample("x", dist.Normal(2 * ((v @ self.codes) @ self.down[0]).sin(), 0.8), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("v", _ByDistance(self.up[0] + x[..., None] * self.up[1], self.codes))


def _scattered(build: Callable[[], nn.Module], seed: int) -> Callable[[], nn.Module]:
    """Random parameters, wide enough to break all symmetries."""

    def make() -> nn.Module:
        program = build()
        generator = torch.Generator().manual_seed(seed)
        for p in program.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        return program.double()

    return make


KNOWN = (
    Known("one layer of 2 Bernoullis", _scattered(lambda: _BeliefNet(2), 0), torch.tensor([[1.0, 0.0, 1.0]])),
    Known("two layers of 2 Bernoullis", _scattered(lambda: _BeliefNet(2, 2), 1), torch.tensor([[0.0, 1.0, 1.0]])),
    Known("categorical, Gaussian, Bernoulli", _scattered(_Mixed, 2), torch.tensor([0.7])),
    Known("two Gaussian layers", _scattered(_Gaussians, 3), torch.tensor([0.7])),
    Known("a code of three by distance", _scattered(_Codes, 4), torch.tensor([0.7])),
)

NODES = 20
"""Of Gauss-Hermite quadrature: exact for polynomials of degree 39."""


def tables_of(program: nn.Module, x: Batch, nodes: int = NODES, tempering: Tempering | None = None) -> Tables:
    """Every state of the guide's discrete sites at every quadrature node of its Gaussian ones, for one datum.

    Arguments:
        tempering: of log p - log q, by way of log p.

    Raises:
        ValueError: a site is neither discrete nor Gaussian.
    """
    args = as_tuple(x)
    pair = pair_up(program.model, program.guide, args, {})
    grid = _Grid(nodes)
    with grid:
        guide_trace = pair.run_guide(1, args, {})
    model_trace = pair.run_model(1, guide_trace, args, {})
    log_p_sites, log_q_sites = (pair.site_terms(trace) for trace in (model_trace, guide_trace))
    log_p, log_q = sum_sites(log_p_sites), sum_sites(log_q_sites)
    if tempering is not None:
        log_p = log_q + tempering.tempered(log_p - log_q, latent_terms(log_p_sites, log_q_sites))
    mass = torch.stack(torch.broadcast_tensors(*grid.log_masses(guide_trace))).sum(0)
    log_p, log_q, mass = torch.broadcast_tensors(log_p, log_q, mass)
    shape = log_p.shape
    values = {}
    for name, site in sample_sites(guide_trace).items():
        event = site["value"].shape[site["value"].dim() - site["fn"].event_dim :]
        values[name] = site["value"].detach().expand(*shape, *event).reshape(-1, *event)
    return Tables(log_p.flatten(), log_q.flatten(), mass.flatten(), values, not grid.node_weights)


def true_gradient(program: nn.Module, tables: Tables, bound: Bound, num_particles: int) -> tuple[list[Tensor], float]:
    """The gradient of E[bound of K draws], by parameter, and its value.

    Raises:
        ValueError: there are too many tuples of K states to sum.
    """
    S, K = len(tables.log_p), num_particles
    if S**K > 2**21:
        raise ValueError(f"{S}^{K} tuples of draws are too many to sum: use fewer particles")
    states = torch.cartesian_prod(*[torch.arange(S)] * K).reshape(-1, K).T  # (K, T)
    mass = tables.log_mass[states].sum(0).exp()  # (T,)
    value = (mass * bound((tables.log_p - tables.log_q)[states])).sum()
    parameters = list(program.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    gradient = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return gradient, float(value.detach())


class _Grid(Messenger):
    """A Pyro messenger that gives each latent all of its states, or quadrature nodes along its path."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        self.points, self.log_weights = torch.tensor(points), torch.tensor(weights / weights.sum()).log()
        self.dim, self.node_weights = -2, {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["is_observed"] or type(msg["fn"]).__name__ == "_Subsample":
            return
        fn, single = msg["fn"], coordinates(msg["fn"])
        if is_enumerable(msg):
            own = len(one_coordinate(fn).event_shape)
            states = support(fn)
            count = torch.Size(fn.event_shape[: len(fn.event_shape) - own]).numel()
            rows = torch.cartesian_prod(*[torch.arange(len(states))] * count).reshape(-1, count)
            values = states[rows].reshape(len(rows), *fn.event_shape)
            values = values.to(torch.float64) if values.is_floating_point() else values  # classes are indices
        elif isinstance(single, dist.Normal) and not fn.event_shape:
            self.node_weights[msg["name"]] = self._placed(self.log_weights)
            values = None
        else:
            raise ValueError(f"site {msg['name']!r} ({type(single).__name__}) is neither discrete nor a scalar Normal")
        if values is None:
            msg["value"] = fn.loc + fn.scale * self._placed(self.points)
        else:
            msg["value"] = values.reshape(len(values), *[1] * (-self.dim - 1), *fn.event_shape)
        msg["done"] = True
        self.dim -= 1

    def _placed(self, row: Tensor) -> Tensor:
        return row.reshape(-1, *[1] * (-self.dim - 1))

    def log_masses(self, trace: Trace) -> list[Tensor]:
        return [
            self.node_weights[name] if name in self.node_weights else site["fn"].log_prob(site["value"])
            for name, site in sample_sites(trace).items()
        ]
