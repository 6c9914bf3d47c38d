"""Mutual information of data and latents, and the KL of the aggregate posterior from the prior (ELBO surgery).

elbo  = reconstruction - rate                                     reconstruction = E_q log p(x | z)
rate  = E_q log q(z | x) / p(z) = I_q(x; z) + KL(q(z) || p(z)),   q(z) = 1/M sum_j q(z | x_j)
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.guide_density import FixedDraws, log_q_of_others, require_guide_density
from pplvm.evaluation.likelihood_names import LikelihoodNames, likelihood_names
from pplvm.evaluation.per_datum import Seed, datum_seed, draw_in_chunks, each_datum, each_row, evaluation_mode
from pplvm.evaluation.proper_weighting import figure_name, why_no_bound_per_datum
from pplvm.particles.contract import latents, sample_sites
from pplvm.particles.pair import Pair, Particles

__all__ = ["AggregatePosterior", "aggregate_posterior", "mutual_information"]

ENOUGH = 10_000
"""Guides in an aggregate whose cap, log M = 9.2 nats, is above what most latents tell."""


@dataclass(frozen=True)
class AggregatePosterior:
    """The terms of ELBO surgery for each datum, in nats, averaged over its draws; all (N,) in float64."""

    information: Tensor  # log q(z | x_i) - log q(z), the datum's own guide among the M of q(z)
    information_apart: Tensor  # the same with q(z) of the M - 1 others
    marginal: Tensor  # log q(z) - log p(z), own guide included
    rate: Tensor  # log q(z | x_i) - log p(z) = information + marginal
    reconstruction: Tensor  # log p(x_i | z)
    components: Tensor  # M
    fault: str = ""  # what keeps reconstruction - rate from a bound on log p(x)
    names: LikelihoodNames = LikelihoodNames()  # what is told, and what is given

    @property
    def figures(self) -> list[Figure]:
        """The surgery: elbo = reconstruction - I_q(x; z) - KL(q(z) || p(z)), with bounds on I_q(x; z).

        Of a prior p(z | y) the last term may be negative: it is E_y KL(q(z | y) || p(z | y)) - I_q(y; z).
        """
        M = int(self.components.min())
        few = f"; {M:,} guides are few, take {ENOUGH:,} to compare with published figures" if M < ENOUGH else ""
        cap = f"index-code, own guide among the {M:,}: at most log M = {math.log(M):.2f}, too low near it{few}"
        told = f"I_q({self.names.datum}; z)"
        beside = ", ".join((*self.names.given, *self.names.observed))
        prior = f"E_q log q(z) - log p(z | {beside})" if beside else "KL(q(z) || p(z))"
        of_prior = f"; KL(q(z) || p(z)) where the prior reads no {beside}, else no divergence" if beside else ""
        apart = f"mean over data bounds that of their source from above, {told} from below{few}"
        return [
            mean_of(
                figure_name("elbo", self.fault), self.reconstruction - self.rate, note=self.fault or self.names.bounded
            ),
            mean_of("reconstruction", self.reconstruction),
            mean_of("rate", self.rate),
            mean_of(told, self.information, note=cap),
            _mean_if_finite(f"{told}, own guide left out", self.information_apart, apart),
            mean_of(prior, self.marginal, note=f"rate - {told}, too high by what that is too low{of_prior}"),
        ]


def aggregate_posterior(
    program: nn.Module, x: Batch, *, aggregate: Batch | None = None, num_particles: int = 1, seed: Seed = 0
) -> AggregatePosterior:
    """Estimate mutual information under the guide, KL of the aggregate posterior from the prior, and rate.

        q(z) = 1/M sum_j q(z | x_j),   the datum's own guide always among the M and counted once

    All latents count jointly, q(z | x) being the product of the guide's sites. For the N = M data given, the means
    are unbiased: I_q is the information about which of the data gave z (index-code), at most log M, and the KL is
    that of the mixture of these M guides. For the source of the data, I_q is on average too low, and
    `information_apart`, which leaves the own guide out of q(z), too high by Jensen's inequality: the two enclose it.
    Standard errors are over data. They hold for the source too, but for that bias of order 1/M: information is
    stationary in q(z), so that the aggregate's own noise enters at second order.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: data (N, ...), or (x, y) with conditions: each guide is then q(z | x_j, y_j), the prior p(z | y).
        aggregate: (M, ...), whose guides make q(z); x itself where None. A datum of x that is not among them, by its
            values, joins them for its own draws, so M is one more. Give all data where x is a part of them.
        num_particles: draws a datum, at least 1.
        seed: of the draws, or one for each datum (`datum_seeds`), where x is a part of the data.

    Raises:
        ProgramError: the program breaks a rule.
        ValueError: fewer than 2 guides in all, data of two shapes, or a latent that is a point mass, masked or
            auxiliary.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> x = (torch.rand(50, 8) < 0.5).float()
        >>> found = aggregate_posterior(VAE(8, 2), x)
        >>> bool(found.information.max() <= math.log(50) + 1e-6), len(found.figures)
        (True, 6)

    References:
        Hoffman and Johnson, ELBO surgery: yet another way to carve up the variational evidence lower bound, 2016
        Poole, Ozair, van den Oord, Alemi and Tucker, On variational bounds of mutual information, 2019,
        arXiv:1905.06922
    """
    if not isinstance(num_particles, int) or num_particles < 1:
        raise ValueError(f"aggregate_posterior: num_particles must be an integer of at least 1, got {num_particles!r}")
    others = x if aggregate is None else aggregate
    with evaluation_mode(program, x, num_particles) as pair:
        own = _places(x, aggregate)
        components = _components(others, own)
        require_guide_density("aggregate_posterior", pair, x)
        log_q, log_prior, reconstruction, held = _draws(pair, x, num_particles, seed)
        rest = log_q_of_others(pair, held, others, own.repeat_interleave(num_particles)).reshape(len(log_q), -1)
        M = components.unsqueeze(1)
        mixture = torch.logaddexp(rest, log_q) - M.log()  # (N, S)
        return AggregatePosterior(
            information=_mean(log_q - mixture),
            information_apart=_mean(log_q - rest + (M - 1).log()),
            marginal=_mean(mixture - log_prior),
            rate=_mean(log_q - log_prior),
            reconstruction=_mean(reconstruction),
            components=components.cpu(),
            fault=why_no_bound_per_datum(pair, x),
            names=likelihood_names(pair, x),
        )


def mutual_information(program: nn.Module, x: Batch, seed: int = 0) -> float:
    """I_q(x; z) in nats between z and the index of its datum in x (N, ...), at most log N.

    References:
        He, Spokoyny, Neubig and Berg-Kirkpatrick, Lagging inference networks and posterior collapse in variational
        autoencoders, 2019, arXiv:1901.05534
    """
    return float(aggregate_posterior(program, x, seed=seed).information.mean())


def _places(x: Batch, aggregate: Batch | None) -> Tensor:
    """The index in the aggregate of each datum, (N,), -1 where it is not part of it."""
    parts = as_tuple(x)
    if aggregate is None:
        return torch.arange(len(parts[0]), device=parts[0].device)
    others = as_tuple(aggregate)
    if len(others) != len(parts):
        raise ValueError(f"aggregate_posterior: aggregate has {len(others) - 1} conditions, and x {len(parts) - 1}")
    for one, other in zip(parts, others, strict=True):
        if other.shape[1:] != one.shape[1:] or other.dtype != one.dtype or len(other) == 0:
            raise ValueError(
                f"aggregate_posterior: aggregate must hold data like x, {tuple(one.shape[1:])} of {one.dtype}, got "
                f"{tuple(other.shape)} of {other.dtype}"
            )
    places = {datum_seed(row, 0): place for place, row in enumerate(each_row(aggregate))}
    return torch.tensor([places.get(datum_seed(row, 0), -1) for row in each_row(x)], device=parts[0].device)


def _components(others: Batch, own: Tensor) -> Tensor:
    """How many guides are mixed for each datum, M, (N,): the aggregate's, and its own where that is none of them."""
    components = len(as_tuple(others)[0]) + (own < 0).double()
    if components.min() < 2:
        raise ValueError("aggregate_posterior needs at least 2 data to mix their guides, got 1: give more data")
    return components


