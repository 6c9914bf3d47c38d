"""Settings of the form NAME=VALUE, and calls of constructors with settings and facts of the data."""

import ast
import inspect
from collections.abc import Callable, Hashable, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, get_args

__all__ = ["call_with", "split_settings"]


def split_settings(settings: list[str]) -> dict[str, Any]:
    """Parse `["a=1", "b=x", "c=1,2"]` into {"a": 1, "b": "x", "c": (1, 2)}.

    Raises:
        ValueError: a setting has no `=`.

    Example:
        >>> split_settings(["latent_sizes=20,10", "likelihood=gaussian"])
        {'latent_sizes': (20, 10), 'likelihood': 'gaussian'}
    """
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"setting {setting!r} must read name=value")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two of brackets without end
            found[name] = value
    return found


def call_with(maker: Callable[..., Any], what: str, settings: dict[str, Any], known: dict[str, Any]) -> Any:
    """Call a constructor with all settings and, of what the data know, with the arguments that it has."""
    takes = inspect.signature(maker).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    for name, value in settings.items():
        if name not in takes and not takes_any:
            close = get_close_matches(name, list(takes), n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{what} takes no {name!r}{hint}; it takes {', '.join(takes) or 'nothing'}")
        default = takes[name].default if name in takes else None
        if name in takes and value is not None and "Tensor" in str(takes[name].annotation):
            raise ValueError(f"{what}: {name} is a tensor, which no setting can give: leave it out, the data give it")
        if name in takes and _takes_several(takes[name]) and not isinstance(value, tuple | list):
            settings[name] = (value,)
        elif (
            isinstance(default, int | float) and not isinstance(value, int | float) and not _is_none(takes[name], value)
        ):
            kind = "True or False" if isinstance(default, bool) else "a number"
            raise ValueError(f"{what}: {name} must be {kind}, got {value!r}")
        if name in takes and (kind := _other_kind(takes[name].annotation, settings[name])):
            raise ValueError(f"{what}: {name} must be {kind}, got {_typed(settings[name])}")
    given = {name: value for name, value in known.items() if name in takes} | settings
    missing = [
        name
        for name, p in takes.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in given
    ]
    if missing:
        raise ValueError(f"{what} needs {', '.join(missing)}: give it as {missing[0]}=VALUE")
    try:
        return maker(**given)
    except (TypeError, RuntimeError) as error:
        said = ", ".join(f"{name}={_typed(value)}" for name, value in settings.items()) or "no settings"
        raise ValueError(f"{what} cannot be made with {said}: {str(error).splitlines()[0]}") from error


def _is_none(parameter: inspect.Parameter, value: Any) -> bool:
    """Whether a value is None, which the annotation of an argument says that it takes."""
    return value is None and "None" in str(parameter.annotation)


def _takes_several(parameter: inspect.Parameter) -> bool:
    """Whether an argument takes a sequence, by its annotation or else by its default."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return isinstance(parameter.default, tuple | list)
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return (
        name.split(".")[-1].partition("[")[0].lower() in ("sequence", "list", "tuple", "iterable") and "|" not in name
    )


KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {
    int: ("an integer", (int,)),
    float: ("a number", (int, float)),
    bool: ("True or False", (bool,)),
    Sequence[int]: ("integers", (int,)),
    Sequence[float]: ("numbers", (int, float)),
    type(None): ("None", (type(None),)),
}
"""Annotations that tell which values of a setting fit."""


def _other_kind(annotation: Any, value: Any) -> str:
    """What a setting must be by its annotation, where it is not; empty if it fits, or the annotation does not tell."""
    allowed = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if not all(isinstance(each, Hashable) and each in KINDS for each in allowed):
        return ""
    for each in allowed:
        values = value if get_args(each) and isinstance(value, tuple | list) else [value]
        if all(isinstance(v, KINDS[each][1]) and isinstance(v, bool) == (each is bool) for v in values):
            return ""
    *others, last = (KINDS[each][0] for each in allowed)
    return f"{', '.join(others)} or {last}" if others else last


def _typed(value: Any) -> str:
    """A setting's value in the form in which a shell takes it: 200,200 and not (200, 200)."""
    return ",".join(map(_typed, value)) if isinstance(value, tuple | list) else str(value)
