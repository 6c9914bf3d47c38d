"""Storchastic's methods, by method, without what importing it does to the rest of the process.

Importing storch replaces four functions of torch and turns the validation of distributions off for everyone; here
that holds while one of its contestants runs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution
from torch.nn.functional import softplus

from benchmarks.contestants import LEARNING_RATE
from benchmarks.peers.problems import Problem, Toy

_REPLACED = ((torch, "is_tensor"), (torch.Tensor, "to"), (torch.Tensor, "le"), (torch.Tensor, "gt"))
_torchs = [getattr(owner, name) for owner, name in _REPLACED]
_validates = Distribution._validate_args

import storch  # noqa: E402
from storch.method import ARM, REBAR, RELAX, Expect, Method, ScoreFunction  # noqa: E402

_storchs = [getattr(owner, name) for owner, name in _REPLACED]

__all__ = ["StorchasticContestant", "contestants"]


def _put(functions: list[Callable], validates: bool) -> None:
    for (owner, name), function in zip(_REPLACED, functions, strict=True):
        setattr(owner, name, function)
    Distribution.set_default_validate_args(validates)


_put(_torchs, _validates)


@contextmanager
def _storchastics_torch() -> Iterator[None]:
    validates = Distribution._validate_args
    _put(_storchs, False)
    try:
        yield
    finally:
        _put(_torchs, validates)


@dataclass(frozen=True)
class StorchasticContestant:
    """The problem's own program, its latents drawn by a storchastic method, its cost added and differentiated."""

    program: nn.Module
    method: Method
    x: Tensor
    optimizer: torch.optim.Optimizer

    def backward(self) -> None:
        with _storchastics_torch():
            _add_cost(self.program, self.method, self.x)
            storch.backward()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.backward()
        self.optimizer.step()

    def gradient(self) -> Tensor:
        self.optimizer.zero_grad()
        self.backward()
        return torch.cat([p.grad.detach().flatten() for p in self.program.parameters() if p.grad is not None])

    def parameters(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.program.parameters()])

    def settle(self) -> None:
        """Its control variates are measured as they start."""


def contestants(problem: Problem) -> dict[str, Callable[[], StorchasticContestant]]:
    K, program = problem.particles, problem.build()
    Z = 1 if isinstance(program, Toy) else len(program.prior_logits)
    methods: dict[str, Callable[[], Method]] = {
        "score function": lambda: ScoreFunction("z", n_samples=K),
        "leave-one-out": lambda: ScoreFunction("z", n_samples=K, baseline_factory="batch_average"),
        "ARM": lambda: ARM("z", n_samples=K // 2),
        "REBAR": lambda: REBAR("z", n_samples=max(1, K // 3)),
        "RELAX": lambda: RELAX("z", n_samples=max(1, K // 3), in_dim=Z),
        **({"expectation": lambda: Expect("z")} if Z <= 10 else {}),
    }

    def contestant(method: Method) -> StorchasticContestant:
        program = problem.build()
        trained = [*program.parameters(), *method.parameters()]
        optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE, fused=True)
        return StorchasticContestant(program, method, problem.x, optimizer)

    return {name: lambda method=method: contestant(method()) for name, method in methods.items()}


def _add_cost(program: nn.Module, method: Method, x: Tensor) -> None:
    """Minus the elbo of each draw, in one `deterministic` function, which spares storchastic its unwrapping."""
    if isinstance(program, Toy):
        z = method(Bernoulli(logits=storch.denote_independent(program.phi, 0, "batch")))
        storch.add_cost(-(z - program.t).square().sum(-1), "minus gain")
        return
    differentiates = isinstance(method, REBAR)  # elsewhere the gradient of log q in the cost has a mean of zero

    @storch.deterministic
    def minus_elbo(z: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        log_q = _log_bernoulli(z, logits)
        log_p = _log_bernoulli(z, program.prior_logits) + _log_bernoulli(x, program.decoders[0](2 * z - 1))
        return (log_q if differentiates else log_q.detach()) - log_p

    x = storch.denote_independent(x, 0, "batch")
    logits = program.encoders[0](x - program.centre)
    storch.add_cost(minus_elbo(method(Bernoulli(logits=logits)), x, logits), "minus elbo")


def _log_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    return (value * logits - softplus(logits)).sum(-1)
