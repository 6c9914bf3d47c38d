"""Checks a program against its data before training: its arguments, and the supports of its observed sites."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from pyro.poutine import Trace
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, to_device
from pplvm.data.array_splits import NOT_KNOWN
from pplvm.data.image_data import ImageData
from pplvm.data.spec import check_site, first_outside, refuse_condition, refuse_row
from pplvm.networks.counted_codes import CountedCodes
from pplvm.particles.contract import ProgramError, sample_sites
from pplvm.particles.pair import inspect_pair

__all__ = ["ConditionsError", "check_codes", "check_data", "run_once"]


class ConditionsError(ValueError):
    """A program takes other conditions than the data have, which another option can change."""


def run_once(program: nn.Module, data: ImageData, batch: Batch) -> tuple[Trace, Trace | None, list[str]]:
    """Run a program once on a batch of the data, x or (x, y, ...), as `inspect_pair`.

    Raises:
        ConditionsError: the program takes other conditions. ValueError: torch or Pyro refuse it on these data.
    """
    parts = as_tuple(batch)
    _require_call(program, data, len(parts))
    try:
        return inspect_pair(program.model, program.guide, parts, {})
    except (IndexError, RuntimeError, ProgramError) as error:
        not_known = _not_known(parts)
        if isinstance(error, IndexError) and not not_known:  # told with its line where it is caught
            raise
        raise (ConditionsError if not_known else ValueError)(
            f"program {type(program).__name__} cannot run on data set {data.spec.name!r}, whose data have shape "
            f"{data.spec.shape}: {str(error).splitlines()[0]}{not_known or _unscaled(program, data, parts)}"
        ) from error


def check_data(program: nn.Module, data: ImageData, batch: Batch) -> None:
    """Check before training that the program's observed sites can hold the data.

    A site that observes x of the batch itself must hold every level of the data, or every datum, and one that observes
    a condition itself all of its rows; of one that observes what the program makes of the batch, the program's own
    check on its first batch must do.

    Raises:
        ValueError: values of the data fall outside a site's support, or sizes differ.
    """
    spec, parts = data.spec, as_tuple(batch)
    model_trace, _, _ = run_once(program, data, parts)
    for name, site in sample_sites(model_trace).items():
        which = next((i for i, part in enumerate(parts) if site["is_observed"] and _is_part(site["value"], part)), None)
        if which == 0:
            check_site(spec, name, _kind(site), site["fn"].support, site["value"].device)
        if which is not None and (which > 0 or spec.levels is None):
            _check_rows(program, data, parts, which, name, site)


def check_codes(program: nn.Module, data: ImageData) -> None:
    """Refuse a codebook with more codes than there are data to train them.

    Raises:
        ValueError: of the first such codebook.
    """
    for name, part in program.named_modules():
        if isinstance(part, CountedCodes) and part.num_codes > len(data):
            raise ValueError(
                f"{type(program).__name__}.{name} has {part.num_codes:,} codes, more than the {len(data):,} data of "
                f"data set {data.spec.name!r}: take at most as many, num_codes={len(data)}"
            )


def _require_call(program: nn.Module, data: ImageData, count: int) -> None:
    """Refuse a program that cannot be called with x and its conditions, `count` tensors in all."""
    given = data.spec.conditions[: count - 1] or tuple(f"condition {i}" for i in range(1, count))
    for role in ("model", "guide"):
        try:
            takes = list(inspect.signature(getattr(program, role)).parameters.values())
        except (TypeError, ValueError):  # some callables have no signature
            continue
        named = [p for p in takes if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        needed = [p.name for p in named if p.default is p.empty]
        call = f"{type(program).__name__} has a {role}({', '.join(p.name for p in named)})"
        if len(needed) > count:
            there = f"beside x they have only {' and '.join(given)}" if given else "they are x alone"
            example = "labels" if len(needed) == 2 else "labels,mask"
            raise ConditionsError(
                f"program {call} that needs {' and '.join(needed[1:])} beside x, and as data are read {there}: name "
                f"what it needs, in its order, as --condition {example}"
            )
        if count > max(1, len(named)) and not any(p.kind is p.VAR_POSITIONAL for p in takes):
            most = len(named) - 1
            what = "x alone" if most < 1 else f"{most} condition{'s' if most > 1 else ''} beside x"
            raise ConditionsError(
                f"program {call} that takes {what}, and --condition gives it {' and '.join(given)}: leave "
                f"--condition {','.join(given)} out, or write model and guide that take them, as model(x, y)"
            )


def _not_known(parts: Sequence[Tensor]) -> str:
    """A hint where a program may fail on unknown labels (-1)."""
    if not any(part.dtype == torch.int64 and bool((part == NOT_KNOWN).any()) for part in parts[1:]):
        return ""
    return "; labels that are not known are -1: write a program for them, or leave out --known-labels or such data"


def _unscaled(program: nn.Module, data: ImageData, parts: Sequence[Tensor]) -> str:
    """Suggest to rescale the data, where a program fails on their values but not on the same ones in [-1, 1]."""
    low, high = data.extremes
    if data.spec.levels is not None or max(-low, high) <= 1:
        return ""
    try:
        inspect_pair(program.model, program.guide, (parts[0] / max(-low, high), *parts[1:]), {})
    except (RuntimeError, ProgramError):
        return ""
    return f"; its values run from {low:g} to {high:g}: scale them, or, if they are grey images, give their --levels"


def _check_rows(program: nn.Module, data: ImageData, parts: Sequence[Tensor], which: int, name: str, site: Any) -> None:
    """Check every datum, or row of a condition, against the support of a site that observes it.

    Arguments:
        parts: a batch, x (B, *shape) and its conditions.
        which: of them the site observes.
        name, site: of the site.
    """
    part, value = parts[which], site["value"]
    condition = data.conditions[which - 1] if which > 0 else part
    B = len(part)
    at_once = B * max(1, NUMBERS_AT_ONCE // part.numel())
    for start in range(0, len(data), at_once):
        count = min(at_once, len(data) - start)
        numbers = torch.arange(start, start + count + -count % B) % len(data)  # whole batches, the last one filled up
        found = data.rows(numbers) if which == 0 else condition[numbers.to(condition.device)]
        rows = found.to(part.device, value.dtype).reshape(-1, *value.shape)
        if (first := first_outside(site["fn"].support, rows)) is None:
            continue
        own = to_device(data.batch(numbers[first : first + 1]), part.device)
        with_it = tuple(torch.cat([row, rest[1:]]) for row, rest in zip(own, parts, strict=True))
        met = sample_sites(inspect_pair(program.model, program.guide, with_it, {})[0])[name]
        fn, value = met["fn"], met["value"]
        if _is_part(value, with_it[which]) and first_outside(fn.support, value[None]) == 0:
            if which > 0:
                refuse_condition(data.spec, which - 1, name, _kind(met), fn.support, int(numbers[first]), value)
            refuse_row(data.spec, name, _kind(met), fn.support, int(numbers[first]), value)
        return  # the program maps such values into the support, or the support is another for each datum


NUMBERS_AT_ONCE = 2**22
"""Values of the data held against a support at once."""


def _is_part(value: Any, part: Tensor) -> bool:
    """Whether a site observes a part of the batch itself, perhaps flattened or of another dtype."""
    if not torch.is_tensor(value) or value.shape[:1] != part.shape[:1] or value.numel() != part.numel():
        return False
    return torch.equal(value.reshape(part.shape).to(part.dtype), part)


def _kind(site: Any) -> str:
    fn = site["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__
