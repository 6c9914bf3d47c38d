"""One datum at a time: its noise comes from its own values, so that no order, batch or rank can change a figure.

Its conditions count among its values. Equal data are told apart by their number, first, second, ..., so that each has
noise of its own: the mean over N data then has the standard error s / sqrt(N), however often values repeat.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyro
import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, rows_of, without_conditions
from pplvm.graphs.noise import reseed
from pplvm.particles.agreement import particles_disagree, refuse
from pplvm.particles.pair import Pair, Particles, gather, pair_up
from pplvm.particles.side_effects import undone

__all__ = [
    "MOST_AT_ONCE",
    "Seed",
    "chunks",
    "digest_of",
    "each_datum",
    "each_row",
    "frozen",
    "in_turn",
    "particles_of",
    "seeds_of",
]

Seed = int | Sequence[int]
"""Of all draws, or one for each datum: those that `seeds_of` gives all data, where only a part of them is at hand."""

MOST_AT_ONCE = 500
"""Particles drawn in one run; a constant, since the draws depend on it."""


@contextmanager
def frozen(program: nn.Module, x: Batch, num_particles: int = 1) -> Iterator[Pair]:
    """The program checked and in eval mode, without gradient; modes, buffers and random state come back as they were.

    Arguments:
        x: data (N, ...), or data and their conditions (x, y), of which the first is run.
        num_particles: that will run at once.

    Raises:
        ProgramError: the program breaks a rule of `pplvm.particles.contract`, or mixes particles that run at once.
        ValueError: there are no data.
    """
    parts = as_tuple(x)
    if len(parts[0]) == 0:
        raise ValueError("there are no data to evaluate: give at least one row")
    first = rows_of(parts, slice(1))
    modes = {module: module.training for module in program.modules()}
    with undone(program, first), torch.no_grad(), pyro.get_param_store().scope():
        program.eval()
        try:
            pair = pair_up(program.model, program.guide, first, {})
            if num_particles > 1:
                refuse(particles_disagree(pair, first, {}))
            yield pair
        finally:
            for module, mode in modes.items():
                module.training = mode


def each_datum(x: Batch, seed: Seed) -> Iterator[Batch]:
    """The data one by one, (1, ...), torch seeded before each, by `seeds_of` where there is one seed for all.

    With conditions each is a tuple of one datum and its own.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0]])
        >>> noise = [torch.rand(()) for _ in each_datum(rows, seed=0)]
        >>> noise == [torch.rand(()) for _ in each_datum(rows.flip(0), seed=0)][::-1]
        True
    """
    seeds = seeds_of(x, seed) if isinstance(seed, int) else seed
    for row, own in zip(each_row(x), seeds, strict=True):
        reseed(own)
        yield row


def each_row(x: Batch) -> Iterator[Batch]:
    """The data one by one, (1, ...), each with its conditions."""
    return map(without_conditions, zip(*(part.split(1) for part in as_tuple(x)), strict=True))


def seeds_of(x: Batch, seed: int) -> list[int]:
    """A seed for each datum that `seed`, its values and conditions and the number of equal ones before it decide.

    In another order the same data have the same seeds, so that sums over data are the same. Of a part of the data, a
    rank's rows say, take the part of the seeds of all.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [0.0]])
        >>> first, second, third = seeds_of(rows, 0)
        >>> first != third, sorted(seeds_of(rows.flip(0), 0)) == sorted([first, second, third])
        (True, True)
    """
    seen: Counter[int] = Counter()
    found = []
    for row in each_row(x):
        values = digest_of(row, seed)
        found.append(digest_of(row, seed, seen[values]))
        seen[values] += 1
    return found


def digest_of(row: Batch, seed: int, number: int = 0) -> int:
    """A number that `seed`, the values of a datum, its conditions and its number among equal data decide."""
    values = b"".join(part.detach().cpu().contiguous().numpy().tobytes() for part in as_tuple(row))
    salt, person = seed.to_bytes(8, "little"), number.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(values, digest_size=7, salt=salt, person=person).digest(), "little")


def in_turn(x: Batch, numbers: Sequence[int]) -> tuple[Tensor, ...]:
    """The first datum as often as there are numbers, each with the conditions of one datum after another.

    Arguments:
        x: data (N, ...), with their conditions if they have any.
        numbers: of the rows wanted; number n has the conditions of datum n modulo N.

    Example:
        >>> x, y = in_turn((torch.zeros(2, 5), torch.tensor([3, 4])), range(1, 4))
        >>> x.shape, y.tolist()
        (torch.Size([3, 5]), [4, 3, 4])
    """
    first, *conditions = as_tuple(x)
    rows = [number % len(first) for number in numbers]
    return first[:1].expand(len(rows), *first.shape[1:]), *(part[rows] for part in conditions)


def particles_of(pair: Pair, row: Batch, num_particles: int) -> Iterator[Particles]:
    """K particles of one datum, in runs of at most `MOST_AT_ONCE`: log-densities (K', 1), what the guide knows of x
    computed once a run."""
    for size in chunks(num_particles, MOST_AT_ONCE):
        yield gather(pair, size, as_tuple(row), {})


def chunks(total: int, most: int) -> list[int]:
    """A total in parts.

    Example:
        >>> chunks(7, 3)
        [3, 3, 1]
    """
    return [min(most, total - start) for start in range(0, total, most)]
