"""Results of some data, or of one rank's share of them, as one result of all; a result is a dataclass of tensors."""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from pplvm.distributed.collectives import gathered
from pplvm.distributed.ranks import my_rows, size

__all__ = ["joined", "over_ranks", "share_of"]


def joined(parts: Iterable[Any]) -> Any:
    """Results of some data each as one result of all."""
    parts = list(parts)
    return _with_tensors(parts[0], lambda name, key: torch.cat([_tensor(part, name, key) for part in parts]))


def share_of(n: int) -> slice:
    """This rank's share of n data; each has all of them where they are fewer than ranks."""
    return slice(None) if n < size() else my_rows(n)


def over_ranks(mine: Any, n: int) -> Any:
    """Each rank's result of its share as one result of all n data."""
    if size() == 1 or n < size():
        return mine
    return _with_tensors(mine, lambda name, key: gathered(_tensor(mine, name, key), n))


def _with_tensors(result: Any, tensor: Callable[[str, str | None], Tensor]) -> Any:
    """A result with its tensors, and those in its dictionaries, replaced."""
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
