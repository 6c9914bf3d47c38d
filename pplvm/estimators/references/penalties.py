"""Expected penalties of the guide over all states of its latents.

E_q[ sum_p weight_p penalty_p ] = sum_s q_s sum_p weight_p penalty_ps
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from pplvm.particles.contract import deterministic_sites, latents
from pplvm.particles.enumeration import guide_states
from pplvm.particles.pair import Pair

__all__ = ["expected_penalty"]


def expected_penalty(pair: Pair, log_q: Tensor, penalties: Mapping[str, float], args: tuple[Tensor, ...]) -> Tensor:
    """The weighted penalties of each datum, (B,), differentiable by the program's parameters.

    Arguments:
        log_q: of all states of the guide's latents, (S, B), as `enumerate_guide` gives it.
        penalties: a weight for each deterministic site of the guide.
        args: the batch.
    """
    trace = guide_states(pair, args, {})
    sites, first = deterministic_sites(trace), -1 - pair.nesting
    drawn = latents(trace).values()
    sizes = [site["value"].shape[first - n - site["fn"].event_dim] for n, site in enumerate(drawn)]
    nested = [1] * (pair.nesting - 1)
    shape = (*reversed(sizes), *nested, log_q.shape[-1])
    weighed = [weight * sites[name]["value"].expand(shape).reshape(log_q.shape) for name, weight in penalties.items()]
    return (log_q.exp() * torch.stack(weighed).sum(0)).sum(0)
