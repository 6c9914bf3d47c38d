"""The sites of a guide that an objective's own gradient rule applies to; without any the gradient is pathwise."""

from typing import Any

from pyro.infer import ELBO, Trace_ELBO, TraceGraph_ELBO
from torch import nn

from pplvm.objectives.independence import learning_latents
from pplvm.objectives.objective import Loss, Objective
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.contract import Site
from pplvm.particles.pair import pair_up
from pplvm.particles.reparameterized_sites import is_reparameterized
from pplvm.particles.side_effects import without_side_effects

__all__ = ["is_pathwise_here", "learning_sites", "pathwise_notice", "sites_of_rule"]

SCORE_ALONE = (Trace_ELBO, TraceGraph_ELBO)
"""Pyro's own that score the sites without a path and differentiate the elbo along the path of the others."""


def learning_sites(program: nn.Module, *args: Any) -> dict[str, Site]:
    """The guide's latents with trainable parameters, by name, from one run without side effects.

    Arguments:
        program: with methods `model` and `guide`.
        args: a batch.

    Raises:
        ProgramError: the program breaks a rule of `pplvm.particles.contract` on it.
    """
    model: Any = program.model
    guide: Any = program.guide
    with without_side_effects(program, args):
        return learning_latents(pair_up(model, guide, args, {}), args, {})


def sites_of_rule(objective: ELBO, sites: dict[str, Site]) -> list[str]:
    """Names of the sites whose gradient is made by the objective's own rule and is not pathwise.

    Arguments:
        objective: of `pplvm.objectives`, or one of Pyro's.
        sites: of a guide, as `learning_sites` gives them.

    Example:
        >>> import torch
        >>> from pplvm.objectives.antithetic import ARM
        >>> from pplvm.objectives.pathwise import AnalyticKL
        >>> from pplvm.programs.vae import VAE
        >>> sites = learning_sites(VAE(data_size=8, latent_size=2, hidden_sizes=(5,)), torch.zeros(3, 8))
        >>> sites_of_rule(ARM(), sites), sites_of_rule(AnalyticKL(), sites)
        ([], ['z'])
    """
    inner = _unwrapped(objective)
    if type(inner) in SCORE_ALONE:
        return [name for name, site in sites.items() if not is_reparameterized(site["fn"])]
    return [name for name, site in sites.items() if not isinstance(inner, Objective) or inner.takes(site)]


def is_pathwise_here(objective: ELBO, sites: dict[str, Site]) -> bool:
    """Whether an objective is, on this guide, `Pathwise` of its bound under another name.

    Arguments:
        objective, sites: as of `sites_of_rule`.

    Example:
        >>> import torch
        >>> from pplvm.objectives.score_function import LeaveOneOut
        >>> from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
        >>> is_pathwise_here(LeaveOneOut(), learning_sites(SigmoidBeliefNet(8), torch.zeros(3, 8)))
        False
    """
    inner = _unwrapped(objective)
    leaves_paths = inner.leaves_paths if isinstance(inner, Objective) else type(inner) in SCORE_ALONE
    return leaves_paths and not isinstance(inner, Pathwise) and not sites_of_rule(objective, sites)


def pathwise_notice(loss: Loss, *args: Any) -> str | None:
    """A notice that an objective's rule applies to no site of the guide; None if it applies to one."""
    if not is_pathwise_here(loss.objective, learning_sites(loss.program, *args)):
        return None
    name = type(_unwrapped(loss.objective)).__name__
    return f"no site of this guide uses the rule of {name}, so it is the pathwise gradient here"


def _unwrapped(objective: Any) -> Any:
    """The innermost objective within wrappers: PyroObjective, Beta, Warmup."""
    for name in ("objective", "inner"):
        if isinstance(within := getattr(objective, name, None), ELBO):
            return _unwrapped(within)
    return objective
