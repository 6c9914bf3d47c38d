"""Whether a guide's draws are properly weighted, E_q[p(x, z) / q(z | x)] = p(x), without which no bound holds."""

import re
from math import prod

import torch
from torch import Tensor
from torch.distributions import biject_to

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.particles.contract import Site, latents, sample_sites
from pplvm.particles.dependencies import another_value
from pplvm.particles.factors import unnormalised
from pplvm.particles.masks import is_masked, visible_coordinates
from pplvm.particles.pair import Pair
from pplvm.particles.point_masses import has_log_density, is_point, point_in_words
from pplvm.particles.supports import narrower

__all__ = ["figure_name", "why_improperly_weighted", "why_never_tight", "why_no_bound_per_datum"]

OTHERWISE = {r"^log p\([^)]*\)": "log mean weight", r"^elbo(?=,|$)": "mean log-weight"}
"""What figures are called that are no bound on log p(x), by how they would begin."""

MOST_ROWS = 100
"""Data whose masks are looked at."""


def figure_name(name: str, fault: str) -> str:
    """The name of a log p(...) or elbo figure, or another name where the weights are not proper.

    Example:
        >>> figure_name("elbo, K=2", ""), figure_name("elbo, K=2", "no bound on log p(x): ...")
        ('elbo, K=2', 'mean log-weight, K=2')
    """
    for beginning, other in OTHERWISE.items() if fault else ():
        name = re.sub(beginning, other, name)
    return name


def why_no_bound_per_datum(pair: Pair, x: Batch) -> str:
    """As `why_improperly_weighted`, one datum at a time; "" where log-weights give a bound.

    Arguments:
        pair: as `evaluation_mode` yields it.
        x: data (N, *shape), with their conditions if they have any, of which the first is run, and more of them where
            masks may hide other latents of each.
    """
    parts = as_tuple(x)
    first = batch_rows(parts, slice(1))
    fault = why_improperly_weighted(pair, first)
    if fault or not any(map(is_masked, latents(pair.run_guide(1, first, {})).values())):
        return fault
    more = (batch_rows(parts, slice(row, row + 1)) for row in range(1, min(MOST_ROWS, len(parts[0]))))
    return next(filter(None, (_read_though_hidden(pair, row) for row in more)), "")


def why_never_tight(pair: Pair, x: Batch) -> str:
    """What keeps a bound below log p(x) however many draws it has, "" where nothing does: values that no draw has.

    Arguments:
        pair, x: as of `why_no_bound_per_datum`, without a fault.
    """
    first = batch_rows(as_tuple(x), slice(1))
    guide_trace = pair.run_guide(1, first, {})
    model, drawn = latents(pair.run_model(1, guide_trace, first, {})), latents(guide_trace)
    codes = [n for n, s in drawn.items() if n in model and is_point(s["fn"]) and model[n]["fn"].support.is_discrete]
    if codes and drawn.keys() <= model.keys():
        return f"guide site {codes[0]!r} is {point_in_words(drawn[codes[0]]['fn'])}, the one state that is weighed"
    return next(iter(narrower(model, drawn).values()), "")


def why_improperly_weighted(pair: Pair, x: Batch) -> str:
    """Why the log-weights of a batch give no bounds on log p(x); "" where they do.

    A point mass of a continuous latent has all its mass where p(x, z) is a density, so that the weight may be
    anything; an auxiliary site of the guide counts in q alone. Together they are right where each point carries
    auxiliary coordinates through a bijection, whose Jacobian is its log_density, as in Pyro's AutoGuides: as many of
    one as of the other. A point mass of a discrete latent is a guide like others, of probability 1 at its value: the
    weight p(x, z) is then at most p(x). A factor, or another term that nothing normalises, is no part of p(x, z) or
    q(z | x) at all. For a masked draw nothing is paid, so that nothing may read it.

    Arguments:
        x: a batch (B, *shape), with its conditions if it has any.
    """
    args = as_tuple(x)
    guide_trace = pair.run_guide(1, args, {})
    model_trace = pair.run_model(1, guide_trace, args, {})
    if term := unnormalised(sample_sites(model_trace), sample_sites(guide_trace)):
        return f"no bound on log p(x): {term}"
    drawn, model = latents(guide_trace), latents(model_trace)
    apart = {name: site for name, site in drawn.items() if name not in model}
    points = {name: model[name] for name, site in drawn.items() if name in model and is_point(site["fn"])}
    codes = {name for name, site in points.items() if site["fn"].support.is_discrete}
    carried = sum(site["value"].numel() for site in apart.values())
    needed = sum(_free_coordinates(site) for name, site in points.items() if name not in codes)
    if needed > carried:
        name = next(name for name in points if name not in codes)
        told = point_in_words(drawn[name]["fn"])
        return f"no bound on log p(x): guide site {name!r} is {told}, so that this is log p(x, z) at one point"
    if weighed := next((name for name in codes if not apart and has_log_density(drawn[name]["fn"])), None):
        told = point_in_words(drawn[weighed]["fn"])
        return (
            f"no bound on log p(x): guide site {weighed!r} is {told} with a log_density "
            "and carries no auxiliary draw: leave it out, as the probability of its one value is 1"
        )
    if carried > needed + sum(points[name]["value"].numel() for name in codes):
        return (
            f"no bound on log p(x): auxiliary guide site {next(iter(apart))!r} counts in q alone; let the model draw "
            "it too"
        )
    return _read_though_hidden(pair, args)


def _read_though_hidden(pair: Pair, args: tuple[Tensor, ...]) -> str:
    """A term of the model that reads coordinates of a latent that masks hide."""
    drawn = pair.run_guide(1, args, {})
    changed = drawn.copy()
    hidden = {name: site for name, site in latents(drawn).items() if is_masked(site)}
    for name, site in hidden.items():
        kept = torch.where(
            visible_coordinates(site).to(site["value"].device), site["value"], another_value(site["fn"], site["value"])
        )
        changed.nodes[name] = dict(site, value=kept)
    if not hidden:
        return ""
    before, after = (pair.site_terms(pair.run_model(1, trace, args, {})) for trace in (drawn, changed))
    for name, term in before.items():
        if not torch.equal(term, after[name]):
            return (
                f"no bound on log p(x): site {next(iter(hidden))!r} is masked, so that nothing is paid for its draw, "
                f"but site {name!r} reads it: mask what reads it too, or neither"
            )
    return ""


def _free_coordinates(site: Site) -> int:
    """The degrees of freedom of a continuous latent: n - 1 for a simplex of n coordinates."""
    shape = torch.Size(site["value"].shape)
    try:
        return prod(biject_to(site["fn"].support).inverse_shape(shape))
    except NotImplementedError:
        return prod(shape)
