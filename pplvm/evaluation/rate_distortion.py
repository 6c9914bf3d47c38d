"""Rate and distortion, datum by datum: the two parts of the negative elbo.

    rate_l     = E_q[log q(z_l) - log p(z_l)]       of each latent site
    distortion = -E_q[log p(x | z)]                 of each observed site
    -elbo      = sum of rates + sum of distortions

References:
    Alemi, Poole, Fischer, Dillon, Saurous and Murphy, Fixing a broken ELBO, 2018, arXiv:1711.00464
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.evaluation.figures import Figure, mean_of
from pplvm.evaluation.likelihood_names import LikelihoodNames, likelihood_names
from pplvm.evaluation.particle_terms import ParticleTerms
from pplvm.evaluation.per_datum import Seed, each_datum, evaluation_mode
from pplvm.evaluation.proper_weighting import figure_name, why_no_bound_per_datum
from pplvm.graphs.compiled import Tier
from pplvm.objectives.pathwise import closed_forms
from pplvm.particles.contract import latents
from pplvm.particles.dependencies import dependents
from pplvm.particles.drawn_alike import is_drawn_alike
from pplvm.particles.pair import Pair, Particles
from pplvm.particles.point_masses import is_point
from pplvm.particles.tempering import latent_terms

__all__ = ["RateDistortion", "rate_distortion"]

Nats = Mapping[str, Tensor]


@dataclass(frozen=True)
class RateDistortion:
    """Rate and distortion of each site, (N,), float64, in nats; inf where p(x | z) of a draw is 0."""

    rate_sites: dict[str, Tensor]
    distortion_sites: dict[str, Tensor]
    closed: tuple[str, ...]  # latent sites whose KL(q || p) is in closed form, given the sites that it depends on
    num_particles: int
    fault: str = ""  # what keeps the elbo from a bound on log p(x)
    names: LikelihoodNames = LikelihoodNames()  # what the elbo bounds the log density of
    alike: tuple[str, ...] = ()  # latent sites that both roles draw alike, which have no figure of their own

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
        drawn = f"{self.num_particles} draws" if self.num_particles > 1 else "one draw"
        notes = {name: "KL in closed form" if name in self.closed else drawn for name in self.rate_sites}
        rates = [
            mean_of(f"rate of {name}", r, note=notes[name])
            for name, r in self.rate_sites.items()
            if name not in self.alike
        ]
        distortions = [mean_of(f"distortion of {name}", d, note=drawn) for name, d in self.distortion_sites.items()]
        note = "; ".join(filter(None, [drawn, self.fault or self.names.bounded]))
        return [
            mean_of(figure_name("elbo", self.fault), self.elbo, note=note),
            mean_of("rate", self.rate, note="; ".join(sorted(set(notes.values())))),
            *(rates if len(rates) > 1 else []),
            mean_of("distortion", self.distortion, note=drawn),
            *(distortions if len(distortions) > 1 else []),
        ]


def rate_distortion(
    program: nn.Module,
    x: Batch,
    *,
    num_particles: int = 100,
    seed: Seed = 0,
    compile: Tier = "auto",
    report: Callable[[int, int], None] = lambda *progress: None,
) -> RateDistortion:
    """Estimate rate and distortion of each site, one datum at a time, in evaluation mode without gradient.

    A site's rate is the mean over the draws of its KL(q || p) where torch knows that in closed form, of log q - log p
    elsewhere. An auxiliary draw and the point masses that carry it, as in Pyro's AutoGuides, are one latent, named
    after these; any other auxiliary site has rate log q.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: data (N, *shape), or data and their conditions, (x, y).
        num_particles: K, draws of each datum; one of a guide that always draws the same, as all its sites are points.
        seed: of the draws, or one for each datum (`datum_seeds`), where x is a part of the data.
        compile: "off" for the program's handlers, "graph" or "inductor" for one graph of it, "auto" for what pays.
        report: is told how many data are done, and of how many.

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
    with evaluation_mode(program, x, num_particles) as pair:
        fault, names = why_no_bound_per_datum(pair, x), likelihood_names(pair, x)
        num_particles = 1 if _draws_the_same(pair, batch_rows(as_tuple(x), slice(1))) else num_particles
        carried = _carried(pair, batch_rows(as_tuple(x), slice(1)))
        drawn = latents(pair.run_guide(1, batch_rows(as_tuple(x), slice(1)), {}))
        alike = tuple(name for name, site in drawn.items() if is_drawn_alike(site["fn"]))
        terms, found = ParticleTerms(pair, x, num_particles, lambda drawn: _terms(pair, drawn, carried), compile), []
        for number, row in enumerate(each_datum(x, seed)):
            found.append(_of_one(terms(row), number))
            report(number + 1, terms.num_data)
    rates, distortions, closed = zip(*found, strict=True)
    return RateDistortion(_columns(rates), _columns(distortions), closed[0], num_particles, fault, names, alike)