def _draws(pair: Pair, x: Batch, num_particles: int, seed: Seed) -> tuple[Tensor, Tensor, Tensor, FixedDraws]:
    """Log q(z | x), log p(z), log p(x | z), each (N, S) in float64, and the N S draws themselves."""
    terms, traces = [], []
    for row in each_datum(x, seed):
        found = list(draw_in_chunks(pair, row, num_particles))
        terms.append(torch.cat([_terms(drawn) for drawn in found], 1))
        traces.extend(drawn.guide_trace for drawn in found)
    log_q, log_prior, reconstruction = torch.stack(terms, 1)
    return log_q, log_prior, reconstruction, FixedDraws.of(pair, traces)


def _terms(drawn: Particles) -> Tensor:
    """Log q(z | x), log p(z), log p(x | z): (3, S)."""
    prior = latents(drawn.model_trace)
    zero = torch.zeros_like(drawn.log_p, dtype=torch.float64)
    log_prior = sum((drawn.log_p_sites[name].double() for name in prior), start=zero)
    rest = sum(
        (drawn.log_p_sites[name].double() for name in sample_sites(drawn.model_trace) if name not in prior), zero
    )
    log_q = sum((term.double() for term in drawn.log_q_sites.values()), start=zero)
    return torch.stack([log_q, log_prior, rest])[..., 0]


def _mean(terms: Tensor) -> Tensor:
    return terms.mean(1).cpu()  # (N, S) -> (N,)


def _mean_if_finite(name: str, values: Tensor, note: str) -> Figure:
    if values.isfinite().all():
        return mean_of(name, values, note=note)
    return Figure(name, float(values.mean()), None, "nats", note)
