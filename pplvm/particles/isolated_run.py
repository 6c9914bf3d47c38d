"""Isolated runs of a program: without side effects, and random only at sample sites."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pplvm.particles.pair import Pair, owners
from pplvm.particles.side_effects import without_side_effects

__all__ = ["MeanNoiseMode", "isolated"]


@contextmanager
def isolated(pair: Pair, args: tuple, kwargs: dict) -> Iterator[None]:
    """Within this context, without gradient, random state, buffers and Pyro's parameters are restored."""
    with (
        without_side_effects(owners(pair.model, pair.guide), [*args, *kwargs.values()]),
        pyro.get_param_store().scope(),
        torch.no_grad(),
    ):
        yield


class MeanNoiseMode(TorchFunctionMode):
    """A torch function mode: random tensors are their means, batch normalization has fixed statistics, no dropout.

    So dropout keeps every unit, added noise is zero, and no row's values depend on which other rows there are. What
    draws in other ways stays random.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in DROPOUTS:
            return args[0] if args else kwargs["input"]
        if name in RECURRENT and len(args) == 9:  # the seventh is whether to drop units between layers
            args = (*args[:6], False, *args[7:])
        if name == "multi_head_attention_forward":
            kwargs = kwargs | {"training": False}  # which decides on dropout alone
        if name == "scaled_dot_product_attention":
            args, kwargs = args[:4], kwargs | {"dropout_p": 0.0} | dict(zip(("is_causal",), args[5:6], strict=False))
        if func is F.batch_norm:
            return _by_channel(*args, **kwargs)
        given = func(*args, **kwargs)
        return given.copy_(torch.as_tensor(MEANS[name](*args))) if name in MEANS else given


DROPOUTS = {f"{kind}dropout{end}" for kind in ("", "alpha_", "feature_", "feature_alpha_") for end in ("", "_")}
DROPOUTS |= {"dropout1d", "dropout2d", "dropout3d"}

RECURRENT = ("gru", "lstm", "rnn_tanh", "rnn_relu")

MEANS: dict[str, Callable[..., Any]] = {
    "rand": lambda *_: 0.5,
    "rand_like": lambda *_: 0.5,
    "randn": lambda *_: 0.0,
    "randn_like": lambda *_: 0.0,
    "normal": lambda mean=0.0, *_: mean,
    "bernoulli": lambda p, *given: given[0] if given else p,
    "normal_": lambda _, mean=0.0, *__: mean,
    "uniform_": lambda _, low=0.0, high=1.0, *__: (low + high) / 2,
    "exponential_": lambda _, rate=1.0, *__: 1 / rate,
    "bernoulli_": lambda _, p=0.5, *__: p,
}
"""The mean of what a function draws, from its arguments."""


def _by_channel(
    x: Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, *_: Any, **__: Any
) -> Tensor:
    like = x if weight is None else weight
    own = torch.linspace(0.5, 1.5, x.shape[1], dtype=like.dtype, device=x.device)
    return F.batch_norm(x, own, own, weight, bias)
