"""Plain copies of a checkpoint's state: CPU tensors and primitives, such that equal values give equal bytes.

A pickle spells two equal strings out if they are two objects, and refers back if they are one; it writes a
view with all of the storage behind it. A copy in which equal strings are one object, every container is new
and every tensor owns its storage depends on the values alone.
"""

__all__ = ["plain_state", "plain_tensor"]

import sys
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 2000  # bits of an int: torch's restricted unpickler reads at most 255 bytes
PLAIN = (Tensor, nn.Parameter, nn.Buffer)  # types of a tensor that are no subclass with a meaning of its own
HELD = "a checkpoint holds tensors, bool, int, float, str, None and lists, tuples and dicts of these"


def plain_state(value: Any, name: str) -> Any:
    """Copy `value` into CPU tensors, primitives, lists, tuples and dicts.

    Arguments:
        value: of these types, or of a subclass of dict, which becomes a dict.
        name: of the value, to be blamed.

    Raises:
        TypeError: it holds anything else; the sentence names the path to it.

    Example:
        >>> plain_state({"lr": [0.1, torch.device("cpu")]}, "state")
        Traceback (most recent call last):
        ...
        TypeError: state['lr'][1] is a torch.device: a checkpoint holds tensors, bool, int, ... dicts of these
    """
    if isinstance(value, Tensor):
        return plain_tensor(value, name)
    if type(value) is str:
        return sys.intern(value)
    if type(value) is int and value.bit_length() > LARGEST:
        raise TypeError(f"{name} is an int of {value.bit_length()} bits: at most {LARGEST} can be read back")
    if value is None or type(value) in (bool, int, float):
        return value
    if type(value) in (list, tuple):
        return type(value)(plain_state(item, f"{name}[{i}]") for i, item in enumerate(value))
    if isinstance(value, dict):
        return {_key(key, name): plain_state(item, f"{name}[{key!r}]") for key, item in value.items()}
    raise TypeError(f"{name} is a {_kind(value)}: {HELD}")


def plain_tensor(value: Tensor, name: str) -> Tensor:
    """Copy a tensor to the CPU, contiguous, with a storage of its own and without gradient.

    Arguments:
        value: of any device, dtype and strides.
        name: of the tensor, to be blamed.

    Raises:
        TypeError: it is no dense tensor with values: sparse, quantized, on the meta device or of a subclass.

    Example:
        >>> plain_tensor(torch.eye(2).expand(3, 2, 2), "eye").untyped_storage().nbytes()  # of 12 floats
        48
    """
    if type(value) not in PLAIN:
        raise TypeError(f"{name} is a {_kind(value)}: a checkpoint holds plain tensors")
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        raise TypeError(f"{name} is a tensor without dense values: a checkpoint holds dense tensors with values")
    own = value.detach().cpu().resolve_conj().resolve_neg()
    return own.clone(memory_format=torch.contiguous_format)


def _key(key: Any, name: str) -> str | int:
    if type(key) is str:
        return sys.intern(key)
    if type(key) is int:
        return key
    raise TypeError(f"{name} has the key {key!r}, a {_kind(key)}: name it by a str or an int")


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
