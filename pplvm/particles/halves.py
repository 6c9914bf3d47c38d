"""Which half of a program, model or guide, has a use for a parameter."""

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
from pplvm.particles.side_effects import undone

__all__ = ["users"]


def users(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    tensors: Sequence[Tensor] | Callable[[], Sequence[Tensor]],
    *args: Any,
) -> list[set[str]]:
    """For each parameter, which halves of the program its density depends on at fixed draws, or a point mass itself.

    Arguments:
        tensors: the parameters; or what gives them once the program has run, which may make some on its first batch.
    """
    with undone(owners(model, guide), args), pyro.get_param_store().scope():
        drawn = poutine.trace(guide).get_trace(*args)
        still = Trace()
        for name, site in latents(drawn).items():
            still.nodes[name] = dict(site, value=site["value"].detach())
        replayed = poutine.trace(poutine.replay(model, trace=still)).get_trace(*args)
        tensors = tensors() if callable(tensors) else tensors
        found: list[set[str]] = [set() for _ in tensors]
        for half, trace in (("model", replayed), ("guide", drawn)):  # a flow may know no density but of its own draws
            densities = [log_density(site).sum() for site in sample_sites(trace).values()]
            densities += _points(drawn) if half == "guide" else []
            value = torch.stack(densities).sum() if densities else torch.zeros(())
            if value.requires_grad:
                gradients = torch.autograd.grad(value, list(tensors), allow_unused=True)
                for halves, gradient in zip(found, gradients, strict=True):
                    halves |= {half} if gradient is not None else set()
    return found


def _points(drawn: Trace) -> list[Tensor]:
    """The values of a guide's point masses, which are all that such a site has: its density does not move."""
    return [site["value"].sum() for site in latents(drawn).values() if is_point(site["fn"])]
