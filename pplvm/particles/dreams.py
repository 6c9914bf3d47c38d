"""Dreams: latents and data drawn from the model's joint (z, x) ~ p, as in wake-sleep.

A run of the model without its data draws from its joint only if no distribution reads the data that it is given. An
autoregressive model reads them; it is sampled by the steps that its program offers (`ValueByValue`). Conditions stay
given, (z, x) ~ p(. | y), those too that a model observes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution

from pplvm.distributions.autoregressive_sampling import ValueByValue, draw_value_by_value
from pplvm.particles.conditions import WithoutData, observed_conditions
from pplvm.particles.contract import ProgramError, Site, latents, sample_sites
from pplvm.particles.factors import is_factor
from pplvm.particles.pair import Pair, owners
from pplvm.particles.side_effects import cuda_devices, without_side_effects

__all__ = [
    "batch_first",
    "dream",
    "is_the_data",
    "join_steps",
    "latent_values",
    "require_dreams",
    "require_sampled",
    "sites_sampled_as_data",
    "steps_of",
    "without_data",
]

OTHER_DATA = 8
"""Dreams given to the model in place of its data, to see whether a distribution changes: each misses a fair bit that is
read, where one datum has but one, in half of all cases."""


def dream(pair: Pair, args: tuple, kwargs: dict) -> tuple[Trace, Tensor]:
    """Run the model without its data; returns the trace and the dreamt data, in shape and dtype of the first argument.

    Arguments:
        pair: which `require_dreams` lets pass.
        args, kwargs: what the model takes, data and their conditions; of the data only their shape counts.
    """
    with torch.no_grad():
        trace, like = without_data(pair, args, kwargs), args[0]
        if (steps := steps_of(pair)) is None:
            (site,) = sites_sampled_as_data(trace).values()
            return trace, _as_data(batch_first(site["value"], site["fn"]), like)
        _, draws = draw_value_by_value(steps, latent_values(trace), len(like), like[0].numel(), args[1:])
        x = _as_data(join_steps(draws, len(like)), like)
        return pair.again.run_model(1, trace, (x, *args[1:]), kwargs), x


def require_dreams(pair: Pair, args: tuple, kwargs: dict) -> None:
    """Refuse a model whose dreams have not the form of the data that the guide takes.

    Raises:
        ProgramError: there is more than one observed site, or one that is not the data; as `require_sampled`.
    """
    with without_side_effects(owners(pair.model), args), torch.no_grad():
        trace = without_data(pair, args, kwargs)
    observed = sites_sampled_as_data(trace)
    if factor := next((name for name, site in sample_sites(trace).items() if is_factor(site)), None):
        raise ProgramError(
            f"the model's draws are not weighed by its factor {factor!r}: let a distribution give the term"
        )
    if len(observed) > 1:
        raise ProgramError(
            f"data are dreamt at one observed site, but the model observes {' and '.join(map(repr, observed))}: "
            "join them into one"
        )
    ((name, site),) = observed.items()
    _require_the_data(name, site, args[0])
    require_sampled(pair, name, args, kwargs)


def require_sampled(pair: Pair, name: str, args: tuple, kwargs: dict) -> None:
    """Refuse a model whose runs without data do not sample its joint, step by step where the program offers it.

    Arguments:
        name: the observed site that holds the data.

    Raises:
        ProgramError: the model reads the data beside observing them, by gradient, even through weights that are zero,
            or by what other data change; or steps give their draws another density than the model does.
    """
    with without_side_effects(owners(pair.model), args), torch.no_grad():
        drawn, steps = without_data(pair, args, kwargs), steps_of(pair)
        stepwise = set[str]() if steps is None else {name}
        reading = _reading_by_gradient(pair, drawn, args, kwargs) - stepwise
        reading = reading or _changed_by_other_data(pair, drawn, name, args, kwargs) - stepwise
        if name in reading:
            raise ProgramError(
                f"the model reads the data before it draws site {name!r} (as autoregressive models do), so one "
                "run does not sample it: give the program the methods init_cache and step, see ValueByValue"
            )
        if reading:
            raise ProgramError(
                f"the model reads the data before it draws site {min(reading)!r}, so one run without them does not "
                f"sample it: let it depend on latents, or on what pyro.sample({name!r}, ...) returns"
            )
        if steps is not None:
            _require_same_density(pair, steps, drawn, name, args, kwargs)


def without_data(pair: Pair, args: tuple, kwargs: dict) -> Trace:
    """Run the model once, sampling what it would observe.

    Raises:
        ProgramError: the distribution of the data cannot be drawn from.
    """
    try:
        return pair.again.run(_without_data(pair, args, kwargs), 1, args, kwargs)
    except NotImplementedError as error:  # of a distribution that has a density and no draws, or none for some values
        raise ProgramError(f"the model cannot draw its data: {str(error).splitlines()[0].rstrip('.')}") from error


def _without_data(pair: Pair, args: tuple, kwargs: dict) -> Callable[..., Any]:
    """The model that draws its data and is given their conditions."""
    return WithoutData(frozenset(observed_conditions(pair, args, kwargs)))(pair.model)


def sites_sampled_as_data(trace: Trace) -> dict[str, Site]:
    """The sites sampled in place of data; the data themselves stand in `site["infer"]["obs"]`."""
    return {name: site for name, site in sample_sites(trace).items() if site["infer"].get("was_observed")}


def latent_values(trace: Trace) -> dict[str, Tensor]:
    """The latent values of a run without data."""
    return {n: site["value"] for n, site in latents(trace).items() if not site["infer"].get("was_observed")}


def steps_of(pair: Pair) -> ValueByValue | None:
    """The module of the model that samples data value by value, if there is one."""
    return next((each for each in owners(pair.model) if isinstance(each, ValueByValue)), None)


def is_the_data(site: Site, x: Tensor) -> bool:
    """Whether the observation of a site in a run without data is the data itself."""
    seen = site["infer"]["obs"]
    return seen.numel() == x.numel() and torch.equal(_as_data(batch_first(seen, site["fn"]), x), x)


def batch_first(value: Tensor, fn: Distribution) -> Tensor:
    """A site's value (nested plates..., B, event...) with the batch dimension first: (B, ...)."""
    return value.expand(fn.batch_shape + fn.event_shape).movedim(-1 - len(fn.event_shape), 0)


