"""Sites that an objective refuses: gradient rules that it would ignore, and densities that its bound may not hold."""

import torch
from pyro.infer import ELBO, RenyiELBO, ReweightedWakeSleep, TraceEnum_ELBO, TraceTMC_ELBO
from pyro.poutine import Trace

from pplvm.objectives.estimate import ObjectiveError
from pplvm.particles.contract import latents
from pplvm.particles.pair import Pair, cuda_devices
from pplvm.particles.random_lower_bounds import why_not_exact

__all__ = ["refuse_random_lower_bounds", "refuse_rules", "why_pyro_refuses_random_lower_bounds"]


def refuse_rules(objective: str, pair: Pair, args: tuple, kwargs: dict) -> None:
    """Refuse gradient rules at sites of the guide, for an objective that does not go site by site.

    Raises:
        ObjectiveError: a site of the guide names one.
    """
    with torch.random.fork_rng(cuda_devices(args)):
        drawn = latents(pair.run_guide(1, args, kwargs))
    for name, site in drawn.items():
        if (rule := (site["infer"] or {}).get("grad")) is not None:
            raise ObjectiveError(
                f"guide site {name!r} names a gradient rule, {type(rule).__name__}, which {objective} would ignore: "
                "use PerSite(), or another objective that goes site by site"
            )


def refuse_random_lower_bounds(objective: str, is_elbo: bool, pair: Pair, args: tuple, kwargs: dict) -> None:
    """Refuse log-densities that are random lower bounds: in the guide, and in the model where the bound is no elbo.

    Arguments:
        objective: its name.
        is_elbo: whether its value is linear in log-weights.
        pair: whose guide, if it has one, and model are run once.

    Raises:
        ObjectiveError: there is such a site.
    """
    with torch.random.fork_rng(cuda_devices(args)), torch.no_grad():
        guide_trace = None if pair.guide is None else pair.again.run_guide(1, args, kwargs)
        model_trace = None if is_elbo else pair.again.run_model(1, guide_trace, args, kwargs)
    if fault := why_not_exact(model_trace, guide_trace, objective):
        raise ObjectiveError(fault)


def why_pyro_refuses_random_lower_bounds(objective: ELBO, model_trace: Trace, guide_trace: Trace | None) -> str | None:
    """As `why_not_exact`, for one of Pyro's ELBOs."""
    is_elbo = not isinstance(objective, RenyiELBO | ReweightedWakeSleep | TraceEnum_ELBO | TraceTMC_ELBO)
    return why_not_exact(None if is_elbo else model_trace, guide_trace, f"Pyro's {type(objective).__name__}")
