"""Dreams: latents and data drawn from the model's own joint, (z, x) ~ p, and whether a model can be asked for them.

A run of the model without its data draws from its joint only if no distribution reads the data that it is given. An
autoregressive model reads them; it is sampled by the steps that its program offers (`ValueByValue`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution

from pplvm.particles.contract import Site, latents, sample_sites
from pplvm.particles.pair import Pair, cuda_devices, owners
from pplvm.particles.value_by_value import ValueByValue, draw_value_by_value

__all__ = [
    "dream",
    "holds_the_data",
    "in_rows",
    "joined",
    "latent_values",
    "once_observed",
    "steps_of",
    "why_not_dreamt",
    "why_not_sampled",
    "without_data",
]

OTHER_DATA = 8
"""Dreams given to the model in place of its data, to see whether a distribution changes: each misses a fair bit that is
read, where one datum has but one, in half of all cases."""


def dream(pair: Pair, args: tuple, kwargs: dict) -> tuple[Trace, Tensor]:
    """One run of the model without its data, and the data dreamt, in the shape and type of the first argument.

    Arguments:
        pair: for which `why_not_dreamt` finds nothing.
        args, kwargs: what the model takes; of the data only their shape counts.
    """
    with torch.no_grad():
        trace, like = without_data(pair, args, kwargs), args[0]
        if (steps := steps_of(pair)) is None:
            (site,) = once_observed(trace).values()
            return trace, _as_data(in_rows(site["value"], site["fn"]), like)
        _, draws = draw_value_by_value(steps, latent_values(trace), len(like), like[0].numel())
        x = _as_data(joined(draws, len(like)), like)
        return pair.run_model(1, trace, (x, *args[1:]), kwargs), x


def why_not_dreamt(pair: Pair, args: tuple, kwargs: dict) -> str | None:
    """What keeps the model's dreams from being data as the guide takes them, with the cure; None where nothing does."""
    with _leaving_no_trace(pair, args):
        observed = once_observed(without_data(pair, args, kwargs))
    if len(observed) > 1:
        return (
            f"data are dreamt at one observed site, but the model observes {' and '.join(map(repr, observed))}: "
            "join them into one"
        )
    name, site = next(iter(observed.items()))
    if not holds_the_data(site, args[0]):
        return _other_than_the_data(name, site, args[0])
    return why_not_sampled(pair, name, args, kwargs)


def why_not_sampled(pair: Pair, name: str, args: tuple, kwargs: dict) -> str | None:
    """What keeps draws at a site from being data that the model's joint gives; None where nothing does.

    The model must read its data nowhere but in `obs`: by gradient, even through weights that are zero, or by what other
    data change. Where the program offers steps, they must give their draws the density that the model gives them.

    Arguments:
        name: the observed site that holds the data.
    """
    with _leaving_no_trace(pair, args):
        drawn = without_data(pair, args, kwargs)
        reading = _reading_by_gradient(pair, drawn, args, kwargs)
        at_given = pair.log_probs(_given(pair, drawn, args[0], args, kwargs), 1)
        x = args[0]
        for _ in range(OTHER_DATA):
            site = without_data(pair, (x, *args[1:]), kwargs).nodes[name]
            if not holds_the_data(site, x):
                return _other_than_the_data(name, site, x)
            x = _as_data(in_rows(site["value"], site["fn"]), x)
            at_other = pair.log_probs(_given(pair, drawn, x, args, kwargs), 1)
            reading |= {n for n, term in at_given.items() if not torch.allclose(term, at_other[n], equal_nan=True)}
        steps = steps_of(pair)
        if steps is None and name in reading:
            return (
                f"the model reads the data before it draws site {name!r} (as autoregressive models do), so one "
                "run does not sample it: give the program the methods init_cache and step, see ValueByValue"
            )
        if reading - {name}:
            first = next(n for n in at_given if n in reading - {name})
            return (
                f"the model reads the data before it draws site {first!r}, so one run without them does not sample it: "
                f"let it depend on latents, or on what pyro.sample({name!r}, ...) returns"
            )
        return None if steps is None else _why_other_steps(pair, steps, drawn, name, args, kwargs)


