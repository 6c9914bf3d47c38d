"""Latent traversals: one unit of a latent is moved over a range, the others stay.

The latents start where the guide puts a datum: at the mean of a continuous distribution (on a sphere at its mode), at a
draw of a discrete one.
Latents below the moved one follow it in the same way where it changes their distribution in the model (else nothing
would be seen of the upper layers of a hierarchy); all others stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal, Normal

from pplvm.batch import Batch, as_tuple
from pplvm.evaluation.decoding import Decoder, named, posterior, values_of
from pplvm.evaluation.per_datum import each_datum, evaluation_mode
from pplvm.particles.contract import Site
from pplvm.particles.enumeration import coordinates, one_coordinate, support
from pplvm.particles.supports import support_in_words

__all__ = ["Traversals", "traversals"]

DEVIATIONS = torch.arange(-3.0, 4.0, dtype=torch.float64)
"""A continuous unit moves to the quantiles of its distribution that a normal one has at these deviations."""
DRAWS_FOR_QUANTILES = 10_000


@dataclass(frozen=True)
class Traversals:
    """The model's means as one unit at a time is moved."""

    images: Tensor  # (U, V, *shape), means
    values: Tensor  # (U, V), of the unit in each image; a category's number


def traversals(
    program: nn.Module,
    x: Batch,
    site: str,
    units: Sequence[int],
    values: Sequence[float] | None = None,
    seed: int = 0,
) -> Traversals:
    """Move one unit at a time, starting from the guide's latents of one datum.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: the datum, (1, *shape), or the datum and its conditions, (x, y), which are given to all images.
        site: the latent that is moved.
        units: which of its coordinates, counted from 0 over all that it has for one datum; a one-hot vector is one.
        values: the values that a unit takes, a category by its number; None for all states of a finite unit, else for
            seven quantiles of its distribution in the model, which are -3, ..., 3 where that is a standard normal.
        seed: of the draws, where there is no mean.

    Raises:
        ProgramError: no observed site, or more than one, is the data, or the model reads them before it draws them.
        ValueError: there is no such site or unit, or a value is outside the site's support.

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> found = traversals(VAE(64, latent_size=3), torch.zeros(1, 8, 8), "z", units=[0, 2])
        >>> found.images.shape, found.values[0].round().tolist()
        (torch.Size([2, 7, 8, 8]), [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    """
    datum, *conditions = as_tuple(x)
    if len(datum) != 1:
        raise ValueError(f"traversals moves the latents of one datum, and x holds {len(datum)}: give x[:1]")
    with evaluation_mode(program, x) as pair:
        decoder = Decoder(pair, x, seed)
        (sites,) = (posterior(pair, row) for row in each_datum(x, seed))
        value, still = named(sites, site)["value"], decoder.still(values_of(sites), *conditions)
        distribution = still.nodes[site]["fn"]
        told, put = _places(still.nodes[site], units, values)
        moved = [_with_unit(value, unit, s) for unit, states in zip(units, put, strict=True) for s in states]
        if isinstance(coordinates(distribution).support, type(constraints.sphere)):
            raise ValueError(
                f"traversals: site {site!r} lies on a sphere, of which no coordinate moves alone: use interpolations "
                "with how='spherical'"
            )
        if not all(distribution.support.check(v).all() for v in moved):
            raise ValueError(
                f"traversals: site {site!r} leaves its support {support_in_words(distribution.support)}: "
                "give other values"
            )
        images = decoder.pictures(still, [{site: v} for v in moved], [conditions] * len(moved))
    return Traversals(images.reshape(*told.shape, *datum.shape[1:]), told)


def _places(site: Site, units: Sequence[int], values: Sequence[float] | None) -> tuple[Tensor, Tensor]:
    """The values of each unit, as reported (U, V), and as set, (U, V, own...): a one-hot unit is a vector."""
    distribution, name, value = site["fn"], site["name"], site["value"]
    single = one_coordinate(distribution)
    finite = single.has_enumerate_support
    own = single.event_shape if finite else torch.Size()
    size = value.numel() // own.numel()
    if not units or not all(0 <= unit < size for unit in units):
        raise ValueError(f"traversals: site {name!r} has the units 0 to {size - 1}, and units is {list(units)}")
    if not finite:
        told = _quantiles(site, units) if values is None else torch.as_tensor(values).to(value).expand(len(units), -1)
        return told, told
    states = support(distribution)  # (S, own...)
    known = torch.arange(len(states), device=states.device) if own else states  # (S,)
    told = known if values is None else torch.as_tensor(values, device=states.device)
    found = told.unsqueeze(-1) == known  # (V, S)
    if not found.any(-1).all():
        raise ValueError(f"traversals: a unit of site {name!r} takes the values {known.tolist()}, not {told.tolist()}")
    put = states[found.long().argmax(-1)]
    return told.expand(len(units), -1), put.expand(len(units), *put.shape)


def _quantiles(site: Site, units: Sequence[int]) -> Tensor:
    """Quantiles of each coordinate's distribution, (U, V), in closed form or from many draws."""
    value, single = site["value"], coordinates(site["fn"])
    out = DEVIATIONS.to(value).reshape(-1, *[1] * value.dim())
    try:
        if isinstance(single, MultivariateNormal | LowRankMultivariateNormal):
            quantiles = single.mean + out * single.stddev
        else:
            quantiles = single.icdf(Normal(0.0, 1.0).cdf(out))
    except NotImplementedError:
        draws = site["fn"].sample(torch.Size([DRAWS_FOR_QUANTILES])).flatten(1)[:, list(units)]
        return draws.quantile(Normal(0.0, 1.0).cdf(out).flatten(), 0, interpolation="nearest").T
    return quantiles.expand(-1, *value.shape).flatten(1)[:, list(units)].T


def _with_unit(value: Tensor, unit: int, state: Tensor) -> Tensor:
    flat = value.reshape(-1, *state.shape).clone()
    flat[unit] = state.to(value)
    return flat.reshape(value.shape)
