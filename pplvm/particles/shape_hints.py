"""Hints for programs that cannot run vectorized particles, by the error and where it arose."""

import re

from torch import nn

from pplvm.particles.faulty_layer import Location

__all__ = ["shape_hint"]

KEEP = "keep the leading dimensions, (K, B)"

COUNT = (
    "count dimensions from the right and keep those of plates, as z.sum(-2, keepdim=True) and not z.sum(0), and give "
    "what is joined with a draw the draw's dimensions, as x.expand(*z.shape[:-1], -1)"
)

WRAP = "wrap what knows one batch dimension as pplvm.LeadingDims(layer, n), n the dimensions of one input"

JOIN = "give what is joined with a draw the draw's dimensions, torch.cat([z, x.expand(*z.shape[:-1], -1)], -1)"

FOLDED = (
    "z.flatten(1), z.view(-1, ...) or nn.Flatten() has joined particles and data; write h.reshape(*z.shape[:-1], ...), "
    "h.flatten(-3) for images, and wrap a convolution as pplvm.LeadingDims(layer, 3)"
)

UNPACKED = "read sizes from the right, as z.shape[-1], or *left, Z = z.shape"


def shape_hint(place: Location, said: str = "") -> str:
    """A hint, in the imperative, on how to keep the leading dimensions (K, B).

    Arguments:
        place: where the error arose, or where many first differ from one.
        said: by torch or Python, if it is an error.

    Example:
        >>> shape_hint(Location(layer=nn.Conv2d(1, 1, 3)))
        'keep the leading dimensions, (K, B): wrap it as pplvm.LeadingDims(layer, 3), 3 the dimensions \
of one input, (C, H, W)'
    """
    return f"{KEEP}: {_of_layer(place.layer) if place.is_torchs else _of_own(place, said)}"


def _of_layer(layer: nn.Module | None) -> str:
    """The hint for a layer of torch's, to be wrapped or replaced."""
    kind = type(layer).__name__
    if isinstance(layer, nn.Linear):
        return f"what enters it has lost them; {FOLDED}"
    if isinstance(layer, nn.Flatten):
        return "it joins all dimensions but the first; make it nn.Flatten(-3) for images, or leave it out for vectors"
    if isinstance(layer, nn.Unflatten):
        size = tuple(layer.unflattened_size)
        return f"make it nn.Unflatten(-1, {size}), which counts from the right"
    if found := re.search(r"(?<!Norm)([123])d$|(?:Batch|Instance)Norm([23])d$", kind):
        dims = int(found[1] or found[2]) + 1
        names = {2: "(C, L)", 3: "(C, H, W)", 4: "(C, D, H, W)"}
        return f"wrap it as pplvm.LeadingDims(layer, {dims}), {dims} the dimensions of one input, {names[dims]}"
    return (
        "wrap it as pplvm.LeadingDims(layer, n), n the dimensions of one input, or count its dimensions from the right"
    )


def _of_own(place: Location, said: str) -> str:
    """The hint for the program's own code."""
    if found := re.search(r"shape '\[[^,\]]+, ([\d, -]+)\]' is invalid", said):
        cure = f"write h.reshape(*z.shape[:-1], {found[1]}), z the draw"
        cure += ", and wrap a convolution as pplvm.LeadingDims(layer, 3)" if "," in found[1] else ""
    elif re.search(r"Shape mismatch inside plate|shapes cannot be multiplied", said):
        cure = FOLDED
    elif re.search(r"same number of dimensions|Sizes of tensors must match", said):
        cure = JOIN
    elif "to unpack" in said:
        cure = UNPACKED
    else:
        cure = f"{WRAP}, or {COUNT}" if said and not place.is_own and not place.function else COUNT
    if place.is_own:
        return f"wrap the layer as pplvm.LeadingDims(layer, n), n the dimensions of one input, or {cure}"
    if place.function:
        return f"call it as pplvm.LeadingDims(self.{place.function}, 1)(z), 1 the dimensions of one z, or {cure}"
    return cure
