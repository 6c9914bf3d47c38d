"""Finds the layer of a program that raised an error, or whose output first differs between two runs."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_leaves

from pplvm.particles.free_variables import LIBRARIES

__all__ = ["LayerRecorder", "Location", "error_location", "first_difference", "within_rounding"]

Names = Mapping[int, str]
"""The paths of a program's layers, by their ids."""


@dataclass(frozen=True)
class Location:
    """The location of an error: a layer, torch's or the user's own, or a method of the program.

    Arguments:
        words: that say so.
        layer: the innermost.
        function: the name of a method of the program that takes one argument, if it is not called by torch or Pyro.
    """

    words: str = ""
    layer: nn.Module | None = None
    function: str = ""

    @property
    def is_torchs(self) -> bool:
        """Whether it is a layer of torch's, which can only be wrapped or replaced."""
        return self.layer is not None and type(self.layer).__module__.startswith("torch.nn")

    @property
    def is_own(self) -> bool:
        """Whether it is a layer of the program's author."""
        return self.layer is not None and not self.is_torchs


class LayerRecorder:
    """Records input and output of each layer, in the order in which calls end."""

    def __init__(self) -> None:
        self.made: list[tuple[nn.Module, list[Tensor], list[Tensor]]] = []

    def __enter__(self) -> "LayerRecorder":
        self._handle = register_module_forward_hook(self._record)
        return self

    def __exit__(self, *error: Any) -> None:
        self._handle.remove()

    def _record(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        self.made.append((layer, _copies(inputs), _copies(output)))


def within_rounding(a: Tensor, b: Tensor, digits: float = 0.5) -> Tensor:
    """Whether numbers agree to half of their digits: to 3e-4 in float32, 1e-8 in float64."""
    a, b = (each if each.is_floating_point() else each.to(torch.get_default_dtype()) for each in (a, b))
    epsilon = max(torch.finfo(each.dtype).eps for each in (a, b))
    tolerance = epsilon**digits * a.abs().clamp(min=1.0)
    return (a == b) | ((a - b).abs() <= tolerance) | (a.isnan() & b.isnan())


def first_difference(
    together: LayerRecorder, alone: LayerRecorder, sizes: tuple[int, ...], index: tuple[int, ...], names: Names
) -> Location:
    """The first layer at which a batched run differs from a single run; an empty location if none does.

    Arguments:
        sizes: of the dimensions left of the plates in the run of many.
        index: of the one, in these dimensions.
    """
    for (layer, inputs, outputs), (other, own_inputs, own_outputs) in zip(together.made, alone.made, strict=False):
        if layer is not other or len(inputs) != len(own_inputs) or len(outputs) != len(own_outputs):
            return Location()
        before = [_equal(*pair, sizes, index) for pair in zip(inputs, own_inputs, strict=True)]
        after = [_equal(*pair, sizes, index) for pair in zip(outputs, own_outputs, strict=True)]
        if False in before:
            return Location(f"what enters {_called(layer, names)} differs")
        if all(before) and not all(after):
            return Location(f"what leaves {_called(layer, names)} differs", layer)
    return Location()


def error_location(error: Exception, names: Names) -> Location:
    """The location of an error: the innermost layer, and the program's own line."""
    inside, at, function, innermost = "", "", "", None
    for frame, line in traceback.walk_tb(error.__traceback__):
        layer = frame.f_locals.get("self")
        if isinstance(layer, nn.Module) and id(layer) in names:
            inside, innermost = f" in {_called(layer, names)}", layer
        if frame.f_globals.get("__name__", "").partition(".")[0] not in LIBRARIES:
            at = f" at {Path(frame.f_code.co_filename).name}, line {line}"
            is_method = isinstance(layer, nn.Module) and frame.f_code.co_argcount == 2
            function = frame.f_code.co_name if is_method and frame.f_code.co_name not in ENTRIES else ""
    return Location(inside + at, innermost, function)


ENTRIES = ("model", "guide", "forward")
"""Methods that are called by others than the program, whose argument is the batch or of any number of dimensions."""


def _called(layer: nn.Module, names: Names) -> str:
    path, kind = names.get(id(layer)), type(layer).__name__
    return f"layer {path!r} ({kind})" if path else f"a layer {kind}"


def _copies(tree: Any) -> list[Tensor]:
    return [leaf.detach().clone() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _equal(many: Tensor, one: Tensor, sizes: tuple[int, ...], index: tuple[int, ...]) -> bool | None:
    """Whether one element of a batched output equals the single output; None if its dimensions are unclear."""
    for shaped in (many.expand, many.reshape):
        try:
            same = shaped(*sizes, *one.shape)[index]
        except RuntimeError:
            continue
        return bool(within_rounding(one, same).all())
    return None
