"""Scales of a program's sites: N/B of a subsampled plate, and those of `poutine.scale`."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from pyro.poutine import Trace

__all__ = ["scale_mismatches", "subsampling"]


def subsampling(traces: Iterable[Trace | None]) -> float:
    """N/B where the batch plate holds B of N data; 1 where it holds all."""
    sites = [site for trace in traces if trace is not None for site in trace.nodes.values() if site["type"] == "sample"]
    frames = [frame for site in sites for frame in site["cond_indep_stack"] if frame.dim == -1]
    return max(((frame.full_size or frame.size) / frame.size for frame in frames), default=1.0)


def scale_mismatches(named: list[tuple[str, Any]]) -> Iterator[str]:
    """Sites, in words, whose scale is a tensor or differs from the first site's.

    Arguments:
        named: each site in words, and its scale.
    """
    for site, scale in named:
        if isinstance(scale, torch.Tensor):
            yield f"{site} is scaled by a tensor: scale all sites by one Python number"
        elif not isinstance(named[0][1], torch.Tensor) and scale != named[0][1]:
            yield (
                f"{site} is scaled by {scale:g} and {named[0][0]} by {named[0][1]:g}: a scale inside a "
                "log-weight is no bound; scale all sites by one number, or weight terms in the objective"
            )
