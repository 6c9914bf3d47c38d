"""Markov transitions that leave a density of the path invariant: HMC and Gibbs updates of discrete coordinates.

Each is reversible, f(z) T(z -> z') = f(z') T(z' -> z), so that a transition of several is reversed by their order.
"""

from dataclasses import dataclass, field
from functools import partial
from math import exp

import torch
from torch import Tensor

from pplvm.evaluation.annealing.path import AnnealingPath
from pplvm.evaluation.annealing.point import Point

__all__ = ["Tally", "hamiltonian", "resample_coordinate", "transition", "tuned_step_sizes"]

LEAPFROGS = 5
"""Steps of one trajectory; on an MNIST VAE half the variance of the log-weights that 10 leave at the same cost."""

FLIPS = 10
"""States at most that are drawn anew at each discrete site in one transition."""

RIVALS = 8
"""Other states at most that one flip weighs."""

PILOTS, PILOT_STEPS = 16, 40
"""Chains and temperatures of the run that sets the step sizes."""

ACCEPTED = 0.75
"""Share of trajectories to accept: 0.65 is best in many dimensions of equal scale, a higher one is safer."""


@dataclass
class Tally:
    """Acceptance rates of trajectories and of discrete updates."""

    trajectories: list[Tensor] = field(default_factory=list)  # each (K,), a probability
    flips: list[Tensor] = field(default_factory=list)

    def means(self) -> Tensor:
        """The acceptance rates of trajectories and of discrete updates, (2,), nan where there are none."""
        return torch.stack([_mean(self.trajectories), _mean(self.flips)])


def transition(path: AnnealingPath, point: Point, beta: float, sizes: Tensor, backwards: bool, tally: Tally) -> Point:
    """One transition at one temperature: HMC, then discrete updates, site by site; backwards in reversed order.

    Arguments:
        sizes: of a leapfrog step by coordinate, (n,).
    """
    kernels = [(tally.trajectories, partial(hamiltonian, sizes=sizes))] if path.free else []
    for name, latent in path.finite.items():
        flips = min(FLIPS, point.states[name].shape[1]) if len(latent.states) > 1 else 0
        kernels += [(tally.flips, partial(resample_coordinate, name=name))] * flips
    for accepted, kernel in kernels[::-1] if backwards else kernels:
        point, chance = kernel(path, point, beta)
        accepted.append(chance)
    return point


def hamiltonian(path: AnnealingPath, point: Point, beta: float, sizes: Tensor) -> tuple[Point, Tensor]:
    """Hamiltonian Monte Carlo on unconstrained coordinates, with step sizes jittered by 0.8 to 1.2 for each chain.

        accept with min(1, f(u') N(r') / f(u) N(r)),     (u', r') after leapfrog steps from (u, r), r ~ N(0, I)

    Returns:
        The new point and the probability with which it was accepted, (K,).

    References:
        Neal, MCMC using Hamiltonian dynamics, 2011, arXiv:1206.1901
    """
    here = point if point.slopes is not None else path.at(point.free, point.states, sloped=True)
    K = len(here.free)
    step = sizes * torch.empty_like(here.free[:, :1]).uniform_(0.8, 1.2)  # (K, n)
    start = torch.randn_like(here.free)
    there, momentum = here, start + step / 2 * here.slope(beta)
    for number in range(LEAPFROGS):
        there = path.at(there.free + step * momentum, there.states, sloped=True)
        momentum = momentum + step * there.slope(beta) / (2 if number == LEAPFROGS - 1 else 1)
    kinetic = (momentum.square() - start.square()).sum(1).double() / 2
    chance = (there.log_density(beta) - here.log_density(beta) - kinetic).nan_to_num(-torch.inf, 0.0).exp().clamp(max=1)
    return there.where(torch.rand(K, dtype=chance.dtype, device=chance.device) < chance, here), chance


def resample_coordinate(path: AnnealingPath, point: Point, beta: float, name: str) -> tuple[Point, Tensor]:
    """Resample one coordinate of a discrete site for each chain, among its present state and some rivals.

        propose j != i with f_j / (F - f_i), accept with min(1, (F - f_i) / (F - f_j)),     F = sum of all f

    The rivals are a uniform subset of the other states, which is as likely from j as from i.

    Returns:
        The new point and the probability with which it was accepted, (K,).

    References:
        Liu, Peskun's theorem and a modified discrete-state Gibbs sampler, 1996
    """
    states, number = point.states[name], len(path.finite[name].states)
    K, n = states.shape
    chains = torch.arange(K, device=states.device)
    place = torch.randint(n, (K,), device=states.device)
    shifts = 1 + torch.rand(K, number - 1, device=states.device).argsort(1)[:, :RIVALS].T  # (R, K)
    R = len(shifts)
    others = states.repeat(R, 1, 1)  # (R, K, n)
    others[:, chains, place] = (states[chains, place] + shifts) % number
    repeated = {other: kept.repeat(R, 1) for other, kept in point.states.items()} | {name: others.flatten(0, 1)}
    rivals = path.at(point.free.repeat(R, 1), repeated)
    densities = torch.cat([point.log_density(beta)[None], rivals.log_density(beta).reshape(R, K)])  # (1 + R, K)
    proposed, chance = _proposed(densities.nan_to_num(-torch.inf, neginf=-torch.inf))
    chosen = rivals.rows(proposed * K + chains)
    return chosen.where(torch.rand_like(chance) < chance, point), chance


def tuned_step_sizes(path: AnnealingPath, betas: list[float]) -> list[Tensor]:
    """Step sizes (n,) for each beta, tuned in a separate run so that the measured chains do not adapt."""
    if not path.free or not betas:
        return [path.row[0].new_zeros(0)] * len(betas)
    point = path.draw(PILOTS)
    size, spread = 0.5, point.free.var(0)
    stops = torch.linspace(0, len(betas) - 1, min(PILOT_STEPS, len(betas))).round().long().tolist()
    found: dict[int, Tensor] = {}
    for stop in stops:
        tally = Tally()
        point = transition(path, point, betas[stop], size * spread.sqrt(), False, tally)
        size *= exp(float(tally.means()[0]) - ACCEPTED)
        spread = 0.8 * spread + 0.2 * point.free.var(0)
        found[stop] = (size * spread.sqrt()).to(point.free.dtype)
    return [found[min(stops, key=lambda stop: abs(stop - t))] for t in range(len(betas))]


def _proposed(log_f: Tensor) -> tuple[Tensor, Tensor]:
    """From log f of a state and its R rivals (1 + R, K): index of the proposed rival and its probability, each (K,)."""
    rivals = log_f[1:]
    proposed = (rivals + _gumbel(rivals)).argmax(0)  # (K,)
    leaves = rivals.logsumexp(0)
    is_taken = torch.arange(len(rivals), device=rivals.device)[:, None] == proposed
    without = torch.cat([log_f[:1], rivals.masked_fill(is_taken, -torch.inf)]).logsumexp(0)
    return proposed, (leaves - without).nan_to_num(-torch.inf, 0.0).exp().clamp(max=1)


def _gumbel(like: Tensor) -> Tensor:
    return -torch.empty_like(like).exponential_().log()


def _mean(shares: list[Tensor]) -> Tensor:
    return torch.cat(shares).mean().cpu() if shares else torch.tensor(torch.nan, dtype=torch.float64)
