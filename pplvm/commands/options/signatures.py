"""Signatures of the programs in the catalog, read from their source without importing it."""

import ast
import shlex
from importlib.util import find_spec
from pathlib import Path

__all__ = ["settings_of_program"]

FROM_DATA = ("self", "data_size", "data_shape", "data_mean", "data_examples", "levels", "num_classes")
"""Arguments that the data give, and no user."""


def settings_of_program(path: str) -> list[str]:
    """What --set takes for a program, as a shell takes it: defaults, and the choices of words.

    Arguments:
        path: "module:Name" of a class or a function.

    Example:
        >>> settings_of_program("pplvm.programs.vae:VAE")[-1]
        'activation=softplus (or tanh, elu)'
    """
    module, _, name = path.partition(":")
    found = find_spec(module)
    assert found is not None and found.origin is not None, path
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    init = next(node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name)
    if isinstance(init, ast.ClassDef):
        init = next(node for node in init.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    taken = (*init.args.posonlyargs, *init.args.args)
    required = [None] * (len(taken) - len(init.args.defaults))
    pairs = [
        *zip(taken, [*required, *init.args.defaults], strict=True),
        *zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True),
    ]
    return [
        _setting_in_words(argument, default)
        for argument, default in pairs
        if argument.arg not in FROM_DATA and not _is_part(argument.annotation)
    ]


def _setting_in_words(argument: ast.arg, default: ast.expr | None) -> str:
    word = "..." if default is None else _plain(default)
    others = [other for other in _choices(argument.annotation) if other != word]
    return shlex.quote(f"{argument.arg}={word}") + (f" (or {', '.join(others)})" if others else "")


def _is_part(annotation: ast.expr | None) -> bool:
    """Whether an argument takes a function or module, which no word stands for."""
    return annotation is not None and ast.unparse(annotation).startswith("Callable")


def _choices(annotation: ast.expr | None) -> list[str]:
    """The words that a `Literal[...]` allows."""
    if isinstance(annotation, ast.BinOp):  # Literal[...] | Callable[...]
        return _choices(annotation.left)
    if not isinstance(annotation, ast.Subscript) or ast.unparse(annotation.value) != "Literal":
        return []
    words = annotation.slice
    return [_plain(word) for word in (words.elts if isinstance(words, ast.Tuple) else [words])]


def _plain(value: ast.expr) -> str:
    """A value as typed behind --set: words without quotes, several numbers with commas."""
    if isinstance(value, ast.Tuple) and value.elts:
        return ",".join(map(_plain, value.elts))
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ast.unparse(value)
