"""Mean gradients and values of a loss over many independent draws, for a comparison with the exact ones."""

import torch
from torch import Tensor, nn


def gradient(value: Tensor, program: nn.Module) -> Tensor:
    """Of a scalar, (P,)."""
    found = torch.autograd.grad(value, list(program.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def group_means(loss: nn.Module, batch: tuple[Tensor, ...], groups: int = 40, rows: int = 100) -> tuple[Tensor, Tensor]:
    """Of `rows` draws for each datum at once: values (groups,) and gradients (groups, P) of the program."""
    batch = tuple(part.repeat(rows, *[1] * (part.dim() - 1)) for part in batch)
    values, gradients = [], []
    for _ in range(groups):
        value = loss(*batch)
        values.append(value.detach())
        gradients.append(gradient(value, loss.program))
    return torch.stack(values), torch.stack(gradients)
