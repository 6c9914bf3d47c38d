"""Samples of a program: draws from the prior, reconstructions and interpolations.

The typical value of a latent is the mean of a continuous distribution (on a sphere its mode), and a draw of a discrete
one.
"""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple
from pplvm.evaluation.decoding import Decoder, Samples, named, posterior, require_latents, values_of
from pplvm.evaluation.interpolation import linear_path, spherical_path, stepwise_path
from pplvm.evaluation.per_datum import each_datum, each_row, evaluation_mode
from pplvm.evaluation.temperature import (
    AtTemperature,
    batch_normalizations,
    recompute_statistics,
    require_temperature,
)
from pplvm.particles.contract import Site, latents
from pplvm.particles.enumeration import coordinates
from pplvm.particles.supports import support_in_words

__all__ = ["interpolations", "prior_samples", "reconstructions"]

PATHS = {"linear": linear_path, "spherical": spherical_path}


def prior_samples(program: nn.Module, like: Batch, count: int, seed: int = 0, temperature: float = 1.0) -> Samples:
    """Run the model without data: means and draws of the data, (N, *shape) each.

    Below temperature one latents lie nearer to their means, and samples are typical rather than diverse. They are then
    no samples of the model: its likelihood is that at temperature one.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        like: a datum, (1, *shape), which gives the shape alone; or (x, y), whose conditions y (M, ...) are given in
            turn: sample n has those of row n, counted on from the first again.
        count: N.
        seed: of the draws; another count is another set of draws.
        temperature: T, by which the standard deviation of each normal latent is multiplied, a flow's base included, and
            the logits of each categorical one, or code, are divided; running statistics of batch normalization are
            those of samples at T, in a copy of the program.

    Raises:
        ProgramError: no observed site, or more than one, is the data, or the model reads them before it draws them.
        ValueError: count or temperature is not positive; a latent has no temperature (one of bits, say).

    Example:
        >>> from pplvm.programs.vae import VAE
        >>> prior_samples(VAE(64), torch.zeros(1, 8, 8), 5).draw.shape
        torch.Size([5, 8, 8])

    References:
        Vahdat and Kautz, NVAE: a deep hierarchical variational autoencoder, 2020, arXiv:2007.03898 (statistics at T)
    """
    if count < 1:
        raise ValueError(f"prior_samples: count must be at least 1, got {count}")
    if temperature == 1:
        with evaluation_mode(program, like) as pair:
            return Decoder(pair, like, seed).prior(count)
    has_statistics = bool(batch_normalizations(program))
    program = copy.deepcopy(program) if has_statistics else program
    with evaluation_mode(program, like) as pair:
        require_temperature(pair, like, temperature)
        if has_statistics:
            recompute_statistics(program, pair, like, temperature, seed)
        with AtTemperature(temperature):
            return Decoder(pair, like, seed).prior(count)


def reconstructions(program: nn.Module, x: Batch, seed: int = 0) -> Tensor:
    """The mean of p(x | z) at one draw z of q(z | x) for each datum, (N, *shape), both given its conditions if any.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x: data, (N, *shape), or data and their conditions, (x, y).
        seed: of the draws, which depend on it and on the datum alone.

    Raises:
        ProgramError: as of `prior_samples`.
    """
    with evaluation_mode(program, x) as pair:
        first, *_ = rows = [as_tuple(row) for row in each_row(x)]
        decoder = Decoder(pair, first, seed)
        require_latents(pair.run_guide(1, first, {}))
        drawn = (latents(pair.run_guide(1, as_tuple(row), {})) for row in each_datum(x, seed))
        pairs = zip(drawn, rows, strict=True)
        return torch.cat([decoder.at(values_of(sites), *row[1:]).mean for sites, row in pairs])


def interpolations(
    program: nn.Module,
    x_from: Batch,
    x_to: Batch,
    steps: int,
    how: Literal["linear", "spherical"] = "linear",
    site: str | None = None,
    seed: int = 0,
) -> Tensor:
    """The model's means as the latents go from the guide's value for one datum to that for another.

    Discrete latents have no path: their coordinates that differ step over one after another. Nor have conditions: each
    image is given those of the datum it is nearer to, and those of x_to half way.

    Arguments:
        program: with methods model(x) and guide(x), or model(x, y) and guide(x, y) of conditions.
        x_from, x_to: data, (N, *shape) each, or data and their conditions, (x, y) each.
        steps: T, at least 2, both ends counted.
        how: continuous latents go straight, or along the sphere, each site of each datum as one vector.
        site: the one latent that goes; others follow where this changes their distribution in the model, by its
            mean or a draw, and the rest stay where x_from is. None for all latents together.
        seed: of the draws, where there is no mean.

    Returns:
        (N, T, *shape).

    Raises:
        ProgramError: as of `prior_samples`.
        ValueError: an argument is none of these, or a path leaves the support of its site.

    References:
        White, Sampling generative networks, 2016, arXiv:1609.04468 (along the sphere)
    """
    _check(x_from, x_to, steps, how)
    with evaluation_mode(program, x_from) as pair:
        pairs = [(as_tuple(one), as_tuple(other)) for one, other in zip(each_row(x_from), each_row(x_to), strict=True)]
        first = pairs[0][0]
        decoder, shares = Decoder(pair, first, seed), torch.linspace(0, 1, steps, device=first[0].device)
        starts, ends = ([posterior(pair, row) for row in each_datum(x, seed)] for x in (x_from, x_to))
        rows = []
        for start, end, (one, other) in zip(starts, ends, pairs, strict=True):
            going = start if site is None else {site: named(start, site)}
            paths = {name: _path(start[name], end[name]["value"], shares, how) for name in going}
            places = [{name: path[t] for name, path in paths.items()} for t in range(steps)]
            given = [(one if t < (steps - 1) / 2 else other)[1:] for t in range(steps)]
            rows.append(decoder.pictures(decoder.still(values_of(start), *one[1:]), places, given))
    return torch.stack(rows)


def _check(x_from: Batch, x_to: Batch, steps: int, how: str) -> None:
    if steps < 2:
        raise ValueError(f"interpolations: steps must be at least 2, both ends counted, got {steps}")
    if how not in PATHS:
        raise ValueError(f"interpolations: how is {how!r}, which is not among {', '.join(map(repr, PATHS))}")
    found = [[tuple(part.shape) for part in as_tuple(x)] for x in (x_from, x_to)]
    if found[0] != found[1]:
        shapes = " and ".join(", ".join(map(str, each)) for each in found)
        raise ValueError(f"interpolations: x_from and x_to are {shapes}: give as many data to go to as to come from")


def _path(start: Site, end: Tensor, shares: Tensor, how: str) -> Tensor:
    """(T, *value), on the site's support."""
    fn, value = start["fn"], start["value"]
    if fn.support.is_discrete:
        return stepwise_path(value, end, shares, len(coordinates(fn).event_shape))
    path = PATHS[how](value, end, shares.to(value.dtype))
    if not fn.support.check(path).all():
        other = next(name for name in PATHS if name != how)
        raise ValueError(
            f"interpolations: the {how} path of site {start['name']!r} leaves its support "
            f"{support_in_words(fn.support)}: use how={other!r}"
        )
    return path
