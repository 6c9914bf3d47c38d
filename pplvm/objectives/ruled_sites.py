"""Which sites of a guide an objective's rule is for; where it is for none the objective is the pathwise gradient."""

from typing import Any

from pyro.infer import ELBO, Trace_ELBO, TraceGraph_ELBO
from torch import nn

from pplvm.objectives.independence import learning_latents
from pplvm.objectives.objective import Loss, Objective
from pplvm.objectives.pathwise import Pathwise
from pplvm.particles.contract import Site
from pplvm.particles.pair import pair_up
from pplvm.particles.paths import has_path
from pplvm.particles.side_effects import undone

__all__ = ["learning_sites", "repeats_in_words", "repeats_pathwise", "ruled_sites"]

SCORE_ALONE = (Trace_ELBO, TraceGraph_ELBO)
"""Pyro's own that score the sites without a path and differentiate the elbo along the path of the others."""


def learning_sites(program: nn.Module, *args: Any) -> dict[str, Site]:
    """The guide's latents with something to learn, by name, from one run that leaves no trace.

    Arguments:
        program: with methods `model` and `guide`.
        args: a batch.

    Raises:
        ProgramError: the program breaks a rule of `pplvm.particles.contract` on it.
    """
    model: Any = program.model
    guide: Any = program.guide
    with undone(program, args):
        return learning_latents(pair_up(model, guide, args, {}), args, {})


def ruled_sites(objective: ELBO, sites: dict[str, Site]) -> list[str]:
    """Names of the sites whose gradient the objective makes by a rule of its own, and does not leave to their path.

    Arguments:
        objective: of `pplvm.objectives`, or one of Pyro's.
        sites: of a guide, as `learning_sites` gives them.

    Example:
        >>> import torch
        >>> from pplvm.objectives.antithetic import ARM
        >>> from pplvm.objectives.pathwise import AnalyticKL
        >>> from pplvm.programs.vae import VAE
        >>> sites = learning_sites(VAE(data_size=8, latent_size=2, hidden_sizes=(5,)), torch.zeros(3, 8))
        >>> ruled_sites(ARM(), sites), ruled_sites(AnalyticKL(), sites)
        ([], ['z'])
    """
    inner = _unwrapped(objective)
    if type(inner) in SCORE_ALONE:
        return [name for name, site in sites.items() if not has_path(site["fn"])]
    return [name for name, site in sites.items() if not isinstance(inner, Objective) or inner.takes(site)]


def repeats_pathwise(objective: ELBO, sites: dict[str, Site]) -> bool:
    """Whether an objective is, on this guide, `Pathwise` of its bound under another name.

    Arguments:
        objective, sites: as of `ruled_sites`.

    Example:
        >>> import torch
        >>> from pplvm.objectives.score_function import LeaveOneOut
        >>> from pplvm.programs.sigmoid_belief import SigmoidBeliefNet
        >>> repeats_pathwise(LeaveOneOut(), learning_sites(SigmoidBeliefNet(8), torch.zeros(3, 8)))
        False
    """
    inner = _unwrapped(objective)
    leaves_paths = inner.leaves_paths if isinstance(inner, Objective) else type(inner) in SCORE_ALONE
    return leaves_paths and not isinstance(inner, Pathwise) and not ruled_sites(objective, sites)


def repeats_in_words(loss: Loss, *args: Any) -> str | None:
    """A sentence for one who trains with an objective whose rule no site uses; None if one does."""
    if not repeats_pathwise(loss.objective, learning_sites(loss.program, *args)):
        return None
    name = type(_unwrapped(loss.objective)).__name__
    return f"no site of this guide uses the rule of {name}, so it is the pathwise gradient here"


def _unwrapped(objective: Any) -> Any:
    """The rule within wrappers: PyroObjective, Beta, Warmup."""
    for name in ("objective", "inner"):
        if isinstance(within := getattr(objective, name, None), ELBO):
            return _unwrapped(within)
    return objective
