"""Checks of the sizes that a program's networks and latents are made of, told with the argument's name."""

from collections.abc import Sequence
from math import prod

__all__ = ["require_dense_sizes", "require_grid", "require_sizes"]


def require_dense_sizes(program: str, latent_size: int, hidden_sizes: Sequence[int]) -> None:
    """Refuse sizes of a latent and of hidden layers that are no integers of at least 1; no hidden layers are allowed.

    Raises:
        ValueError: with the argument's name.
    """
    require_sizes(program, "latent_size", [latent_size])
    if len(hidden_sizes):
        require_sizes(program, "hidden_sizes", hidden_sizes, "the widths of the hidden layers", "200,200")


def require_grid(program: str, num_codes: int, grid: Sequence[int]) -> int:
    """Refuse a grid of codes that is none, and fewer than two codes; returns the number of its positions.

    Raises:
        ValueError: with the argument's name.
    """
    require_sizes(program, "grid", grid, "height and width of the grid of codes", "2,2")
    if len(grid) != 2:
        raise ValueError(f"{program}: grid must be height and width of the grid of codes, got {tuple(grid)}")
    if isinstance(num_codes, bool) or not isinstance(num_codes, int) or num_codes < 2:
        raise ValueError(f"{program}: num_codes must be at least 2, got {num_codes}: one code alone says nothing")
    return prod(grid)


def require_sizes(program: str, name: str, sizes: Sequence[int], what: str = "", such_as: str = "") -> None:
    """Refuse sizes that are no integers of at least 1, or none at all.

    Arguments:
        program, name: of the argument.
        sizes: its value, or a list of one number.
        what, such_as: of several sizes: what they are, and an example.

    Raises:
        ValueError: with the argument's name.
    """
    if len(sizes) and not any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        return
    if not what:
        raise ValueError(f"{program}: {name} must be an integer of at least 1, got {sizes[0]!r}")
    raise ValueError(
        f"{program}: {name} must name {what}, each an integer of at least 1, such as {such_as}, got {tuple(sizes)!r}"
    )