def without_data(pair: Pair, args: tuple, kwargs: dict) -> Trace:
    """One run of the model that draws what it would observe."""
    return pair.run(poutine.uncondition(pair.model), 1, args, kwargs)


def once_observed(trace: Trace) -> dict[str, Site]:
    """The sites drawn in place of data; what the data were stands in `site["infer"]["obs"]`."""
    return {name: site for name, site in sample_sites(trace).items() if site["infer"].get("was_observed")}


def latent_values(trace: Trace) -> dict[str, Tensor]:
    """The latents of a run without data."""
    return {n: site["value"] for n, site in latents(trace).items() if not site["infer"].get("was_observed")}


def steps_of(pair: Pair) -> ValueByValue | None:
    """The module of the model that draws data value by value, if one does."""
    return next((each for each in owners(pair.model) if isinstance(each, ValueByValue)), None)


def holds_the_data(site: Site, x: Tensor) -> bool:
    """Whether what a site of a run without data would observe are the data themselves."""
    seen = site["infer"]["obs"]
    return seen.numel() == x.numel() and torch.equal(_as_data(in_rows(seen, site["fn"]), x), x)


def in_rows(value: Tensor, fn: Distribution) -> Tensor:
    """A site's value (nested plates..., B, event...) with the batch in front: (B, ...)."""
    return value.expand(fn.batch_shape + fn.event_shape).movedim(-1 - len(fn.event_shape), 0)


def joined(parts: Sequence[Tensor], num_data: int) -> Tensor:
    """What the steps gave, (N, D)."""
    return torch.cat([part.reshape(num_data, -1) for part in parts], 1)


def _as_data(rows: Tensor, like: Tensor) -> Tensor:
    return rows.reshape(like.shape).to(like.dtype)


def _other_than_the_data(name: str, site: Site, x: Tensor) -> str:
    return (
        f"site {name!r} observes {tuple(site['infer']['obs'].shape)} that are not the data {tuple(x.shape)} as the "
        "guide takes them: let the site observe the data themselves"
    )


def _given(pair: Pair, drawn: Trace, x: Tensor, args: tuple, kwargs: dict) -> Trace:
    """The model at the draws of a run without data, given other data; every time with the same noise of dropout."""
    with torch.random.fork_rng(cuda_devices(args)):
        held = poutine.replay(poutine.uncondition(pair.model), trace=drawn)
        return pair.run(held, 1, (x, *args[1:]), kwargs)


def _reading_by_gradient(pair: Pair, drawn: Trace, args: tuple, kwargs: dict) -> set[str]:
    """The sites whose density at given draws has a gradient by the data, be it zero."""
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


def _why_other_steps(pair: Pair, steps: ValueByValue, drawn: Trace, name: str, args: tuple, kwargs: dict) -> str | None:
    """What is wrong if the steps and the model give the same draws different densities."""
    B = len(args[0])
    distributions, draws = draw_value_by_value(steps, latent_values(drawn), B, args[0][0].numel())
    each = [fn.log_prob(draw).reshape(B, -1).sum(1) for fn, draw in zip(distributions, draws, strict=True)]
    x = _as_data(joined(draws, B), args[0])
    by_steps = torch.stack(each).sum(0)  # (B,)
    by_model = pair.log_probs(pair.run_model(1, drawn, (x, *args[1:]), kwargs), 1)[name][0]
    if torch.allclose(by_steps, by_model, rtol=1e-4, atol=1e-4):
        return None
    row = int((by_steps - by_model).abs().nan_to_num(torch.inf).argmax())
    return (
        f"the program's steps give what they draw log p(x | z) = {float(by_steps[row]):.6g}, its model at site "
        f"{name!r} {float(by_model[row]):.6g}: let init_cache and step give each value the model's "
        "distribution"
    )


@contextmanager
def _leaving_no_trace(pair: Pair, args: tuple) -> Iterator[None]:
    """Random state and buffers come back as they were."""
    buffers = [(buffer, buffer.clone()) for owner in owners(pair.model) for buffer in owner.buffers()]
    with torch.random.fork_rng(cuda_devices(args)), torch.no_grad():
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
