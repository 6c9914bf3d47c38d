"""Codes given an order: absorbing diffusion, whose reverse process reveals one position after another.

log p(v | order) = sum_t log p(v_order[t] | v_order[0] .. v_order[t-1]),     one network for all visible sets
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions.constraints import Constraint
from torch.nn.functional import one_hot

from pplvm.distributions.code_prior import IMPOSSIBLE

__all__ = ["AbsorbingCodes", "AbsorbingCodesStep"]

VisibleLogits = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From one-hots (..., 1, N, K), M visible sets (..., M, N) of which the rest is hidden, and positions (..., M) or None,
to logits (..., M, K) at these positions, or (..., M, N, K) at all."""


class _InOrder(TorchDistribution):
    """What the exact terms and their estimate share: draws in the order, hard and soft values."""

    arg_constraints: dict[str, Constraint] = {}  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(
        self,
        logits: VisibleLogits,
        order: Tensor,
        like: Tensor,
        num_codes: int,
        batch_shape: Sequence[int],
        validate_args: bool | None,
    ) -> None:
        self.logits, self.order, self.like, self.num_codes = logits, order, like, num_codes
        shape = torch.broadcast_shapes(order.shape[:-1], torch.Size(batch_shape))
        super().__init__(shape, torch.Size([order.shape[-1], num_codes]), validate_args=validate_args)

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        return constraints.independent(constraints.one_hot, 1)

    @property
    def coordinate(self) -> TorchDistribution:
        """A distribution with the states of one coordinate; no coordinate has it."""
        return dist.OneHotCategorical(logits=self.like.new_zeros(self.num_codes), validate_args=False)

    @property
    def rank(self) -> Tensor:
        """The place of each position in the order, (..., N)."""
        return self.order.argsort(-1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        shape = torch.Size(batch_shape)
        if torch.broadcast_shapes(shape, self.batch_shape) != shape:
            raise ValueError(
                f"{type(self).__name__}: batch shape {tuple(self.batch_shape)} does not expand to {tuple(shape)}"
            )
        return self._with(self.logits, shape)

    def at_temperature(self, temperature: float) -> Any:
        """The codes at a temperature T: the logits of each, given those before it, divided by T."""
        return self._with(lambda *inputs: self.logits(*inputs) / temperature, self.batch_shape)

    def softened(self) -> TorchDistribution:
        """The same with its log-mass extended linearly to values between the codes, which relaxations draw."""
        return _Soft(self)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        N, K = self.event_shape
        order = self.order.expand(*shape, N)
        v = self.like.new_zeros(*shape, N, K)
        visible = torch.zeros(*shape, N, dtype=torch.bool, device=v.device)
        with torch.no_grad():
            for t in range(N):
                here = order[..., t : t + 1]
                logits = self.logits(v.unsqueeze(-3), visible.unsqueeze(-2), here)  # (..., 1, K)
                drawn = dist.OneHotCategorical(logits=logits, validate_args=False).sample()
                v = v.scatter(-2, here.unsqueeze(-1).expand(*shape, 1, K), drawn)
                visible = visible.scatter(-1, here, True)
        return v

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        code = value.argmax(-1, keepdim=True)  # (..., N, 1)
        log_probs = self._log_probs(one_hot(code.squeeze(-1), self.num_codes).to(value.dtype))
        shape = torch.broadcast_shapes(log_probs.shape[:-1], code.shape[:-1])
        of_codes = log_probs.expand(*shape, -1).gather(-1, code.expand(*shape, 1))
        return self._in_batch(of_codes.squeeze(-1).sum(-1))

    def _in_batch(self, log_prob: Tensor) -> Tensor:
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    @abstractmethod
    def _log_probs(self, v: Tensor) -> Tensor:
        """What a code at each position adds to the log-density, (..., N, K), where v (..., N, K) is shown."""

    @abstractmethod
    def _with(self, logits: VisibleLogits, batch_shape: torch.Size) -> Any:
        """The same with other logits and another batch shape."""


class AbsorbingCodes(_InOrder):
    """A distribution over N one-hot codes, revealed one by one in an order.

        log p(v | order) = sum_t log softmax(logits_order[t](v at order[0] .. order[t-1]))[v_order[t]]

    With the order an auxiliary latent, uniform in model and guide, this is order-agnostic training: the elbo is the
    mean over orders, which is the bound of continuous-time absorbing diffusion; `iwae` over orders approaches the
    log-density of their mixture. All N terms are one batched pass over N visible sets.

    Arguments:
        logits: a network of the visible set alone, from one-hots (..., 1, N, K), visible sets (..., M, N) and positions
            (..., M) to logits (..., M, K); of positions None at all of them, (..., M, N, K).
        order: (..., N), permutations of 0 .. N - 1.
        like: a tensor whose dtype and device the draws have.
        num_codes: K.
        batch_shape: of what the logits depend on besides; a plate or particles enlarge it.

    Example:
        >>> def alone(v, visible, positions):  # no code depends on another one
        ...     return v.new_zeros(*visible.shape[:-1], *(() if positions is not None else v.shape[-2:-1]), 4)
        >>> fn = AbsorbingCodes(alone, torch.tensor([2, 0, 1]), torch.zeros(()), num_codes=4)
        >>> v = fn.sample((5,))
        >>> v.shape, fn.log_prob(v).exp()[0].mul(4**3).item()
        (torch.Size([5, 3, 4]), 1.0)

    References:
        Austin, Johnson, Ho, Tarlow and van den Berg, Structured denoising diffusion models in discrete state-spaces,
        2021, arXiv:2107.03006
        Hoogeboom, Gritsenko, Bastings, Poole, van den Berg and Salimans, Autoregressive diffusion models, 2022,
        arXiv:2110.02037
        Ou, Nie, Xue, Zhu, Sun, Li and Li, Your absorbing discrete diffusion secretly models the conditional
        distributions of clean data, 2024, arXiv:2406.03736
    """

    def __init__(
        self,
        logits: VisibleLogits,
        order: Tensor,
        like: Tensor,
        num_codes: int,
        batch_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(logits, order, like, num_codes, batch_shape, validate_args)

    def _log_probs(self, v: Tensor) -> Tensor:
        rank = self.rank
        visible = rank.unsqueeze(-2) < rank.unsqueeze(-1)  # (..., N, N): a set for each position
        positions = torch.arange(v.shape[-2], device=v.device).expand(visible.shape[:-1])
        return self.logits(v.unsqueeze(-3), visible, positions).log_softmax(-1)

    def _with(self, logits: VisibleLogits, batch_shape: torch.Size) -> "AbsorbingCodes":
        new = AbsorbingCodes(logits, self.order, self.like, self.num_codes, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


class AbsorbingCodesStep(_InOrder):
    """The same distribution, of which `log_prob` takes one pass: an unbiased estimate of it, over order and time.

        N / n sum of log softmax(logits_i(v at the first N - n of the order))[v_i] over the n positions i after them

    With the order uniform and n uniform over 1 .. N its mean is the mean of `AbsorbingCodes.log_prob` over orders. That
    is a random lower bound and no log-density: it may stand in the elbo and in no other bound.

    Arguments:
        logits, order, like, num_codes, batch_shape: as of `AbsorbingCodes`.
        num_hidden: n, (...,), from 1 to N.

    Example:
        >>> def alone(v, visible, positions):
        ...     return v.new_zeros(*visible.shape[:-1], *(() if positions is not None else v.shape[-2:-1]), 4)
        >>> fn = AbsorbingCodesStep(alone, torch.tensor([2, 0, 1]), torch.zeros(()), 4, num_hidden=torch.tensor(2))
        >>> v = fn.sample((5,))
        >>> v.shape, fn.log_prob(v).exp()[0].mul(4**3).round(decimals=4).item()
        (torch.Size([5, 3, 4]), 1.0)

    References:
        Hoogeboom, Gritsenko, Bastings, Poole, van den Berg and Salimans, Autoregressive diffusion models, 2022,
        arXiv:2110.02037
    """

    is_random_lower_bound = True
    """Legal in the elbo only: under a mean within a logarithm the noise of the estimate would lift the bound."""

    def __init__(
        self,
        logits: VisibleLogits,
        order: Tensor,
        like: Tensor,
        num_codes: int,
        num_hidden: Tensor,
        batch_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        self.num_hidden = num_hidden
        shape = torch.broadcast_shapes(num_hidden.shape, torch.Size(batch_shape))
        super().__init__(logits, order, like, num_codes, shape, validate_args)

    def _log_probs(self, v: Tensor) -> Tensor:
        N, n = v.shape[-2], self.num_hidden.unsqueeze(-1)  # (..., 1)
        visible = self.rank < N - n  # (..., N)
        log_probs = self.logits(v.unsqueeze(-3), visible.unsqueeze(-2), None).squeeze(-3).log_softmax(-1)
        weight = (N / n).unsqueeze(-1).to(log_probs.dtype)
        return torch.where(visible.unsqueeze(-1), 0.0, weight * log_probs)

    def _with(self, logits: VisibleLogits, batch_shape: torch.Size) -> "AbsorbingCodesStep":
        new = AbsorbingCodesStep(
            logits, self.order, self.like, self.num_codes, self.num_hidden, batch_shape, validate_args=False
        )
        new._validate_args = self._validate_args
        return new


class _Soft(TorchDistribution):
    """Codes in an order at values between the codes."""

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]

    def __init__(self, hard: _InOrder) -> None:
        super().__init__(hard.batch_shape, hard.event_shape, validate_args=False)
        self.hard = hard

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.hard.support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "_Soft":
        return _Soft(self.hard.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        log_probs = self.hard._log_probs(value).clamp(min=IMPOSSIBLE)
        return self.hard._in_batch((value * log_probs).sum((-2, -1)))
