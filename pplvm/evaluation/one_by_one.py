"""One datum at a time: its noise comes from its own values, so that no order, batch or rank can change a figure."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch
from torch import Tensor, nn

from pplvm.graphs.noise import reseed
from pplvm.particles.pair import Pair, Particles, gather, pair_up
from pplvm.particles.side_effects import undone

__all__ = ["MOST_AT_ONCE", "chunks", "digest_of", "each_datum", "frozen", "particles_of"]

MOST_AT_ONCE = 500
"""Particles drawn in one run; a constant, since the draws depend on it."""


@contextmanager
def frozen(program: nn.Module, x: Tensor) -> Iterator[Pair]:
    """The program checked and in eval mode, without gradient; modes, buffers and random state come back as they were.

    Arguments:
        x: data (N, ...), of which the first is run.

    Raises:
        ProgramError: the program breaks a rule of `pplvm.particles.contract`.
        ValueError: there are no data.
    """
    if len(x) == 0:
        raise ValueError("there are no data to evaluate: give at least one row")
    modes = {module: module.training for module in program.modules()}
    with undone(program, (x[:1],)), torch.no_grad(), pyro.get_param_store().scope():
        program.eval()
        try:
            yield pair_up(program.model, program.guide, (x[:1],), {})
        finally:
            for module, mode in modes.items():
                module.training = mode


def each_datum(x: Tensor, seed: int) -> Iterator[Tensor]:
    """The data one by one, (1, ...), torch seeded before each by `seed` and its values; equal data have equal noise.

    Example:
        >>> rows = torch.tensor([[0.0], [1.0]])
        >>> noise = [torch.rand(()) for _ in each_datum(rows, seed=0)]
        >>> noise == [torch.rand(()) for _ in each_datum(rows.flip(0), seed=0)][::-1]
        True
    """
    for row in x.split(1):
        reseed(digest_of(row, seed))
        yield row


def digest_of(row: Tensor, seed: int) -> int:
    """A number that only `seed` and the values of a datum decide."""
    values = row.detach().cpu().contiguous().numpy().tobytes()
    digest = hashlib.blake2b(values, digest_size=7, salt=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


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
