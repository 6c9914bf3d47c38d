"""Codebooks: K codes of D numbers, learned by gradient or as a moving average of what is assigned to them.

gradient          loss sum_n |stop(z_n) - e_k(n)|^2
moving average    N_k <- g N_k + (1-g) n_k,   S_k <- g S_k + (1-g) sum z,   e_k = S_k / N_k
"""

from typing import Literal

import torch
from torch import Tensor, nn

from pplvm.networks.counted_codes import CountedCodes

__all__ = ["Codebook", "MovingAverageCodebook"]

LEAST = 1e-6
"""A running share below which a code and its statistics stay as they are: their ratio would lose its digits."""


class Codebook(CountedCodes):
    """A codebook that is learned by gradient.

    Arguments:
        num_codes: K, at least 2.
        code_size: D.
        gradient: what reaches the codes: "loss", the codebook loss alone (van den Oord et al.); "decoder", the bound
            through `embed` alone, which is its exact gradient, as the codes are the model's parameter; or "both".
        restart_below, decay: of `CountedCodes`. A restarted code keeps its moments in the optimizer, those of the
            place where it was: under Adam it drifts by a few learning rates before they have decayed.

    Raises:
        ValueError: as in `CountedCodes`; gradient has another name.

    Example:
        >>> codebook = Codebook(num_codes=5, code_size=2)
        >>> codebook.embed(torch.eye(5)[[3, 0]]).shape
        torch.Size([2, 2])

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    def __init__(
        self,
        num_codes: int,
        code_size: int,
        gradient: Literal["loss", "decoder", "both"] = "loss",
        restart_below: float = 0.0,
        decay: float = 0.99,
    ) -> None:
        super().__init__(num_codes, code_size, restart_below, decay)
        if gradient not in ("loss", "decoder", "both"):
            raise ValueError(f"Codebook: gradient must be 'loss', 'decoder' or 'both', got {gradient!r}")
        self.gradient = gradient
        self.codes = nn.Parameter(torch.randn(num_codes, code_size))

    @property
    def has_loss(self) -> bool:
        return self.gradient != "decoder"

    def embed(self, v: Tensor) -> Tensor:
        return v @ (self.codes.detach() if self.gradient == "loss" else self.codes)

    @torch.no_grad()
    def place(self, codes: Tensor, moved: Tensor | None = None) -> None:
        where = torch.ones_like(self.epoch, dtype=torch.bool) if moved is None else moved
        self.codes.copy_(torch.where(where[:, None], codes.to(self.codes), self.codes))
        if self._keeps_shares:
            self.shares.masked_fill_(where, 1 / self.num_codes)


class MovingAverageCodebook(CountedCodes):
    """A codebook whose codes are moving averages of the encoder outputs that are assigned to them; no parameter.

    It is a preconditioned gradient step on the codebook loss, e' = e - ((1-g) / N') (n e - sum z), N' = g N + (1-g) n.
    Its buffers are linear in the batch (shares, and sums of z divided by the batch's number of vectors), so that
    averages of them over ranks or steps (`AveragedModel`) are those of all the data; their ratio is taken on reading.
    Each code starts with the usual share 1 / K, and one of nearly no use stays where it is.

    A batch is quantized by the codes as they were before it.

    Arguments:
        num_codes: K, at least 2.
        code_size: D.
        decay: g.
        restart_below: of `CountedCodes`; a restarted code gets the statistics of its new place too.

    Raises:
        ValueError: as in `CountedCodes`.

    Example:
        >>> codebook = MovingAverageCodebook(num_codes=2, code_size=1, decay=0.5)
        >>> codebook.place(torch.tensor([[0.0], [1.0]]))
        >>> codebook.observe(torch.tensor([[2.0], [4.0]]), torch.tensor([1, 1]))
        >>> codebook.after_step(lambda rows: rows)
        >>> codebook.codes  # (.5 * 1/2 * 1 + .5 * (2 + 4) / 2) / (.5 * 1/2 + .5 * 1)
        tensor([[0.0000],
                [2.3333]])

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
        (appendix A.1)
    """

    sums: Tensor
    pending_sums: Tensor

    def __init__(self, num_codes: int, code_size: int, decay: float = 0.99, restart_below: float = 0.0) -> None:
        super().__init__(num_codes, code_size, restart_below, decay)
        self.register_buffer("sums", torch.randn(num_codes, code_size) / num_codes)
        self.register_buffer("pending_sums", torch.zeros(num_codes, code_size))

    @property
    def codes(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.sums / self.shares[:, None]

    @property
    def has_loss(self) -> bool:
        return False

    def embed(self, v: Tensor) -> Tensor:
        return v @ self.codes

    @torch.no_grad()
    def place(self, codes: Tensor, moved: Tensor | None = None) -> None:
        where = torch.ones_like(self.epoch, dtype=torch.bool) if moved is None else moved
        self.sums.copy_(torch.where(where[:, None], codes.to(self.sums) / self.num_codes, self.sums))
        self.shares.masked_fill_(where, 1 / self.num_codes)

    @property
    def _keeps_shares(self) -> bool:
        return True

    def _count(self, z: Tensor, index: Tensor) -> Tensor:
        each = super()._count(z, index)
        sums = torch.zeros_like(self.sums).index_add_(0, index, z)
        self.pending_sums.add_(sums, alpha=1 / len(index))
        return each

    def _take_up(self, rate: Tensor, per_batch: Tensor) -> None:
        shares = torch.lerp(self.shares, self.pending * per_batch, rate.to(self.shares))
        sums = torch.lerp(self.sums, self.pending_sums * per_batch, rate.to(self.sums))
        lasts = shares >= LEAST
        self.shares.copy_(torch.where(lasts, shares, self.shares))
        self.sums.copy_(torch.where(lasts[:, None], sums, self.sums))
        self.pending_sums.zero_()
