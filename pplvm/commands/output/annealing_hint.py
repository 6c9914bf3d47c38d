"""A hint on annealed importance sampling and its duration, printed where it was not asked for."""

import argparse
import time

from torch import nn

from pplvm.batch import Batch, as_tuple, batch_rows, without_conditions
from pplvm.distributed.ranks import size
from pplvm.evaluation.annealing.annealed import annealed

__all__ = ["annealing_hint"]

USUAL = 20
"""Data that are enough for a look at it."""

PASSES = 2.6
"""Chains forward on the data, and for the certificate forward and backward on data that the model draws; measured."""

SHORT, LONG = 2, 12
"""Steps of the two short chains whose times tell that of a long one."""


def annealing_hint(program: nn.Module, x: Batch, arguments: argparse.Namespace) -> str | None:
    """Say how to ask for annealed importance sampling and how long it takes; None where it does not apply.

    Arguments:
        x: the data that are evaluated (N, *shape), with their conditions if they have any.
        arguments: annealed, chains and annealing_steps, as `pplvm evaluate` has them.
    """
    if arguments.annealed:
        return None
    parts = as_tuple(x)
    data, first = min(USUAL, len(parts[0])), without_conditions(batch_rows(parts, slice(1)))
    try:
        _seconds(program, first, arguments.chains, SHORT)  # the first one is slow
        short, long = (
            min(_seconds(program, first, arguments.chains, steps) for _ in range(2)) for steps in (SHORT, LONG)
        )
    except Exception:  # of a program that can be evaluated without it; whoever asks for it is told why it fails
        return None
    a_step = max(long - short, 0.0) / (LONG - SHORT)
    seconds = PASSES * data * (short + a_step * (arguments.annealing_steps - SHORT)) / size()
    return f"annealed importance sampling is left out unless asked for: --annealed {data} adds it, {_duration(seconds)}"


def _seconds(program: nn.Module, x: Batch, chains: int, steps: int) -> float:
    began = time.perf_counter()
    annealed(program, x, chains=chains, steps=steps)
    return time.perf_counter() - began


def _duration(seconds: float) -> str:
    """A rounded duration in words.

    Example:
        >>> _duration(3), _duration(83), _duration(400), _duration(9000)
        ('about 10 s', 'about 80 s', 'about 7 min', 'about 2.5 h')
    """
    if seconds < 100:
        return f"about {max(round(seconds, -1), 10):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
