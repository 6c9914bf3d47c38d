"""How many data, dreams and pairs the evaluations of information take, by what log q(z_i | x_j) of one pair costs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pplvm.batch import Batch, as_tuple, batch_rows
from pplvm.evaluation.guide_density import operations_a_pair, require_guide_density
from pplvm.evaluation.per_datum import evaluation_mode
from pplvm.particles.contract import sample_sites
from pplvm.particles.point_masses import is_point, point_in_words

__all__ = ["InformationSizes", "information_sizes"]

OPERATIONS = 2e11
"""Of one evaluation of information: some ten seconds of a core."""

FEWEST = 20
"""Data whose guides are mixed at least: information is then told up to log 20 = 3.0 nats."""

CONTRASTED, BATCHES, DREAMS = 100, 100, 10_000
"""Data or dreams in a batch of InfoNCE, batches of dreams, and draws of Barber and Agakov's bound, at most."""


@dataclass(frozen=True)
class InformationSizes:
    """What evaluations of information take.

    Arguments:
        rows: (M,), the places of the data whose guides are mixed, evenly spread.
        batch: data in a batch of InfoNCE.
        dreamt, batches: dreams in a batch of InfoNCE, and how many batches.
        draws: of Barber and Agakov's bound.
        why: what limits M; "" where it is all data.
    """

    rows: Tensor
    batch: int
    dreamt: int
    batches: int
    draws: int
    why: str = ""


def information_sizes(program: nn.Module, x: Batch, data: int | None = None) -> InformationSizes:
    """Decide how many data, and how many pairs of draw and datum, information is computed from.

    A guide whose networks run once a datum gives the density of all pairs at once. In others, each pair takes
    operations of its own: an inverse autoregressive flow, whose inverse goes value by value, or a hierarchy, whose
    lower groups depend on draws of the upper ones. They are counted, and the data are then so few that all pairs
    take 2e11 operations.

    Arguments:
        program: with methods model(x) and guide(x), or with conditions.
        x: data (N, ...), with their conditions if they have any.
        data: M, at least 2, at most N of which count; None for as many as can be afforded.

    Raises:
        ValueError: data is 0 or 1; the latents determine the data; q(z | x) is not the product of the guide's sites.

    Example:
        >>> from pplvm.programs.iaf_vae import iaf_vae
        >>> from pplvm.programs.vae import VAE
        >>> x = torch.zeros(1000, 784)
        >>> [len(information_sizes(program, x).rows) for program in (VAE(784, 50), iaf_vae(784, 50))]
        [1000, 169]
    """
    N = len(as_tuple(x)[0])
    if data == 0:
        raise ValueError("not asked for, of 0 data")
    if data is not None and data < 2:
        raise ValueError(f"the guides of at least 2 data are mixed, and {data} was asked for")
    with evaluation_mode(program, x) as pair:
        require_guide_density("information", pair, x)
        first = batch_rows(as_tuple(x), slice(1))
        for name, site in sample_sites(pair.run_model(1, pair.run_guide(1, first, {}), first, {})).items():
            if site["is_observed"] and is_point(site["fn"]):
                raise ValueError(
                    f"latents determine the data, whose site {name!r} is {point_in_words(site['fn'])}, so that "
                    "I(x; z) is the entropy of x"
                )
        operations = operations_a_pair(pair, x)
    affordable = math.inf if operations == 0 else OPERATIONS / operations
    most = N if affordable >= N * N else max(FEWEST, math.isqrt(int(affordable)))
    M = min(N, most if data is None else data)
    pairs = max(affordable, M * M)
    dreamt = int(min(CONTRASTED, pairs**0.5))
    costs = f"log q(z | x) of each pair of draw and datum takes {operations:.1g} operations"
    return InformationSizes(
        rows=torch.arange(M) * N // M,
        batch=min(CONTRASTED, M),
        dreamt=dreamt,
        batches=int(min(BATCHES, max(1, pairs // dreamt**2))),
        draws=int(min(DREAMS, pairs)),
        why="" if M == N else costs if data is None else f"{data:,} were asked for",
    )
