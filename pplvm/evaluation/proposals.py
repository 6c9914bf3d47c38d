"""Importance sampling of programs whose own guide is a point: a proposal that gives every code a probability.

A point posterior weighs one state, so that no number of its draws comes nearer to log p(x) than its own bound. Such a
program has a method `proposal(temperature)`, the same program with another guide, and the temperature is that which
gives the highest bound on a few data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from pplvm.batch import Batch, as_tuple, batch_rows, without_conditions
from pplvm.evaluation.figures import Figure
from pplvm.evaluation.likelihood import importance_sampled
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.evaluation.proper_weighting import why_never_tight, why_no_bound_per_datum

__all__ = ["Proposal", "proposal_for"]

TEMPERATURES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""In units of the program's own, such as the squared distance between codes."""

DATA, DRAWS = 20, 100
"""By which the temperature is chosen."""


@dataclass(frozen=True)
class Proposal:
    """A program with a guide to draw by: its own, or one that was chosen."""

    program: nn.Module
    of: str = ""  # whose draws they are, " of the proposal"
    figures: tuple[Figure, ...] = ()  # how it was chosen


def proposal_for(program: nn.Module, x: Batch, ks: Sequence[int], seed: int) -> Proposal:
    """A program by whose guide to draw: of one whose own guide is a point on codes, its proposal; else the program.

    Arguments:
        program: with methods model(x) and guide(x), and `proposal(temperature)` perhaps.
        x: all data, of which the first are drawn for.
        ks: numbers of draws that are asked for, rising.
        seed: of the draws that it is chosen by.

    Example:
        >>> import torch
        >>> from pplvm.programs.vq_vae import vq_vae
        >>> found = proposal_for(vq_vae(9, grid=(1, 2), num_codes=3), torch.zeros(2, 9), (1, 10), seed=0)
        >>> [figure.value in TEMPERATURES for figure in found.figures]
        [True]
    """
    make: Any = getattr(program, "proposal", None)
    if not callable(make):
        return Proposal(program)
    with evaluation_mode(program, x) as pair:
        if why_no_bound_per_datum(pair, x) or not why_never_tight(pair, x):
            return Proposal(program)
    few, k = without_conditions(batch_rows(as_tuple(x), slice(DATA))), min(ks[-1], DRAWS)
    found = {
        T: float(importance_sampled(make(T), few, ks=(k,), seed=seed + 1, compile="off").log_p.mean())
        for T in TEMPERATURES
    }
    best = max(found, key=lambda T: found[T])
    told = (
        f"of {', '.join(f'{T:g}' for T in TEMPERATURES)} squared distances of neighbouring codes the one with the "
        f"highest log p, k = {k}, of {min(DATA, len(as_tuple(x)[0]))} data"
    )
    return Proposal(make(best), " of the proposal", (Figure("temperature of the proposal", best, None, "", told),))
