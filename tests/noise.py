"""The noise that a rule adds to the draws of discrete sites, integrated out piece by piece: exact moments again."""

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from pplvm.objectives.site_draw import SiteDraw
from pplvm.objectives.sitewise import Sitewise
from pplvm.particles.pair import pair_up
from tests.problems import Forced, per_row_gradients, states_of


def legendre(nodes: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the integral from low to high."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    points, weights = torch.tensor(points), torch.tensor(weights)
    return low + (high - low) * (points + 1) / 2, weights / 2 * (high - low)


def noise_of_one_bit(p: float, nodes: int) -> list[tuple[float, float, float]]:
    """Draw b, noise v in (0, 1) given b, and their probability; pieces end where the partner of b flips."""
    rows = []
    for b in (0.0, 1.0):
        chance = p if b else 1 - p
        flip = (1 - p) / p if b else p / (1 - p)  # u = 1 - p v < p, or u = (1 - p) v < p
        ends = [0.0, min(flip, 1.0), 1.0]
        for low, high in itertools.pairwise(ends):
            if high > low:
                v, weight = legendre(nodes, low, high)
                rows += [(b, float(v_), float(w) * chance) for v_, w in zip(v, weight, strict=True)]
    return rows


def rows_with_noise(
    objective: Sitewise, program: nn.Module, x: Tensor, nodes: int, monkeypatch: object
) -> tuple[Tensor, Tensor, Tensor]:
    """All draws of one Bernoulli layer with the one uniform that each rule draws: probability, surrogate (T,), value.

    The program's one datum (1, D) becomes a batch of T.
    """
    pair = pair_up(program.model, program.guide, (x,), {})
    name = next(iter(states_of(pair, x)[0]))
    p = pair.run_guide(1, (x,), {}).nodes[name]["fn"].base_dist.probs.detach().flatten()
    K = objective.num_particles
    each = [noise_of_one_bit(float(q), nodes) for q in p]
    rows = torch.tensor(list(itertools.product(*(each * K))))  # (T, K n, 3)
    b, v, probability = rows.reshape(len(rows), K, len(p), 3).transpose(0, 1).unbind(-1)  # (K, T, n)
    monkeypatch.setattr(SiteDraw, "uniform", lambda self, like: v)
    with Forced({name: b if K > 1 else b[0]}):
        estimate = objective.estimate(pair, x.expand(b.shape[1], -1))
    return probability.prod(2).prod(0), estimate.surrogate, estimate.value


def exact_with_noise(
    objective: Sitewise, program: nn.Module, x: Tensor, nodes: int, monkeypatch: object
) -> tuple[Tensor, Tensor]:
    """Mean gradient and its variance, (P,), over draws and noise."""
    probability, surrogate, _ = rows_with_noise(objective, program, x, nodes, monkeypatch)
    gradients = per_row_gradients(surrogate, list(program.parameters()))
    mean = probability @ gradients
    return mean, probability @ gradients.square() - mean.square()


def frozen(objective: Sitewise) -> Sitewise:
    """What a rule learns stands still, away from its start."""
    assert objective.control is not None
    objective.control.requires_grad_(False).eval()
    for number, parameter in enumerate(objective.control.parameters()):
        if parameter.dim():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) / 3)
    return objective


def grouped_gradients(objective: Sitewise, program: nn.Module, x: Tensor, groups: int, rows: int) -> Tensor:
    """Mean gradients (groups, P) of `rows` independent draws each, of one datum (1, ...)."""
    pair = objective._checked(program.model, program.guide, (x,), {})
    parameters = list(program.parameters())
    batch, found = x.expand(rows, *x.shape[1:]), []
    for _ in range(groups):
        surrogate = objective.estimate(pair, batch).surrogate.mean()
        each = torch.autograd.grad(surrogate, parameters, allow_unused=True, materialize_grads=True)
        found.append(torch.cat([g.flatten() for g in each]))
    return torch.stack(found)


def z_scores(found: Tensor, truth: Tensor) -> Tensor:
    """Of the mean over rows (G, P) against the truth (P,); zero where both do not move."""
    error = (found.var(0) / len(found)).sqrt()
    gap = found.mean(0) - truth
    assert (gap[error == 0].abs() < 1e-9).all()
    return torch.where(error > 0, gap / error.clamp(min=1e-300), 0.0)


LIMIT = 6.0
"""Of |t| at 39 degrees of freedom: one in two million, so that thousands of them err once in a thousand seeds."""
