"""The guide's density at given draws with its parameters detached: it depends on phi through the draws only.

log q(z(phi); stop(phi))
"""

from collections.abc import Callable

import pyro
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.func import functional_call

from pplvm.objectives.estimate import ObjectiveError
from pplvm.objectives.objective import Objective
from pplvm.particles.contract import sample_sites
from pplvm.particles.flows import log_density
from pplvm.particles.pair import Pair, owners

__all__ = ["stopped_terms"]


def stopped_terms(
    objective: Objective, pair: Pair, drawn: Trace, num_particles: int, args: tuple, kwargs: dict
) -> dict[str, Tensor]:
    """The guide's log-densities at given draws, without masks around the sites, its parameters detached.

    They are held until the densities are there, since a flow runs its modules only then.
    """
    modules = owners(pair.guide)
    if not modules:
        raise ObjectiveError(
            f"{type(objective).__name__} holds the guide's parameters still, so it must know them: make the guide a "
            "method of the nn.Module that owns them"
        )

    def terms() -> dict[str, Tensor]:
        trace = pair.run(poutine.replay(pair.guide, trace=drawn), num_particles, args, kwargs)
        with pair.buffers_as_they_are():
            return {name: log_density(site) for name, site in sample_sites(trace).items()}

    call = _Call(modules[0], terms)
    with pyro.get_param_store().scope():  # where a PyroModule would find its live parameters again
        return functional_call(call, _stopped_parameters(call), (), tie_weights=False)


def _stopped_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Detached parameters by one name for each place where they are kept.

    A module of two owners has two names: torch would swap its parameters twice and put the detached ones back.
    """
    still: dict[int, Tensor] = {}
    found = {}
    for prefix, part in module.named_modules():
        for name, parameter in part.named_parameters(prefix, recurse=False, remove_duplicate=False):
            found[name] = still.setdefault(id(parameter), parameter.detach())
    return found


class _Call(nn.Module):
    def __init__(self, owner: nn.Module, terms: Callable[[], dict[str, Tensor]]) -> None:
        super().__init__()
        self.owner, self.terms = owner, terms

    def forward(self) -> dict[str, Tensor]:
        return self.terms()
