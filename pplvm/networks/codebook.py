"""Codebooks: the vectors of discrete codes, learned by gradient."""

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Codebook"]


class Codebook(nn.Module):
    """K vectors of length D, a parameter.

    Arguments:
        num_codes: K, at least 2.
        code_size: D.
        gradient: what moves the vectors: the slope of the "decoder", which reads them; the codebook "loss", a penalty
            that the program declares and the objective weighs; or "both".

    Raises:
        ValueError: num_codes is below 2, or code_size below 1; gradient has another name.

    Example:
        >>> codebook = Codebook(num_codes=5, code_size=3)
        >>> codebook.embed(torch.eye(5)[[1, 4]]).shape
        torch.Size([2, 3])

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    def __init__(self, num_codes: int, code_size: int, gradient: Literal["decoder", "loss", "both"] = "loss") -> None:
        super().__init__()
        if isinstance(num_codes, bool) or not isinstance(num_codes, int) or num_codes < 2:
            raise ValueError(f"Codebook: num_codes must be an integer of at least 2, got {num_codes!r}")
        if isinstance(code_size, bool) or not isinstance(code_size, int) or code_size < 1:
            raise ValueError(f"Codebook: code_size must be an integer of at least 1, got {code_size!r}")
        if gradient not in ("decoder", "loss", "both"):
            raise ValueError(f"Codebook: gradient must be 'decoder', 'loss' or 'both', got {gradient!r}")
        self.gradient = gradient
        self.codes = nn.Parameter(torch.randn(num_codes, code_size))  # (K, D)

    @property
    def has_loss(self) -> bool:
        """Whether the codebook loss, the distance of codes to what is nearest to them, moves the vectors."""
        return self.gradient != "decoder"

    def embed(self, v: Tensor) -> Tensor:
        """The vectors of one-hot codes, (..., K) -> (..., D)."""
        return v @ (self.codes.detach() if self.gradient == "loss" else self.codes)

    def observe(self, z: Tensor, index: Tensor) -> None:
        """Take note of a batch: z (..., D) and the index of the nearest code of each, (...)."""
