"""Which role of a program, "model" or "guide", uses a parameter."""

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from pplvm.particles.contract import latents, sample_sites
from pplvm.particles.flows import log_density
from pplvm.particles.pair import owners
from pplvm.particles.point_masses import is_point
from pplvm.particles.side_effects import without_side_effects

__all__ = ["parameter_roles"]


def parameter_roles(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    tensors: Sequence[Tensor] | Callable[[], Sequence[Tensor]],
    *args: Any,
) -> list[set[str]]:
    """For each parameter, the roles whose density depends on it at fixed draws, or whose point mass does.

    Arguments:
        tensors: the parameters; or what gives them once the program has run, which may make some on its first batch.
    """
    with without_side_effects(owners(model, guide), args), pyro.get_param_store().scope():
        drawn = poutine.trace(guide).get_trace(*args)
        still = Trace()
        for name, site in latents(drawn).items():
            still.nodes[name] = dict(site, value=site["value"].detach())
        replayed = poutine.trace(poutine.replay(model, trace=still)).get_trace(*args)
        tensors = tensors() if callable(tensors) else tensors
        found: list[set[str]] = [set() for _ in tensors]
        for role, trace in (("model", replayed), ("guide", drawn)):  # a flow may know no density but of its own draws
            densities = [log_density(site).sum() for site in sample_sites(trace).values()]
            densities += _points(drawn) if role == "guide" else []
            value = torch.stack(densities).sum() if densities else torch.zeros(())
            if value.requires_grad:
                gradients = torch.autograd.grad(value, list(tensors), allow_unused=True)
                for roles, gradient in zip(found, gradients, strict=True):
                    roles |= {role} if gradient is not None else set()
    return found


def _points(drawn: Trace) -> list[Tensor]:
    """The values of the guide's point masses, whose density is constant."""
    return [site["value"].sum() for site in latents(drawn).values() if is_point(site["fn"])]