def _draws_the_same(pair: Pair, row: tuple[Tensor, ...]) -> bool:
    drawn = latents(pair.run_guide(1, row, {}))
    return bool(drawn) and all(is_point(site["fn"]) for site in drawn.values())


def _carried(pair: Pair, row: tuple[Tensor, ...]) -> dict[str, str]:
    """The common name of auxiliary draws and of the point masses that are computed from them."""
    guide_trace = pair.run_guide(1, row, {})
    drawn, model = latents(guide_trace), latents(pair.run_model(1, guide_trace, row, {}))
    points = {name for name, site in drawn.items() if name in model and is_point(site["fn"])}
    if not points or drawn.keys() <= model.keys():
        return {}
    groups = [{name} for name in drawn]
    for name, found in dependents(pair, row, {}).items():
        if name not in model and (carrying := found.redrawn & points):
            joined = [group for group in groups if group & {name, *carrying}]
            groups = [group for group in groups if group not in joined] + [set[str]().union(*joined)]
    named = {name: ", ".join(n for n in drawn if n in group & points) for group in groups for name in group}
    return {name: together for name, together in named.items() if together}


def _terms(pair: Pair, drawn: Particles, carried: Mapping[str, str]) -> dict[tuple[str, str], Tensor]:
    """One datum's terms by kind and site, (K,) each."""
    closed, latent = closed_forms(drawn), latent_terms(drawn.log_p_sites, drawn.log_q_sites)
    terms: dict[tuple[str, str], Tensor] = {}
    for name, term in latent.items():
        if name in closed:
            terms["closed rate", name] = pair.per_datum(closed[name]).expand_as(drawn.log_p)[:, 0]
        else:
            key = "drawn rate", carried.get(name, name)
            terms[key] = terms.get(key, 0.0) - term[:, 0]
    seen = {name: term for name, term in drawn.log_p_sites.items() if name not in latent}
    return terms | {("distortion", name): -term[:, 0] for name, term in seen.items()}


def _of_one(terms: Mapping[tuple[str, str], Tensor], number: int) -> tuple[Nats, Nats, tuple[str, ...]]:
    """Mean rate of each latent site and mean distortion of each observed one, each ()."""
    means = {key: term.double().mean().cpu() for key, term in terms.items()}
    for (_, name), nats in means.items():
        if nats.isnan():
            raise FloatingPointError(
                f"datum {number}: the log-density of site {name!r} is not a number; check the datum and the "
                "program's parameters"
            )
    rates = {name: nats for (kind, name), nats in means.items() if kind != "distortion"}
    distortions = {name: nats for (kind, name), nats in means.items() if kind == "distortion"}
    return rates, distortions, tuple(name for kind, name in means if kind == "closed rate")


def _columns(rows: Sequence[Nats]) -> dict[str, Tensor]:
    """Each site's values over all data, (N,)."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