def join_steps(parts: Sequence[Tensor], num_data: int) -> Tensor:
    """Stack the values of all steps, (N, D)."""
    return torch.cat([part.reshape(num_data, -1) for part in parts], 1)


def _as_data(rows: Tensor, like: Tensor) -> Tensor:
    return rows.reshape(like.shape).to(like.dtype)


def _require_the_data(name: str, site: Site, x: Tensor) -> None:
    if not is_the_data(site, x):
        raise ProgramError(
            f"site {name!r} observes {tuple(site['infer']['obs'].shape)} that are not the data {tuple(x.shape)} as the "
            "guide takes them: let the site observe the data themselves"
        )


def _given(pair: Pair, drawn: Trace, x: Tensor, args: tuple, kwargs: dict) -> Trace:
    """The model at the draws of a run without data, given other data, with the same dropout noise every time."""
    with torch.random.fork_rng(cuda_devices(args)):
        torch.manual_seed(0)
        held = poutine.replay(_without_data(pair, args, kwargs), trace=drawn)
        return pair.again.run(held, 1, (x, *args[1:]), kwargs)


def _reading_by_gradient(pair: Pair, drawn: Trace, args: tuple, kwargs: dict) -> set[str]:
    """The sites whose density at fixed draws has a gradient by the data."""
    if not args[0].is_floating_point():
        return set()
    with torch.enable_grad():
        x = args[0].detach().requires_grad_()
        try:
            terms = pair.log_probs(_given(pair, drawn, x.clone(), args, kwargs), 1)
        except RuntimeError:  # of a program that takes its data to numpy, say
            return set()
        found = {name for name, term in terms.items() if term.requires_grad}
        slopes = {n: torch.autograd.grad(terms[n].sum(), x, allow_unused=True, retain_graph=True)[0] for n in found}
    return {name for name, slope in slopes.items() if slope is not None}


def _changed_by_other_data(pair: Pair, drawn: Trace, name: str, args: tuple, kwargs: dict) -> set[str]:
    """The sites whose density at fixed draws changes when the model is given its dreams as data."""
    x, found = args[0], set[str]()
    at_given = pair.log_probs(_given(pair, drawn, x, args, kwargs), 1)
    for _ in range(OTHER_DATA):
        site = without_data(pair, (x, *args[1:]), kwargs).nodes[name]
        _require_the_data(name, site, x)
        x = _as_data(batch_first(site["value"], site["fn"]), x)
        at_other = pair.log_probs(_given(pair, drawn, x, args, kwargs), 1)
        found |= {n for n, term in at_given.items() if not torch.allclose(term, at_other[n], equal_nan=True)}
    return found


def _require_same_density(pair: Pair, steps: ValueByValue, drawn: Trace, name: str, args: tuple, kwargs: dict) -> None:
    """Refuse stepwise sampling whose densities differ from the model's."""
    B = len(args[0])
    distributions, draws = draw_value_by_value(steps, latent_values(drawn), B, args[0][0].numel(), args[1:])
    each = [fn.log_prob(draw).reshape(B, -1).sum(1) for fn, draw in zip(distributions, draws, strict=True)]
    x = _as_data(join_steps(draws, B), args[0])
    by_steps = torch.stack(each).sum(0)  # (B,)
    by_model = pair.log_probs(pair.again.run_model(1, drawn, (x, *args[1:]), kwargs), 1)[name][0]
    if not torch.allclose(by_steps, by_model, rtol=1e-4, atol=1e-4):
        row = int((by_steps - by_model).abs().nan_to_num(torch.inf).argmax())
        raise ProgramError(
            f"the program's steps give what they draw log p(x | z) = {float(by_steps[row]):.6g}, its model at site "
            f"{name!r} {float(by_model[row]):.6g}: let init_cache and step give each value the model's distribution"
        )
