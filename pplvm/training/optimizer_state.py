"""Validates the state of an optimizer that was read from a file."""

__all__ = ["require_valid_state", "why_optimizer_cannot_step"]

import inspect

import torch
from torch import Tensor
from torch.optim import Optimizer


def require_valid_state(optimizer: Optimizer) -> None:
    """Refuse a state that would make a step fail: missing parts, wrong shapes, invalid settings.

    Arguments:
        optimizer: of torch.optim, whose state is a number or of the parameter's shape.

    Raises:
        ValueError: its state is not such a one; whatever else a step raises under its settings.

    Example:
        >>> adam = torch.optim.Adam([torch.ones(2, requires_grad=True)])
        >>> require_valid_state(adam)  # no state yet
    """
    for group in optimizer.param_groups:
        usual = _after_a_step(optimizer, group)
        for p in group["params"]:
            found = optimizer.state.get(p, {})
            if found and found.keys() != usual.keys():
                raise ValueError(f"the optimizer's state holds {', '.join(map(str, found))}, not {', '.join(usual)}")
            for name, value in found.items():
                shape = p.shape if usual[name] else torch.Size()
                if usual[name] is not None and not (isinstance(value, Tensor) and value.shape == shape):
                    raise ValueError(f"the optimizer's {name} is no tensor of shape {tuple(shape)}")


def why_optimizer_cannot_step(optimizer: Optimizer) -> str | None:
    """Why an optimizer of torch takes no step on a dense gradient by `step()`; None if it does or is not torch's.

    Example:
        >>> p = torch.ones(2, requires_grad=True)
        >>> why_optimizer_cannot_step(torch.optim.SparseAdam([p]))
        'SparseAdam does not support dense gradients, please consider Adam instead'
        >>> why_optimizer_cannot_step(torch.optim.Adam([p]))
    """
    if not type(optimizer).__module__.startswith("torch.optim."):
        return None
    try:
        _after_a_step(optimizer, optimizer.param_groups[0])
    except Exception as error:
        return str(error).splitlines()[0]
    return None


def _after_a_step(optimizer: Optimizer, group: dict) -> dict[str, bool | None]:
    """Whether each part of a parameter's state after one step has its shape; None for parts that are no tensor."""
    taken = inspect.signature(type(optimizer)).parameters
    p = torch.zeros(2, 3, requires_grad=True)
    p.grad = torch.zeros_like(p)
    probe = type(optimizer)([p], **{name: group[name] for name in optimizer.defaults if name in taken})
    probe.step()
    return {name: value.dim() > 0 if isinstance(value, Tensor) else None for name, value in probe.state[p].items()}
