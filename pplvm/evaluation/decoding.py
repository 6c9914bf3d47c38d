"""Decodes given latents: mean and draw of the data's distribution under the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.distributions.autoregressive import Autoregressive
from pplvm.distributions.autoregressive_sampling import draw_value_by_value
from pplvm.evaluation.per_datum import cycle_conditions
from pplvm.particles.contract import ProgramError, Site, latents
from pplvm.particles.dreams import (
    batch_first,
    is_the_data,
    join_steps,
    latent_values,
    require_sampled,
    sites_sampled_as_data,
    steps_of,
    without_data,
)
from pplvm.particles.enumeration import coordinates
from pplvm.particles.pair import Pair

__all__ = ["Decoder", "Samples", "named", "posterior", "require_latents", "values_of"]

DRAWS_FOR_A_MEAN = 100
"""Where a likelihood has no mean in closed form: its noise is a tenth of that of one draw."""


@dataclass(frozen=True)
class Samples:
    """Means and draws of data under the model, in the data's shape."""

    mean: Tensor  # (N, *shape), of the observed site's distribution, e.g. the probabilities of a Bernoulli
    draw: Tensor  # (N, *shape), from it


class Decoder:
    """The model of a checked pair, run with its data unobserved.

    Arguments:
        pair: as `evaluation_mode` yields it.
        like: a datum, (1, *shape), which gives the shape; or (x, y) with the conditions of N data, to be given in turn.
        seed: of all that the model draws; the same in every run, so that pictures differ in their latents alone.

    Raises:
        ProgramError: no observed site, or more than one, is the data; or the model reads its data, so that one run
            does not tell what it says of latents, and offers no steps (`ValueByValue`) or steps of another
            distribution.
    """

    def __init__(self, pair: Pair, like: Batch, seed: int) -> None:
        self.pair, self.like, self.seed = pair, as_tuple(like), seed
        self._by_value = steps_of(pair)
        first = batch_rows(self.like, slice(1))
        self.site = _data_site(self._run_in(_Placed({}, {}, set()), first), first[0])
        require_sampled(pair, self.site, first, {})

    def prior(self, count: int) -> Samples:
        """Decode latents drawn from the model, given the conditions of one datum after another."""
        args = cycle_conditions(self.like, range(count))
        return self._samples(self._run_in(_Placed({}, {}, set()), args), args)

    def at(self, held: Mapping[str, Tensor], *conditions: Tensor) -> Samples:
        """Decode given latents of one datum, given its conditions (1, ...)."""
        args = self._given(conditions)
        return self._samples(self._run_in(_Placed(held, {}, set()), args), args)

    def still(self, held: Mapping[str, Tensor], *conditions: Tensor) -> Trace:
        """The model's trace at given latents, the start of a traversal."""
        return self._run_in(_Placed(held, {}, set()), self._given(conditions))

    def pictures(
        self, still: Trace, places: Sequence[Mapping[str, Tensor]], conditions: Sequence[Sequence[Tensor]]
    ) -> Tensor:
        """Means with some latents moved to each place in turn: (T, *shape).

        Latents whose distribution any place changes follow it in all places, at its mean or at a draw; others stay.

        Arguments:
            conditions: T of them, those of the datum at each place; each is empty where the program takes none.
        """
        stood = {name: s for name, s in latents(still).items() if not s["infer"].get("was_observed")}
        following: set[str] = set()
        for _ in range(2):  # once to see who follows, and again with all of them following everywhere
            images = []
            for place, given in zip(places, conditions, strict=True):
                args = self._given(given)
                images.append(self._samples(self._run_in(_Placed(place, stood, following), args), args).mean)
        return torch.cat(images)

    def _given(self, conditions: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A datum of the right shape with these conditions."""
        return self.like[0][:1], *conditions

    def _run_in(self, placed: "_Placed", args: tuple[Tensor, ...]) -> Trace:
        torch.manual_seed(self.seed)
        with placed:
            return without_data(self.pair, args, {})

    def _samples(self, trace: Trace, args: tuple[Tensor, ...]) -> Samples:
        x, fn, value = args[0], trace.nodes[self.site]["fn"], trace.nodes[self.site]["value"]
        if self._by_value is not None:
            distributions, draws = draw_value_by_value(
                self._by_value, latent_values(trace), len(x), x[0].numel(), args[1:]
            )
            mean, value = (
                join_steps(parts, len(x))
                for parts in ([_mean_or_near(distribution) for distribution in distributions], draws)
            )
        elif isinstance(given := coordinates(fn), Autoregressive):  # of each value given those drawn before it
            mean, value = batch_first(_mean_or_near(given.conditionals(value)), fn), batch_first(value, fn)
        else:
            mean, value = batch_first(_mean_or_near(fn), fn), batch_first(value, fn)
        real = x.dtype if x.is_floating_point() else mean.dtype
        return Samples(mean.detach().reshape(x.shape).to(real), value.reshape(x.shape).to(x.dtype))


def posterior(pair: Pair, row: Batch) -> dict[str, Site]:
    """The guide's latents for one datum, each at its typical value given those before it."""
    with _Typical():
        guide_trace = pair.run_guide(1, as_tuple(row), {})
    require_latents(guide_trace)
    return {name: site for name, site in latents(guide_trace).items() if not site["infer"].get("is_auxiliary")}


def require_latents(trace: Trace) -> None:
    """Refuse a program whose data depend on no latent of its guide.

    Raises:
        ProgramError: the guide has no latent.
    """
    if not latents(trace):
        raise ProgramError("the program has no latents, so that no datum has a place in them: use prior_samples")


def values_of(sites: Mapping[str, Site]) -> dict[str, Tensor]:
    return {name: site["value"] for name, site in sites.items()}


def named(sites: Mapping[str, Site], name: str) -> Site:
    """The site of a name; ValueError if there is none."""
    if name not in sites:
        raise ValueError(f"there is no latent {name!r}: take one of {', '.join(map(repr, sites))}")
    return sites[name]


def _typical(fn: Distribution) -> Tensor:
    """The mean of a continuous distribution if it lies in the support, else its mode (on a sphere), else a draw."""
    support: Any = fn.support
    for value in () if support.is_discrete else (_mean(fn), _mode(fn)):
        if value is not None and support.check(value).all():
            return value
    return fn.sample()


class _Typical(Messenger):
    """A Pyro messenger that sets every latent to its typical value."""

    def _pyro_sample(self, msg: Any) -> None:
        if not (msg["done"] or msg["is_observed"] or site_is_subsample(msg)):
            msg["value"], msg["done"] = _typical(msg["fn"]), True


class _Placed(Messenger):
    """A Pyro messenger that sets latents to given values and keeps others, unless their distribution has changed.

    Arguments:
        placed: the values.
        stood: the other latents' sites before.
        following: those that follow; who is found to is added.
    """

    def __init__(self, placed: Mapping[str, Tensor], stood: Mapping[str, Site], following: set[str]) -> None:
        super().__init__()
        self.placed, self.stood, self.following = placed, stood, following

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.placed:
            msg["value"], msg["done"] = self.placed[name], True
        elif name in self.stood:
            fn, before = msg["fn"], self.stood[name]
            if not _same_distribution(fn, before["fn"], before["value"]):
                self.following.add(name)
            msg["value"], msg["done"] = _typical(fn) if name in self.following else before["value"], True


def _same_distribution(fn: Distribution, before: Distribution, value: Tensor) -> bool:
    """Whether two distributions of one kind agree, coordinate by coordinate, at a value and at typical ones."""
    one, other = (coordinates(distribution).log_prob(value) for distribution in (fn, before))
    means = [mean for distribution in (fn, before) if (mean := _mean(distribution)) is not None]
    return torch.allclose(one, other) and (len(means) < 2 or torch.allclose(*means))


def _mean(fn: Distribution) -> Tensor | None:
    try:
        mean = fn.mean
    except NotImplementedError:
        return None
    return None if mean.isnan().any() else mean


def _mode(fn: Distribution) -> Tensor | None:
    try:
        return fn.mode
    except NotImplementedError:
        return None


def _mean_or_near(fn: Distribution) -> Tensor:
    """The mean in closed form, or else of many draws."""
    mean = _mean(fn)
    return fn.sample((DRAWS_FOR_A_MEAN,)).double().mean(0) if mean is None else mean


def _data_site(trace: Trace, x: Tensor) -> str:
    observed = sites_sampled_as_data(trace)
    found = [name for name, site in observed.items() if is_the_data(site, x)]
    if len(found) != 1:
        named = " and ".join(map(repr, observed))
        raise ProgramError(
            f"the model observes {named}, of which {len(found) or 'none'} hold the data {tuple(x.shape)} as they are: "
            "let one site alone observe the data themselves, so that its draws are data"
        )
    return found[0]
