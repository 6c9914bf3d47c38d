"""Evaluates one datum at a time with noise seeded by its values, so that order, batch and rank change no figure.

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

from pplvm.batch import Batch, as_tuple, batch_rows, without_conditions
from pplvm.graphs.noise import reseed
from pplvm.particles.pair import Pair, Particles, draw_from_pair, pair_up
from pplvm.particles.side_effects import without_side_effects
from pplvm.particles.vectorization_check import raise_program_error, why_particles_interact

__all__ = [
    "MOST_AT_ONCE",
    "Seed",
    "chunks",
    "cycle_conditions",
    "datum_seed",
    "datum_seeds",
    "draw_in_chunks",
    "each_datum",
    "each_row",
    "evaluation_mode",
    "without_training",
]

Seed = int | Sequence[int]
"""One seed for all draws, or one for each datum, by `datum_seeds` of all data where only a part of them is given."""

MOST_AT_ONCE = 500
"""Particles drawn in one run; a constant, since the draws depend on it."""


@contextmanager
def evaluation_mode(program: nn.Module, x: Batch, num_particles: int = 1) -> Iterator[Pair]:
    """Check a program and hold it in evaluation mode without gradient; modes, buffers and random state are restored.

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
    first = batch_rows(parts, slice(1))
    with without_training(program, first):
        pair = pair_up(program.model, program.guide, first, {})
        if num_particles > 1:
            raise_program_error(why_particles_interact(pair, first, {}))
        yield pair


@contextmanager
def without_training(program: nn.Module, args: tuple[Tensor, ...]) -> Iterator[None]:
    """Within this context, evaluation mode without gradient; modes, buffers and random state are restored.

    Arguments:
        args: what the program will be given, restored too.
    """
    modes = {module: module.training for module in program.modules()}
    with without_side_effects(program, args), torch.no_grad(), pyro.get_param_store().scope():
        program.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def each_datum(x: Batch, seed: Seed) -> Iterator[Batch]:
    """Iterate over single data (1, ...), seeding torch before each; `datum_seeds` gives the seeds.

    With conditions each is a tuple of one datum and its own.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0]])
        >>> noise = [torch.rand(()) for _ in each_datum(rows, seed=0)]
        >>> noise == [torch.rand(()) for _ in each_datum(rows.flip(0), seed=0)][::-1]
        True
    """
    seeds = datum_seeds(x, seed) if isinstance(seed, int) else seed
    for row, own in zip(each_row(x), seeds, strict=True):
        reseed(own)
        yield row


def each_row(x: Batch) -> Iterator[Batch]:
    """Iterate over single data, (1, ...), each with its conditions."""
    return map(without_conditions, zip(*(part.split(1) for part in as_tuple(x)), strict=True))


def datum_seeds(x: Batch, seed: int) -> list[int]:
    """A seed for each datum, from `seed`, its values and conditions, and its number among equal ones.

    In another order the same data have the same seeds, so that sums over data are the same. Of a part of the data, a
    rank's rows say, take the part of the seeds of all.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0], [0.0]])
        >>> first, second, third = datum_seeds(rows, 0)
        >>> first != third, sorted(datum_seeds(rows.flip(0), 0)) == sorted([first, second, third])
        (True, True)
    """
    seen: Counter[int] = Counter()
    found = []
    for row in each_row(x):
        values = datum_seed(row, seed)
        found.append(datum_seed(row, seed, seen[values]))
        seen[values] += 1
    return found


def datum_seed(row: Batch, seed: int, number: int = 0) -> int:
    """The seed of one datum: a hash of `seed`, its values and conditions, and its number among equal data."""
    values = b"".join(part.detach().cpu().contiguous().numpy().tobytes() for part in as_tuple(row))
    salt, person = seed.to_bytes(8, "little"), number.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(values, digest_size=7, salt=salt, person=person).digest(), "little")


def cycle_conditions(x: Batch, numbers: Sequence[int]) -> tuple[Tensor, ...]:
    """The first datum repeated, with the conditions of one datum after another.

    Arguments:
        x: data (N, ...), with their conditions if they have any.
        numbers: of the rows wanted; number n has the conditions of datum n modulo N.

    Example:
        >>> x, y = cycle_conditions((torch.zeros(2, 5), torch.tensor([3, 4])), range(1, 4))
        >>> x.shape, y.tolist()
        (torch.Size([3, 5]), [4, 3, 4])
    """
    first, *conditions = as_tuple(x)
    rows = [number % len(first) for number in numbers]
    return first[:1].expand(len(rows), *first.shape[1:]), *(part[rows] for part in conditions)


def draw_in_chunks(pair: Pair, row: Batch, num_particles: int) -> Iterator[Particles]:
    """K particles of one datum, in chunks of `MOST_AT_ONCE`: log-densities (K', 1); the guide sees x once a chunk."""
    for size in chunks(num_particles, MOST_AT_ONCE):
        yield draw_from_pair(pair, size, as_tuple(row), {})


def chunks(total: int, most: int) -> list[int]:
    """Split a total into chunk sizes.

    Example:
        >>> chunks(7, 3)
        [3, 3, 1]
    """
    return [min(most, total - start) for start in range(0, total, most)]
