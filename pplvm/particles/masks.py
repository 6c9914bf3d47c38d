"""Masks of sites: what they hide, and whether model and guide hide the same of a latent.

A masked draw counts on neither side: where a mask hides log p(z) it must hide log q(z), or the log-weight holds one
without the other and bounds nothing.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Distribution, Independent

from pplvm.particles.point_masses import is_point

__all__ = [
    "auxiliary_mismatch",
    "is_masked",
    "mask_mismatch",
    "same_mask",
    "share_masks",
    "unmasked",
    "visible_coordinates",
]

Site = Any
"""As in `pplvm.particles.contract`."""


def is_masked(site: Site) -> bool:
    """Whether a mask around or within a site's distribution may hide density; the mask True counts as none."""
    return any(mask is not True for _, mask in _masks(site))


def same_mask(p: Site, q: Site) -> bool:
    """Whether the masks around two sites are the same object, so that no values need to be read."""
    return _around(p) is _around(q)


def share_masks(model_trace: Trace, guide_trace: Trace) -> None:
    """Apply the masks of model and guide to each other, so that both hide the same of a latent.

    The check has seen the masks agree on one batch; where they come to differ on another, no density counts alone.
    """
    for name, q in guide_trace.nodes.items():
        p = model_trace.nodes.get(name)
        if p is not None and p["type"] == "sample" and not same_mask(p, q):
            p["mask"] = q["mask"] = _both(_around(p), _around(q))


def unmasked(fn: Distribution) -> Distribution:
    """The distribution without masks within it."""
    if isinstance(fn, MaskedDistribution):
        return unmasked(fn.base_dist)
    if isinstance(fn, Independent) and (inner := unmasked(fn.base_dist)) is not fn.base_dist:
        return inner.to_event(fn.reinterpreted_batch_ndims)
    return fn


def visible_coordinates(site: Site) -> Tensor:
    """The coordinates that no mask hides, in the shape of the site's value."""
    shape = site["fn"].batch_shape + site["fn"].event_shape
    found = torch.ones((), dtype=torch.bool)
    for right, mask in _masks(site):
        found = found & torch.as_tensor(mask).cpu()[(..., *[None] * right)]
    return found.expand(torch.broadcast_shapes(shape, found.shape))


def mask_mismatch(name: str, p: Site, q: Site) -> Iterator[str]:
    """A sentence on model and guide that hide different parts of a latent.

    One side with a mask and the other without is wrong whatever the mask holds, as it may hide something in the next
    batch; two masks are compared on the batch at hand. Labels that are known for some rows only fit in: the latent of
    a row whose label is known is masked in model and guide alike, and nothing of that row may read its draw.

    Arguments:
        p, q: the site in the model and in the guide.
    """
    if is_masked(p) != is_masked(q):
        one, other = ("model", "guide") if is_masked(p) else ("guide", "model")
        yield (
            f"site {name!r} is masked in the {one} and not in the {other}, whose density would count alone: put both "
            "under one mask, with poutine.mask(mask=...), or neither"
        )
    elif is_masked(p) and (places := (visible_coordinates(p) != visible_coordinates(q)).nonzero()).numel():
        yield (
            f"site {name!r} is masked in model and guide by masks that differ, first at {tuple(places[0].tolist())}: "
            "put both under one mask"
        )


def auxiliary_mismatch(guide_sites: dict[str, Site]) -> Iterator[str]:
    """A sentence on point masses of the guide whose masks differ from those of their auxiliary draws."""
    apart = {name: site for name, site in guide_sites.items() if site["infer"].get("is_auxiliary")}
    drawn = {name: site for name, site in apart.items() if not site["is_observed"]}
    points = {name: site for name, site in guide_sites.items() if name not in apart and is_point(site["fn"])}
    hidden, hidden_points = ([name for name, site in sites.items() if is_masked(site)] for sites in (drawn, points))
    if drawn and points and bool(hidden) != bool(hidden_points):
        one, other = (hidden_points[0], next(iter(drawn))) if hidden_points else (hidden[0], next(iter(points)))
        yield (
            f"guide site {one!r} is masked and {other!r} is not, of which one carries the other, so that one density "
            "would count alone: put both under one mask"
        )


def _around(site: Site) -> Tensor | bool | None:
    return None if site["mask"] is True else site["mask"]


def _both(one: Tensor | bool | None, other: Tensor | bool | None) -> Tensor | bool | None:
    return other if one is None else one if other is None else one & other


def _masks(site: Site) -> Iterator[tuple[int, Tensor | bool]]:
    """Each mask of a site, with the number of event dimensions to its right."""
    fn: Any = site["fn"]
    right = len(fn.event_shape)
    if site["mask"] is not None:
        yield right, site["mask"]
    while isinstance(fn, MaskedDistribution | Independent):
        if isinstance(fn, MaskedDistribution):
            yield right, fn._mask
        else:
            right -= fn.reinterpreted_batch_ndims
        fn = fn.base_dist
