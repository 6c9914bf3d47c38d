"""Annealed importance sampling of log p(x), for any program.

log w = sum_t (beta_t - beta_{t-1}) (log p(x, z_{t-1}) - log q0(z_{t-1})),     z_0 ~ q0, z_t ~ T_t(z_{t-1} -> .)
E[w] = p(x)                                      T_t leaves f_t = q0^(1 - beta_t) p(x, .)^beta_t as it is
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from pplvm.batch import Batch
from pplvm.bounds import iwae
from pplvm.evaluation.annealing.path import AnnealingPath, Start
from pplvm.evaluation.annealing.point import Point
from pplvm.evaluation.annealing.transitions import Tally, transition, tuned_step_sizes
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.likelihood_names import LikelihoodNames, likelihood_names
from pplvm.evaluation.per_datum import Seed, each_datum, evaluation_mode

__all__ = ["Annealed", "Schedule", "anneal_chains", "annealed", "betas_of", "require_counts"]

Schedule = Literal["sigmoidal", "linear"]


@dataclass(frozen=True)
class Annealed:
    """The estimates of annealed importance sampling for each datum, in nats."""

    log_weights: Tensor  # (N, chains), float64
    acceptance: Tensor  # (N, 2), of trajectories and of flips; nan where there are none
    steps: int
    start: Start
    names: LikelihoodNames = LikelihoodNames()  # what the weights estimate the density of

    @property
    def log_px(self) -> Tensor:
        """The log of the mean weight, (N,): a lower bound on log p(x) in expectation."""
        return iwae(self.log_weights.T)

    @property
    def ess(self) -> Tensor:
        """The effective number of chains, (N,), from 1 to all."""
        return 1 / self.log_weights.softmax(1).square().sum(1)

    @property
    def figures(self) -> list[Figure]:
        chains = self.log_weights.shape[1]
        note = f"a lower bound in expectation: {chains} chains of {self.steps} steps from the {self.start}"
        found = [
            mean_of(f"{self.names.log_p}, annealed", self.log_px, note=note),
            mean_of("chains that count", self.ess, "chains", f"effective sample size, of {chains}"),
        ]
        for name, shares in zip(("trajectories", "flips"), self.acceptance.T, strict=True):
            if not shares.isnan().all():
                found.append(mean_of(f"accepted {name}", shares[~shares.isnan()], "of 1"))
        return found


def annealed(
    program: nn.Module,
    x: Batch,
    *,
    chains: int = 16,
    steps: int = 500,
    start: Start = "guide",
    schedule: Schedule = "sigmoidal",
    seed: Seed = 0,
) -> Annealed:
    """Annealed importance sampling of log p(x): chains from the guide or the prior to the posterior.

    One step is plain importance sampling. Between two temperatures a chain takes one Hamiltonian trajectory on all
    continuous latents, through the bijections onto their supports, and draws some states of each discrete latent
    anew; step sizes come from a shorter run before, so that they do not adapt to the chains that are measured.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: data (N, ...), or data and their conditions, (x, y).
        chains: independent chains a datum, at least 1.
        steps: rises of beta from 0 to 1, at least 1; each but the last is followed by a transition.
        start: q0, "guide" or the model's "prior", for which the guide needs no density.
        schedule: "sigmoidal", dense at both ends, or "linear".
        seed: of the draws, or one for each datum (`datum_seeds`), where x is a part of the data.

    Raises:
        ProgramError: the program breaks a rule, or a latent is one on which no chain can walk.
        ValueError: an argument is not one of the above; there are no data.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> found = annealed(VAE(6, 2, (5,)), torch.ones(3, 6), chains=4, steps=5)
        >>> found.log_px.shape, found.log_weights.shape
        (torch.Size([3]), torch.Size([3, 4]))

    References:
        Neal, Annealed importance sampling, 2001
        Wu, Burda, Salakhutdinov and Grosse, On the quantitative analysis of decoder-based generative models, 2017,
        arXiv:1611.04273
    """
    require_counts(chains=chains, steps=steps)
    betas = betas_of(schedule, steps)
    log_weights, shares = [], []
    with evaluation_mode(program, x, chains) as pair:
        names = likelihood_names(pair, x)
        for row in each_datum(x, seed):
            path, tally = AnnealingPath.of(pair, row, start), Tally()
            sizes = tuned_step_sizes(path, betas[1:-1])
            log_weights.append(anneal_chains(path, path.draw(chains), betas, sizes, tally))
            shares.append(tally.means())
    return Annealed(torch.stack(log_weights).cpu(), torch.stack(shares).cpu(), steps, start, names)


def betas_of(schedule: Schedule, steps: int) -> list[float]:
    """The inverse temperatures from 0 to 1.

        sigmoidal: sigmoid(4 (2 t / T - 1)), shifted and scaled to start at 0 and end at 1

    Raises:
        ValueError: the schedule has another name.

    Example:
        >>> [round(beta, 3) for beta in betas_of("sigmoidal", 4)]
        [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    if schedule not in ("sigmoidal", "linear"):
        raise ValueError(f"schedule must be 'sigmoidal' or 'linear', got {schedule!r}")
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if schedule == "linear":
        return times.tolist()
    curve = (4 * (2 * times - 1)).sigmoid()
    return ((curve - curve[0]) / (curve[-1] - curve[0])).tolist()


def anneal_chains(
    path: AnnealingPath, point: Point, betas: list[float], sizes: list[Tensor], tally: Tally, backwards: bool = False
) -> Tensor:
    """Log-weights (K,) of chains from the start to the posterior, or backwards from a posterior draw.

    Arguments:
        point: where the chains stand at first.
        betas: from 0 to 1.
        sizes: leapfrog steps at each beta between.
        backwards: run the forward transitions' time reversal; then E[1 / w] = 1 / p(x).
    """
    rises, inner = list(pairwise(betas)), list(zip(betas[1:-1], sizes, strict=True))
    if backwards:
        rises, inner = rises[::-1], inner[::-1]
    log_weights = torch.zeros_like(point.log_joint)
    for (low, high), stop in zip(rises, [None, *inner], strict=True):
        if stop is not None:
            point = transition(path, point, *stop, backwards, tally)
        log_weights = log_weights + (high - low) * point.log_ratio
    return log_weights


def require_counts(**counts: int) -> None:
    """Refuse a count that is not an integer of at least 1."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {count!r}")
