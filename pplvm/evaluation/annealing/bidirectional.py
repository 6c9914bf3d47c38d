"""Bidirectional Monte Carlo: lower and upper bounds on log p(x) of data simulated from the model.

lower = log mean_k w_k         chains from the start to the posterior                 E[w] = p(x)
upper = - log mean_k 1 / w_k   the same chains reversed, from the z that drew x       E[1 / w] = 1 / p(x)
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.bounds import iwae
from pplvm.evaluation.annealing.annealed import Schedule, anneal_chains, betas_of, require_counts
from pplvm.evaluation.annealing.path import AnnealingPath, Start, require_normalised
from pplvm.evaluation.annealing.transitions import Tally, tuned_step_sizes
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.per_datum import cycle_conditions, datum_seeds, each_datum, evaluation_mode
from pplvm.particles.dreams import dream, latent_values, require_dreams

__all__ = ["Bidirectional", "bidirectional"]


@dataclass(frozen=True)
class Bidirectional:
    """Lower and upper bound on log p(x) of each simulated datum, in nats."""

    lower: Tensor  # (N,), float64
    upper: Tensor  # (N,)
    acceptance: Tensor  # (N, 2), of trajectories and of flips, both ways; nan where there are none
    steps: int
    start: Start

    @property
    def gap(self) -> Tensor:
        """Upper minus lower bound for each datum, (N,); its mean bounds both errors, single ones may be negative."""
        return self.upper - self.lower

    @property
    def figures(self) -> list[Figure]:
        note = "of data that the model drew, not of test data"
        return [
            mean_of("lower bound", self.lower, note=note),
            mean_of("upper bound", self.upper, note=note),
            mean_of("gap", self.gap, note=f"{note}; {self.steps} steps from the {self.start}"),
        ]


def bidirectional(
    program: nn.Module,
    like: Batch,
    *,
    data: int | range = 100,
    chains: int = 16,
    steps: int = 500,
    start: Start = "guide",
    schedule: Schedule = "sigmoidal",
    seed: int = 0,
) -> Bidirectional:
    """Run annealed importance sampling forwards and backwards on simulated data with exact posterior draws.

    The lower bounds are those of `annealed` on the same data with the same arguments; a narrow gap vouches for them,
    and on real data for as much as these resemble the model's.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        like: data (N, ...), N at least 1, whose shape and type the simulated ones take; with conditions, (x, y),
            simulated datum n is given those of datum n, counted on from the first again.
        data: how many to simulate, or the numbers of some of these, e.g. `range(100)[my_rows(100)]` on each rank.
        chains, steps, start, schedule: as in `annealed`; chains are run as often again backwards.
        seed: of the simulated data and of all chains.

    Raises:
        ProgramError: as in `annealed`; the model does not observe the data at one site, or reads them elsewhere.
        ValueError: an argument is not one of the above.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> found = bidirectional(VAE(6, 2, (5,)), torch.ones(1, 6), data=3, chains=4, steps=5)
        >>> found.gap.shape
        torch.Size([3])

    References:
        Grosse, Ancha and Roy, Measuring the reliability of MCMC inference with bidirectional Monte Carlo, 2016,
        arXiv:1606.02275
    """
    numbers = data if isinstance(data, range) else range(data)
    require_counts(data=len(numbers), chains=chains, steps=steps)
    betas, lower, upper, shares = betas_of(schedule, steps), [], [], []
    with evaluation_mode(program, like, chains) as pair:
        first, every = batch_rows(as_tuple(like), slice(1)), range(max(numbers) + 1)
        require_normalised(pair, first, pair.run_guide(1, first, {}), "guide")
        require_dreams(pair, first, {})
        given = cycle_conditions(like, every)
        nth = zip(every, each_datum(torch.arange(len(every)), seed), strict=True)  # each with a seed of its own
        drawn = [dream(pair, batch_rows(given, slice(n, n + 1)), {}) for n, _ in nth]
        dreams = torch.cat([row for _, row in drawn]), *given[1:]
        seeds = datum_seeds(dreams, seed)  # equal data before a datum count
        rows = each_datum([part[list(numbers)] for part in dreams], [seeds[n] for n in numbers])
        for row, (trace, _) in zip(rows, (drawn[n] for n in numbers), strict=True):
            path, tally = AnnealingPath.of(pair, row, start), Tally()
            sizes = tuned_step_sizes(path, betas[1:-1])
            lower.append(iwae(anneal_chains(path, path.draw(chains), betas, sizes, tally)))
            held = path.hold(latent_values(trace), chains)
            upper.append(-iwae(-anneal_chains(path, held, betas, sizes, tally, backwards=True)))
            shares.append(tally.means())
    below, above, accepted = (torch.stack(each).cpu() for each in (lower, upper, shares))
    return Bidirectional(below, above, accepted, steps, start)
