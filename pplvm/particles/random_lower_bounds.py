"""Densities that are themselves random lower bounds, such as one step of a diffusion, and where they may stand.

A distribution whose `log_prob` is a random lower bound on a log-density says so by an attribute,
`is_random_lower_bound = True`:

    E[log_prob(z)] <= log p(z)

What to use where it is refused may stand in another, `exact_instead`.
Its mean over noise is right in the elbo, which is linear in log-weights. Inside the exponential of any other bound,
E[exp(log_prob(z))] is no p(z) and may be above it, so that the value may lie above log p(x). In the guide, -log q
would be too high everywhere.
"""

from typing import Any

import torch
from pyro.poutine import Trace
from torch.distributions import Distribution

from pplvm.particles.contract import ProgramError, sample_sites
from pplvm.particles.pair import Pair, cuda_devices

__all__ = ["is_random_lower_bound", "require_exact_densities", "why_not_exact"]


def is_random_lower_bound(fn: Distribution) -> bool:
    """Whether a distribution, within any `.to_event()`, mask, plate or transform, has a random bound for its log_prob.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> class OneStep(Normal):
        ...     is_random_lower_bound = True
        >>> fn = OneStep(torch.zeros(3), 1.0)
        >>> is_random_lower_bound(Independent(fn, 1)), is_random_lower_bound(Normal(0.0, 1.0))
        (True, False)
    """
    return _declaring(fn) is not None


def why_not_exact(model: Trace | None, guide: Trace | None, what: str = "") -> str | None:
    """Why random lower bounds among a program's log-densities make a value wrong; None where there are none.

    Arguments:
        model: the model's trace; None where the value is linear in its log-densities, as the elbo is.
        guide: the guide's, where no random lower bound is right.
        what: the bound that the value is, by name.
    """
    for name, site in sample_sites(guide).items() if guide is not None else ():
        if (fn := _declaring(site["fn"])) is not None:
            return (
                f"the log_prob of guide site {name!r} ({type(fn).__name__}) is itself a random lower bound, so that "
                "the value may be above log p(x): draw it from a distribution whose density is known"
            )
    for name, site in sample_sites(model).items() if model is not None else ():
        if (fn := _declaring(site["fn"])) is not None:
            return (
                f"the log_prob of model site {name!r} ({type(fn).__name__}) is itself a random lower bound, which is "
                f"right within the elbo alone, and under {what} may give more than log p(x): use an objective on the "
                f"elbo, or {getattr(fn, 'exact_instead', 'a distribution whose density is known')}"
            )
    return None


def require_exact_densities(pair: Pair, args: tuple, kwargs: dict, what: str) -> None:
    """Refuse a program with a random lower bound among its log-densities where `what` is not the elbo.

    Raises:
        ProgramError: there is one; the message names its site.
    """
    with torch.random.fork_rng(cuda_devices(args)), torch.no_grad():
        guide_trace = pair.again.run_guide(1, args, kwargs) if pair.guide is not None else None
        model_trace = pair.again.run_model(1, guide_trace, args, kwargs)
    if fault := why_not_exact(model_trace, guide_trace, what):
        raise ProgramError(fault)


def _declaring(fn: Any) -> Any:
    """The distribution within `fn` that says so; None if none does."""
    while not getattr(fn, "is_random_lower_bound", False):
        if not hasattr(fn, "base_dist"):
            return None
        fn = fn.base_dist
    return fn
