"""Codes of which it is counted how often they are used, and of which unused ones are moved between steps.

u_k = n_k / n           share of a batch's n vectors that code k is nearest to
U_k <- g U_k + (1-g) u_k    running share, by which a code is unused: K U_k < threshold
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["CountedCodes"]

SEED = 0x5EED << 32
"""Sets the generators of restarts apart from others that count from nought."""


class CountedCodes(nn.Module, ABC):
    """K codes of D numbers each, and how often they are used: what all codebooks share.

    `observe` counts in the forward pass of training, into buffers; nothing else moves before the step is over, when
    `after_step` (called by `pplvm.training.stepper.Stepper`, or by your own loop) takes the counts up. A run whose
    buffers are put back, or in evaluation mode, or without gradients, counts for nothing.

    Counts are shares of a batch, so that their mean over ranks, which `pplvm.distributed.data_parallel.parallel` takes
    of floating-point buffers, is the share of the whole batch. The rows from which unused codes are restarted are each
    rank's own (`rank_buffers`), and are gathered in `after_step`; which of them a code gets is drawn by a generator
    that the number of steps seeds, so that all ranks, and a run that is resumed, agree.

    Arguments:
        num_codes: K, at least 2.
        code_size: D.
        restart_below: a code is moved onto an encoder output of the present batch once its running share is less than
            this fraction of the mean share 1 / K; 0 moves none, and .01 is usual.
        decay: g of the running averages, in [0, 1).

    Raises:
        ValueError: a size is no integer, or too small; restart_below or decay is out of its range.
    """

    rank_buffers = ("rows",)
    codes: Tensor  # (K, D)
    epoch: Tensor
    pending: Tensor
    shares: Tensor
    rows: Tensor
    steps: Tensor

    def __init__(self, num_codes: int, code_size: int, restart_below: float = 0.0, decay: float = 0.99) -> None:
        super().__init__()
        name = type(self).__name__
        for word, size, least in (("num_codes", num_codes, 2), ("code_size", code_size, 1)):
            if isinstance(size, bool) or not isinstance(size, int) or size < least:
                raise ValueError(f"{name}: {word} must be an integer of at least {least}, got {size!r}")
        if not 0 <= restart_below < 1:
            raise ValueError(f"{name}: restart_below must be at least 0 and less than 1, got {restart_below!r}")
        if not 0 <= decay < 1:
            raise ValueError(f"{name}: decay must be at least 0 and less than 1, got {decay!r}")
        self.num_codes, self.code_size = num_codes, code_size
        self.restart_below, self.decay = restart_below, decay
        self.register_buffer("epoch", torch.zeros(num_codes))  # sum of the shares of its batches
        if self._keeps_shares:
            self.register_buffer("pending", torch.zeros(num_codes))  # the same since the last step
            self.register_buffer("shares", torch.full((num_codes,), 1 / num_codes))
        if restart_below:
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
            self.register_buffer("rows", torch.zeros(num_codes, code_size), persistent=False)

    @property
    @abstractmethod
    def has_loss(self) -> bool:
        """Whether the codebook loss, the squared distance of codes to what is nearest to them, moves the codes."""

    @abstractmethod
    def embed(self, v: Tensor) -> Tensor:
        """The codes that one-hots v (..., K) stand for, (..., D)."""

    @abstractmethod
    def place(self, codes: Tensor, moved: Tensor | None = None) -> None:
        """Set codes to other values (K, D), where moved (K,) is true or everywhere, as if they were of usual use."""

    def observe(self, z: Tensor, index: Tensor) -> None:
        """Count a batch in training.

        Arguments:
            z: encoder outputs, (..., D).
            index: of the code that each is nearest to, (...).
        """
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                self._count(z.detach().reshape(-1, self.code_size).to(self.epoch), index.reshape(-1))

    @torch.no_grad()
    def after_step(self, all_rows: Callable[[Tensor], Tensor]) -> None:
        """Take up what was counted since the last step, and restart unused codes.

        Arguments:
            all_rows: gives the rows (R n, ...) of a tensor (n, ...) on all ranks; the tensor itself in one process.
        """
        if not self.training or not self._keeps_shares:
            return
        seen = self.pending.sum()  # the batches since the last step; none where another part is trained
        rate = (1 - self.decay) * (seen > 0)
        self._take_up(rate, 1 / seen.clamp(min=1))
        self.pending.zero_()
        if self.restart_below:
            generator = torch.Generator().manual_seed(SEED + int(self.steps))
            found = all_rows(self.rows)
            chosen = torch.randperm(len(found), generator=generator, device="cpu")[: self.num_codes].to(found.device)
            self.place(found[chosen], self.num_codes * self.shares < self.restart_below)
            self.steps.add_(1)

    def usage(self) -> Tensor:
        """The share of each code in all vectors since `start_epoch`, (K,); zeros if there was none."""
        return self.epoch / self.epoch.sum().clamp(min=torch.finfo(self.epoch.dtype).tiny)

    @torch.no_grad()
    def start_epoch(self) -> None:
        """Forget the usage so far."""
        self.epoch.zero_()

    @property
    def _keeps_shares(self) -> bool:
        """Whether running shares are needed."""
        return self.restart_below > 0

    def _count(self, z: Tensor, index: Tensor) -> Tensor:
        """Add a batch z (n, D) of nearest codes (n,) to the counts; return 1 / n for each vector, (n,)."""
        n = len(index)
        each = self.epoch.new_full((n,), 1 / n)
        shares = torch.zeros_like(self.epoch).index_add_(0, index, each)
        self.epoch.add_(shares)
        if self._keeps_shares:
            self.pending.add_(shares)
        if self.restart_below:
            self.rows.copy_(z[_spread(n, self.num_codes, z.device)])
        return each

    def _take_up(self, rate: Tensor, per_batch: Tensor) -> None:
        """Move the running shares, and whatever is averaged with them, by a rate () towards the pending mean."""
        self.shares.lerp_(self.pending * per_batch, rate.to(self.shares))


def _spread(n: int, count: int, device: torch.device) -> Tensor:
    """Places of `count` rows among n that are far apart from each other and in step with no grid, (count,).

    Multiples of about .618 n modulo n, of which the first n are all different.
    """
    step = max(1, round(0.618034 * n))
    while math.gcd(step, n) > 1:
        step += 1
    return torch.arange(count, device=device) * step % n
