"""A learned prior over discrete codes: N one-hot vectors of K categories, each given those before it.

log p(v) = sum_i log p(v_i | v_1 .. v_i-1),     v_i one of K one-hot vectors
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions.constraints import Constraint
from torch.nn.functional import one_hot

from pplvm.distributions.autoregressive import Autoregressive

__all__ = ["CodePrior"]

IMPOSSIBLE = -1e4
"""Stands for the logit of a code that is ruled out, where a value between the codes multiplies it."""

LogitsStep = Callable[[Any, Tensor | None], tuple[Tensor, Any]]
"""From a cache and the one-hot vectors drawn last, (rows, K) and None at first, to the logits of the next ones,
(rows, K), and the next step's cache."""


class CodePrior(Autoregressive):
    """A distribution over N one-hot vectors, each given those before it: density in one pass, sampling by steps.

        log p(v) = sum_i log softmax(logits_i(v_1 .. v_i-1))[v_i]

    The value enters its log-density as N categories: like a OneHotCategorical it gives the draw of a guide no slope.
    Enumeration takes it as N coordinates of K states.

    Arguments:
        logits: from values (..., N, K) to logits (..., N, K), each of the vectors before it, in one pass of a masked
            network; whatever they depend on besides must broadcast against the values.
        first: from the shape of all that is drawn, particles and batch, to the cache of the first step, whose rows are
            the values to draw, in the order of that shape flattened.
        step: from a cache and the vectors drawn last, (rows, K), None at first, to the logits of the next ones,
            (rows, K), and the next step's cache.
        event_shape: (N, K).
        batch_shape: of what the logits depend on besides; a plate or particles enlarge it.

    Raises:
        ValueError: event_shape is no pair of N at least 1 and K at least 2.

    Example:
        >>> def repeating(before):  # a code is that before it, with odds of 9 to 1 against each other one
        ...     return 2.2 * before
        >>> prior = CodePrior(
        ...     lambda v: repeating(torch.cat([torch.zeros_like(v[..., :1, :]), v[..., :-1, :]], -2)),
        ...     first=lambda shape: torch.zeros(shape.numel(), 4),
        ...     step=lambda zeros, before: (repeating(zeros if before is None else before), zeros),
        ...     event_shape=(5, 4),
        ... )
        >>> v = prior.sample((3,))
        >>> v.shape, prior.log_prob(v).shape
        (torch.Size([3, 5, 4]), torch.Size([3]))

    References:
        van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, 2017, arXiv:1711.00937
    """

    def __init__(
        self,
        logits: Callable[[Tensor], Tensor],
        first: Callable[[torch.Size], Any],
        step: LogitsStep,
        *,
        event_shape: Sequence[int],
        batch_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        if len(event_shape) != 2 or event_shape[0] < 1 or event_shape[1] < 2:
            raise ValueError(
                f"CodePrior: event_shape must be (N, K), N positions of K >= 2 codes, got {tuple(event_shape)}"
            )
        self.logits, self.step_logits = logits, step
        super().__init__(
            lambda value: dist.OneHotCategorical(logits=logits(value), validate_args=False),
            first,
            lambda cache, before: _as_distribution(*step(cache, before)),
            event_shape=event_shape,
            batch_shape=batch_shape,
            support=constraints.one_hot,
            validate_args=validate_args,
        )

    @property
    def coordinate(self) -> TorchDistribution:
        """A distribution with the states of one coordinate, on the device of the logits; no coordinate has it."""
        with torch.no_grad():
            logits, _ = self.step_logits(self.first(self.batch_shape), None)
        return dist.OneHotCategorical(logits=torch.zeros_like(logits[0]), validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "CodePrior":
        shape = torch.Size(batch_shape)
        if torch.broadcast_shapes(shape, self.batch_shape) != shape:
            raise ValueError(f"CodePrior: batch shape {tuple(self.batch_shape)} does not expand to {tuple(shape)}")
        return self._with(self.logits, self.step_logits, shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        code = value.argmax(-1, keepdim=True)  # (..., N, 1)
        held = one_hot(code.squeeze(-1), self.event_shape[-1]).to(value.dtype)
        log_probs = self.logits(held).log_softmax(-1)
        shape = torch.broadcast_shapes(log_probs.shape[:-1], code.shape[:-1])
        of_codes = log_probs.expand(*shape, -1).gather(-1, code.expand(*shape, 1))
        return self._in_batch(of_codes.squeeze(-1).sum(-1))

    def softened(self) -> TorchDistribution:
        """The same with its log-mass extended linearly to values between the codes, which relaxations draw."""
        return _SoftCodePrior(self)

    def at_temperature(self, temperature: float) -> "CodePrior":
        """The codes at a temperature T: the logits of each, given those before it, divided by T."""

        def step(cache: Any, before: Tensor | None) -> tuple[Tensor, Any]:
            logits, cache = self.step_logits(cache, before)
            return logits / temperature, cache

        return self._with(lambda value: self.logits(value) / temperature, step, self.batch_shape)

    def _in_batch(self, log_prob: Tensor) -> Tensor:
        return log_prob.expand(torch.broadcast_shapes(log_prob.shape, self.batch_shape))

    def _with(self, logits: Callable[[Tensor], Tensor], step: LogitsStep, batch_shape: torch.Size) -> "CodePrior":
        new = CodePrior(
            logits, self.first, step, event_shape=self.event_shape, batch_shape=batch_shape, validate_args=False
        )
        new._validate_args = self._validate_args
        return new


class _SoftCodePrior(TorchDistribution):
    """A code prior at values between the codes: sum_i v_i . log softmax(logits_i(v))."""

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]

    def __init__(self, hard: CodePrior) -> None:
        super().__init__(hard.batch_shape, hard.event_shape, validate_args=False)
        self.hard = hard

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.hard.support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "_SoftCodePrior":
        return _SoftCodePrior(self.hard.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        log_probs = self.hard.logits(value).log_softmax(-1).clamp(min=IMPOSSIBLE)
        return self.hard._in_batch((value * log_probs).sum((-2, -1)))


def _as_distribution(logits: Tensor, cache: Any) -> tuple[TorchDistribution, Any]:
    return dist.OneHotCategorical(logits=logits, validate_args=False), cache
