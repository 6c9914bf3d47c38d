"""Which half of a program, model or guide, has a use for a parameter."""

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from pplvm.particles.contract import latents, sample_sites
from pplvm.particles.pair import cuda_devices

__all__ = ["users"]


def users(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    tensors: Sequence[Tensor] | Callable[[], Sequence[Tensor]],
    *args: Any,
) -> list[set[str]]:
    """For each parameter, which halves of the program its density depends on at fixed draws.

    Arguments:
        tensors: the parameters; or what gives them once the program has run, which may make some on its first batch.
    """
    with torch.random.fork_rng(cuda_devices(args)), pyro.get_param_store().scope():
        drawn = poutine.trace(guide).get_trace(*args)
        still = Trace()
        for name, site in latents(drawn).items():
            still.nodes[name] = dict(site, value=site["value"].detach())
        halves = {"model": model, "guide": guide}
        traces = {h: poutine.trace(poutine.replay(p, trace=still)).get_trace(*args) for h, p in halves.items()}
        tensors = tensors() if callable(tensors) else tensors
        found: list[set[str]] = [set() for _ in tensors]
        for half, trace in traces.items():
            densities = [s["fn"].log_prob(s["value"]).sum() for s in sample_sites(trace).values()]
            value = torch.stack(densities).sum() if densities else torch.zeros(())
            if value.requires_grad:
                gradients = torch.autograd.grad(value, list(tensors), allow_unused=True)
                for halves, gradient in zip(found, gradients, strict=True):
                    halves |= {half} if gradient is not None else set()
    return found
