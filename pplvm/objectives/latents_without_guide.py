"""Latents that the guide does not sample: Pyro's TraceEnum_ELBO enumerates them, other ELBOs draw from the prior.

E_p(z)[log p(x, z)] <= log p(x)     is no elbo, and its gradient misses the score of what was drawn
"""

from pyro.infer import ELBO, TraceEnum_ELBO, TraceTMC_ELBO
from pyro.poutine import Trace

from pplvm.particles.contract import latents

__all__ = ["why_latents_are_wrong"]


def why_latents_are_wrong(objective: ELBO, model_trace: Trace, guide_trace: Trace | None) -> str | None:
    """Why one of Pyro's ELBOs is wrong for a guide that leaves a latent out; None where it is right."""
    drawn = latents(guide_trace) if guide_trace is not None else {}
    for name, site in latents(model_trace).items():
        if name in drawn:
            continue
        if not isinstance(objective, TraceEnum_ELBO | TraceTMC_ELBO):
            return (
                f"Pyro's {type(objective).__name__} cannot sum out site {name!r}, which the guide leaves out: use "
                "Exact or TraceEnum_ELBO, or draw it in the guide"
            )
        if not (site["infer"] or {}).get("enumerate"):
            return (
                f"Pyro's {type(objective).__name__} would draw site {name!r}, which the guide leaves out, from the "
                "prior: mark it infer={'enumerate': 'parallel'}, or use Exact"
            )
    return None
