"""A program's parameters as one vector: names, slices, and whether model or guide uses them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple
from pplvm.particles.parameter_roles import parameter_roles

__all__ = ["Parameters", "SIDES"]

SIDES = ("model", "guide")


@dataclass(frozen=True)
class Parameters:
    """The trainable parameters of a program, in a fixed order."""

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    sides: tuple[str, ...]  # "model" or "guide", per tensor; a shared one counts to the model

    @classmethod
    def of(cls, program: nn.Module, batch: Batch) -> "Parameters":
        """Collect the parameters; one run of the program on a batch tells their sides."""
        named = [(name, p) for name, p in program.named_parameters() if p.requires_grad]
        used = parameter_roles(program.model, program.guide, [p for _, p in named], *as_tuple(batch))
        sides = tuple("model" if "model" in halves else "guide" for halves in used)
        return cls(tuple(name for name, _ in named), tuple(p for _, p in named), sides)

    @property
    def size(self) -> int:
        """P, the length of the vector."""
        return sum(p.numel() for p in self.tensors)

    @property
    def slices(self) -> list[slice]:
        """The slice of each tensor in the vector."""
        ends = torch.tensor([0, *[p.numel() for p in self.tensors]]).cumsum(0).tolist()
        return [slice(start, end) for start, end in zip(ends[:-1], ends[1:], strict=True)]

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Each tensor's shape as a matrix, (out, all the rest); a vector is one column."""
        return [(len(p) if p.dim() else 1, p[0].numel() if p.dim() else 1) for p in self.tensors]

    def split(self, vectors: Tensor) -> list[Tensor]:
        """Split vectors (..., P) by tensor into matrices (..., O, I)."""
        parts = vectors.split([p.numel() for p in self.tensors], -1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, self.matrices, strict=True)]

    def side(self, which: str) -> Tensor:
        """The entries of one side, a mask (P,)."""
        parts = [torch.full((p.numel(),), s == which) for p, s in zip(self.tensors, self.sides, strict=True)]
        return torch.cat(parts)

    def tensors_of(self, which: str) -> Tensor:
        """The tensors of one side, a mask (T,)."""
        return torch.tensor([side == which for side in self.sides])

    def gradient(self) -> Tensor:
        """The vector of `.grad`, zero where there is none: (P,), on the CPU."""
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self.tensors]
        return torch.cat(parts).cpu()

    def gradient_of(self, value: Tensor) -> Tensor:
        """The gradient of a scalar, its graph kept, (P,)."""
        found = torch.autograd.grad(value, self.tensors, retain_graph=True, allow_unused=True)
        parts = [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(self.tensors, found, strict=True)]
        return torch.cat(parts).cpu()

    def entry_name(self, entry: int) -> str:
        """The name of one entry of the vector, e.g. decoder.weight[3,7]."""
        for name, tensor, part in zip(self.names, self.tensors, self.slices, strict=True):
            if entry < part.stop:
                place = torch.unravel_index(torch.tensor(entry - part.start), tensor.shape or (1,))
                return f"{name}[{','.join(str(int(i)) for i in place)}]"
        raise IndexError(f"entry {entry} is outside the {self.size} parameters")
