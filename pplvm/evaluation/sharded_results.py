"""Results of shards of the data, one for each rank or chunk, merged into one; a result is a dataclass of tensors."""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from pplvm.distributed.collectives import all_gather_rows
from pplvm.distributed.ranks import my_rows, size

__all__ = ["concatenate_results", "gather_results", "rank_slice"]


def concatenate_results(parts: Iterable[Any]) -> Any:
    """Concatenate results of consecutive data."""
    parts = list(parts)
    return _with_tensors(parts[0], lambda name, key: torch.cat([_tensor(part, name, key) for part in parts]))


def rank_slice(n: int) -> slice:
    """This rank's slice of n data; all of them where there are fewer data than ranks."""
    return slice(None) if n < size() else my_rows(n)


def gather_results(mine: Any, n: int) -> Any:
    """Gather the ranks' results into one result of all n data."""
    if size() == 1 or n < size():
        return mine
    return _with_tensors(mine, lambda name, key: all_gather_rows(_tensor(mine, name, key), n))


def _with_tensors(result: Any, tensor: Callable[[str, str | None], Tensor]) -> Any:
    """Replace the tensors of a result, and those in its dictionaries."""
    found: dict[str, Any] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, Tensor):
            found[field.name] = tensor(field.name, None)
        elif isinstance(value, dict):
            found[field.name] = {key: tensor(field.name, key) for key in value}
    return replace(result, **found)


def _tensor(result: Any, name: str, key: str | None) -> Tensor:
    value = getattr(result, name)
    return value if key is None else value[key]
