"""Dreams: data and latents drawn from the model's own joint, and which models can dream what their guide takes."""

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from pplvm.particles.contract import Site, sample_sites
from pplvm.particles.factors import is_factor
from pplvm.particles.pair import Pair, cuda_devices

__all__ = ["dream", "why_not_dreamt"]


def dream(pair: Pair, args: tuple, kwargs: dict) -> tuple[Trace, Tensor]:
    """One run of the model without its data, and the data dreamt, in the shape and type of the first argument.

    Arguments:
        pair: for which `why_not_dreamt` finds nothing.
        args, kwargs: what the model takes; of the data only their shape counts.
    """
    with torch.no_grad():
        trace = pair.again.run(poutine.uncondition(pair.model), 1, args, kwargs)
    site = next(site for site in sample_sites(trace).values() if site["infer"].get("was_observed"))
    return trace, _batch_first(site).reshape(args[0].shape).to(args[0].dtype)


def why_not_dreamt(pair: Pair, args: tuple, kwargs: dict) -> str | None:
    """What keeps the model's dreams from being data as the guide takes them, with the cure; None where nothing does."""
    with torch.random.fork_rng(cuda_devices(args)), torch.no_grad():
        guide_trace = pair.run_guide(1, args, kwargs)
        model_trace = pair.run_model(1, guide_trace, args, kwargs)
    observed = {n: site for n, site in sample_sites(model_trace).items() if site["is_observed"]}
    if factor := next((name for name, site in observed.items() if is_factor(site)), None):
        return f"the model's draws are not weighed by its factor {factor!r}: let a distribution give the term"
    if len(observed) > 1:
        return (
            f"data are dreamt at one observed site, but the model observes {' and '.join(map(repr, observed))}: "
            "join them into one"
        )
    site, value = next((name, _batch_first(site)) for name, site in observed.items())
    data = args[0]
    if value.numel() != data.numel() or not torch.equal(value.reshape(data.shape).to(data.dtype), data):
        return (
            f"site {site!r} observes {tuple(value.shape)} that are not the data {tuple(data.shape)} as the guide takes "
            "them: let the site observe the data themselves"
        )
    return None


def _batch_first(site: Site) -> Tensor:
    """The value of a site (nested plates..., B, event...) as data stand, (B, ...)."""
    value, fn = site["value"], site["fn"]
    return value.expand(fn.batch_shape + fn.event_shape).movedim(-1 - len(fn.event_shape), 0)
