"""What a batch holds beside the data, given to those parts of a program that take it; data in a likelihood's shape."""

import inspect
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from torch import Size, Tensor, nn

from pplvm.networks.leading_dims import LeadingDims

__all__ = ["given", "require_taken", "shaped"]


def given(
    program: str, part: Callable[..., Any], inputs: tuple[Tensor, ...], conditions: tuple[Tensor, ...], **named: Any
) -> Any:
    """Call a part of a program with its inputs and as many conditions as it takes.

    Arguments:
        program: its name in messages.
        part: a module or function; an option such as temperature=1.0 takes no condition.
        named: further inputs, by name; a part has them after the conditions.

    Raises:
        ValueError: it needs more conditions than the batch has.

    Example:
        >>> given("VAE", lambda z, y=None: (z, y), (1,), (2, 3))
        (1, 2)
    """
    taken = conditions[: max(0, _places(part, named) - len(inputs))] if conditions else ()
    try:
        return part(*inputs, *taken, **named)
    except TypeError as error:
        if (needed := _needed(part, named) - len(inputs)) <= len(taken):
            raise
        raise ValueError(
            f"{program}: a part, {getattr(part, '__name__', type(part).__name__)}, needs {needed} of the data's "
            f"conditions, and there {'is' if len(taken) == 1 else 'are'} {len(taken) or 'none'}: give data that have "
            "them, as data.conditioned('labels') or --condition labels"
        ) from error


def require_taken(program: str, conditions: tuple[Tensor, ...], *parts: tuple[Callable[..., Any], int]) -> None:
    """Refuse conditions that no part of a program takes.

    Arguments:
        parts: encoder, decoder and prior, each with the number of its own inputs.

    Raises:
        ValueError: in the program's name.
    """
    if conditions and not any(_places(part, {}) > own for part, own in parts):
        raise ValueError(
            f"{program}: the data have conditions, and no part takes them: leave them out, or let the encoder, the "
            "decoder or the prior have a further argument, such as forward(self, z, y)"
        )


def shaped(program: str, x: Tensor, shape: Size) -> Tensor:
    """The data (B, ...) in a likelihood's event shape: flattened, or with a channel.

    Raises:
        ValueError: they are of another size.
    """
    if x[:1].numel() != len(x[:1]) * shape.numel():
        raise ValueError(
            f"{program}: the likelihood is one of data of shape {tuple(shape)}, and these have shape "
            f"{tuple(x.shape[1:])}: give it a decoder of their size, and its event as many dimensions (.to_event)"
        )
    return x.reshape(len(x), *shape)


def _places(part: Callable[..., Any], named: dict[str, Any]) -> int:
    """The number of inputs that a module or callable takes: positional, and optional where None is the default."""
    if isinstance(part, LeadingDims):
        return _places(part.layer, named)
    taken = _positional(part, named)
    if any(p.kind is p.VAR_POSITIONAL for p in taken):
        return 2**31
    return sum(1 for _ in takewhile(lambda p: p.default is p.empty or p.default is None, taken))


def _needed(part: Callable[..., Any], named: dict[str, Any]) -> int:
    """The number of inputs without a default that a module or callable has."""
    if isinstance(part, LeadingDims):
        return _needed(part.layer, named)
    return sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in _positional(part, named))


def _positional(part: Callable[..., Any], named: dict[str, Any]) -> list[inspect.Parameter]:
    every = inspect.signature(part.forward if isinstance(part, nn.Module) else part).parameters.values()
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return [p for p in every if p.kind in kinds and p.name not in named]
