"""What the elbo is made of, datum by datum: what the latents cost and what the data cost once they are known.

    rate_l     = E_q[log q(z_l) - log p(z_l)]       of each latent site
    distortion = -E_q[log p(x | z)]                 of each observed site
    -elbo      = sum of rates + sum of distortions

References:
    Alemi, Poole, Fischer, Dillon, Saurous and Murphy, Fixing a broken ELBO, 2018, arXiv:1711.00464
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.one_by_one import each_datum, frozen, particles_of
from pplvm.evaluation.proper import why_no_bound
from pplvm.objectives.pathwise import closed_forms
from pplvm.particles import Pair
from pplvm.tempering import latent_terms

__all__ = ["RateDistortion", "rate_distortion"]

Terms = Mapping[str, Tensor]


@dataclass(frozen=True)
class RateDistortion:
    """Rates and distortions of each site, (N,), float64, in nats; a distortion is inf where p(x | z) of a draw is 0."""

    rate_sites: dict[str, Tensor]
    distortion_sites: dict[str, Tensor]
    closed: tuple[str, ...]  # latent sites whose KL(q || p) is in closed form, given the sites that it depends on
    num_particles: int
    fault: str = ""  # what keeps the elbo from a bound on log p(x)

    @property
    def rate(self) -> Tensor:
        return sum(self.rate_sites.values(), start=torch.zeros_like(self.distortion))  # (N,)

    @property
    def distortion(self) -> Tensor:
        return torch.stack(list(self.distortion_sites.values())).sum(0)  # (N,)

    @property
    def elbo(self) -> Tensor:
        return -(self.rate + self.distortion)  # (N,)

    @property
    def figures(self) -> list[Figure]:
        drawn = f"{self.num_particles} draws"
        notes = {name: "KL in closed form" if name in self.closed else drawn for name in self.rate_sites}
        rates = [mean_of(f"rate of {name}", r, note=notes[name]) for name, r in self.rate_sites.items()]
        distortions = [mean_of(f"distortion of {name}", d, note=drawn) for name, d in self.distortion_sites.items()]
        return [
            mean_of("elbo", self.elbo, note="; ".join([drawn, *filter(None, [self.fault])])),
            mean_of("rate", self.rate, note="; ".join(sorted(set(notes.values())))),
            *(rates if len(rates) > 1 else []),
            mean_of("distortion", self.distortion, note=drawn),
            *(distortions if len(distortions) > 1 else []),
        ]


def rate_distortion(program: nn.Module, x: Tensor, *, num_particles: int = 100, seed: int = 0) -> RateDistortion:
    """Rate and distortion of each site, one datum at a time, in eval mode and without gradient.

    A site's rate is the mean over the draws of its KL(q || p) where torch knows that in closed form, of log q - log p
    elsewhere; a guide's auxiliary site has rate log q.

    Arguments:
        program: with methods model(x) and guide(x).
        x: data (N, *shape).
        num_particles: K, draws of each datum.
        seed: of the draws; each datum's depend on it and on the datum's values alone.

    Raises:
        FloatingPointError: a rate or distortion is not a number; the message names the datum and the site.
        ProgramError: the program breaks a rule.
        ValueError: there are no data, or no draws.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> found = rate_distortion(VAE(data_size=4, latent_size=2), torch.zeros(3, 4))
        >>> found.closed, {name: rate.shape for name, rate in found.rate_sites.items()}
        (('z',), {'z': torch.Size([3])})
        >>> bool((found.rate + found.distortion + found.elbo == 0).all())
        True
    """
    if num_particles < 1:
        raise ValueError(f"rate_distortion: num_particles must be at least 1, got {num_particles}")
    with frozen(program, x) as pair:
        fault = why_no_bound(pair, x[:1])
        found = [_of_one(pair, row, num_particles, n) for n, row in enumerate(each_datum(x, seed))]
    rates, distortions, closed = zip(*found, strict=True)
    return RateDistortion(_columns(rates), _columns(distortions), closed[0], num_particles, fault)


def _of_one(pair: Pair, row: Tensor, num_particles: int, number: int) -> tuple[Terms, Terms, tuple[str, ...]]:
    """Of one datum: the mean rate of each latent site, the mean distortion of each observed one, each ()."""
    rates, distortions, closed = defaultdict(_zero), defaultdict(_zero), ()
    for drawn in particles_of(pair, row, num_particles):
        known = {name: pair.per_datum(kl).expand_as(drawn.log_p) for name, kl in closed_forms(drawn).items()}  # (K, 1)
        latent, closed = latent_terms(drawn.log_p_sites, drawn.log_q_sites), tuple(known)
        for name, term in latent.items():
            rates[name] += known.get(name, -term).double().sum().cpu() / num_particles
        for name in [name for name in drawn.log_p_sites if name not in latent]:
            distortions[name] -= drawn.log_p_sites[name].double().sum().cpu() / num_particles
    for name, nats in [*rates.items(), *distortions.items()]:
        if nats.isnan():
            raise FloatingPointError(
                f"datum {number}: the log-density of site {name!r} is not a number; check the datum and the "
                "program's parameters"
            )
    return rates, distortions, closed


def _zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def _columns(rows: Sequence[Terms]) -> dict[str, Tensor]:
    """Each site's number in every row, (N,)."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
