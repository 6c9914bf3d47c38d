"""One datum at a time: its noise comes from its own values, so that no order, batch or rank can change a figure.

Equal data are told apart by their number, first, second, ..., so that each has noise of its own: the mean over N data
then has the standard error s / sqrt(N), however often values repeat.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyro
import torch
from torch import Tensor, nn

from pplvm.graphs.noise import reseed
from pplvm.particles.agreement import particles_disagree, refuse
from pplvm.particles.pair import Pair, Particles, gather, pair_up
from pplvm.particles.side_effects import undone

__all__ = ["MOST_AT_ONCE", "Seed", "chunks", "digest_of", "each_datum", "frozen", "particles_of", "seeds_of"]

Seed = int | Sequence[int]
"""Of all draws, or one for each datum: those that `seeds_of` gives all data, where only a part of them is at hand."""

MOST_AT_ONCE = 500
"""Particles drawn in one run; a constant, since the draws depend on it."""


@contextmanager
def frozen(program: nn.Module, x: Tensor, num_particles: int = 1) -> Iterator[Pair]:
    """The program checked and in eval mode, without gradient; modes, buffers and random state come back as they were.

    Arguments:
        x: data (N, ...), of which the first is run.
        num_particles: that will run at once.

    Raises:
        ProgramError: the program breaks a rule of `pplvm.particles.contract`, or mixes particles that run at once.
        ValueError: there are no data.
    """
    if len(x) == 0:
        raise ValueError("there are no data to evaluate: give at least one row")
    modes = {module: module.training for module in program.modules()}
    with undone(program, (x[:1],)), torch.no_grad(), pyro.get_param_store().scope():
        program.eval()
        try:
            pair = pair_up(program.model, program.guide, (x[:1],), {})
            if num_particles > 1:
                refuse(particles_disagree(pair, (x[:1],), {}))
            yield pair
        finally:
            for module, mode in modes.items():
                module.training = mode


def each_datum(x: Tensor, seed: Seed) -> Iterator[Tensor]:
    """The data one by one, (1, ...), torch seeded before each, by `seeds_of` where there is one seed for all.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0]])
        >>> noise = [torch.rand(()) for _ in each_datum(rows, seed=0)]
        >>> noise == [torch.rand(()) for _ in each_datum(rows.flip(0), seed=0)][::-1]
        True
    """
    seeds = seeds_of(x, seed) if isinstance(seed, int) else seed
    for row, own in zip(x.split(1), seeds, strict=True):
        reseed(own)
        yield row


def seeds_of(x: Tensor, seed: int) -> list[int]:
    """A seed for each datum that `seed`, its values and the number of equal data before it decide.

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
    for row in x.split(1):
        values = digest_of(row, seed)
        found.append(digest_of(row, seed, seen[values]))
        seen[values] += 1
    return found


def digest_of(row: Tensor, seed: int, number: int = 0) -> int:
    """A number that `seed`, the values of a datum and its number among equal data decide."""
    values = row.detach().cpu().contiguous().numpy().tobytes()
    salt, person = seed.to_bytes(8, "little"), number.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(values, digest_size=7, salt=salt, person=person).digest(), "little")


def particles_of(pair: Pair, row: Tensor, num_particles: int) -> Iterator[Particles]:
    """K particles of one datum, in runs of at most `MOST_AT_ONCE`: log-densities (K', 1), what the guide knows of x
    computed once a run."""
    for size in chunks(num_particles, MOST_AT_ONCE):
        yield gather(pair, size, (row,), {})


def chunks(total: int, most: int) -> list[int]:
    """A total in parts.

    Example:
        >>> chunks(7, 3)
        [3, 3, 1]
    """
    return [min(most, total - start) for start in range(0, total, most)]
