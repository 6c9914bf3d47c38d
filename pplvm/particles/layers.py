"""Which layer of a program is at fault: that of an error, or the first whose output is not what it should be."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_leaves

__all__ = ["Calls", "first_apart", "place_of", "within_rounding"]

Names = Mapping[int, str]
"""The paths of a program's layers, by their ids."""

LIBRARIES = ("torch", "pyro", "pplvm.particles", "pplvm.networks.leading_dims")
"""Modules whose lines are not the program's own."""


class Calls:
    """Records what goes into each layer and what comes out, in the order in which calls end."""

    def __init__(self) -> None:
        self.made: list[tuple[nn.Module, list[Tensor], list[Tensor]]] = []

    def __enter__(self) -> "Calls":
        self._handle = register_module_forward_hook(self._record)
        return self

    def __exit__(self, *error: Any) -> None:
        self._handle.remove()

    def _record(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        self.made.append((layer, _copies(inputs), _copies(output)))


def within_rounding(a: Tensor, b: Tensor, digits: float = 0.5) -> Tensor:
    """Whether numbers are equal in a share of their digits: in half of them, to 3e-4 in float32, 1e-8 in float64."""
    epsilon = max(torch.finfo(each.dtype).eps for each in (a, b))
    tolerance = epsilon**digits * a.abs().clamp(min=1.0)
    return (a == b) | ((a - b).abs() <= tolerance) | (a.isnan() & b.isnan())


def first_apart(together: Calls, alone: Calls, sizes: tuple[int, ...], index: tuple[int, ...], names: Names) -> str:
    """Where a run of many first differs from the run of one of them, in words; empty if no layer tells.

    Arguments:
        sizes: of the dimensions left of the plates in the run of many.
        index: of the one, in these dimensions.
    """
    for (layer, inputs, outputs), (other, own_inputs, own_outputs) in zip(together.made, alone.made, strict=False):
        if layer is not other or len(inputs) != len(own_inputs) or len(outputs) != len(own_outputs):
            return ""
        before = [_equal(*pair, sizes, index) for pair in zip(inputs, own_inputs, strict=True)]
        after = [_equal(*pair, sizes, index) for pair in zip(outputs, own_outputs, strict=True)]
        if False in before:
            return f"what enters {_called(layer, names)} differs"
        if all(before) and not all(after):
            return f"what leaves {_called(layer, names)} differs"
    return ""


def place_of(error: Exception, names: Names) -> str:
    """Where an error arose, in words: the innermost layer, else the program's own line; empty if neither is known."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        layer = frame.f_locals.get("self")
        if isinstance(layer, nn.Module) and id(layer) in names:
            found = f" in {_called(layer, names)}"
        elif not frame.f_globals.get("__name__", "").startswith(LIBRARIES):
            found = f" at {Path(frame.f_code.co_filename).name}, line {line}"
    return found


def _called(layer: nn.Module, names: Names) -> str:
    path, kind = names.get(id(layer)), type(layer).__name__
    return f"layer {path!r} ({kind})" if path else f"a layer {kind}"


def _copies(tree: Any) -> list[Tensor]:
    return [leaf.detach().clone() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _equal(many: Tensor, one: Tensor, sizes: tuple[int, ...], index: tuple[int, ...]) -> bool | None:
    """Whether one of many is what it is alone, in dimensions of its own or folded into the batch; None if unclear."""
    for shaped in (many.expand, many.reshape):
        try:
            same = shaped(*sizes, *one.shape)[index]
        except RuntimeError:
            continue
        return bool(within_rounding(one, same).all()) if one.is_floating_point() else same.equal(one)
    return None
