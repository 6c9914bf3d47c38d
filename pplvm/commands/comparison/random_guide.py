"""Compares a program whose guide draws nothing at random by its random variant, where its constructor has one."""

import argparse
import inspect
from typing import get_args

from torch import nn

from pplvm.batch import Batch, as_tuple
from pplvm.catalog import PROGRAMS, find
from pplvm.commands.options.settings import split_settings
from pplvm.particles.contract import latents
from pplvm.particles.pair import pair_up
from pplvm.particles.point_masses import is_point

__all__ = ["RANDOM", "random_variant"]

RANDOM = ("posterior", "stochastic")
"""The setting, and its word, by which a program of discrete codes draws them at random."""


def random_variant(arguments: argparse.Namespace, name: str, program: nn.Module, batch: Batch) -> str | None:
    """The setting under which a program's guide draws at random; None if it does already, or is wanted as it is.

    All estimators have one gradient where a guide is a point mass, such as the nearest code. What is typed with --set
    stays, and checkpoints keep the program that they are of.

    Arguments:
        name: of the program, in the catalog or as an import path.
        batch: of data.
    """
    word, value = RANDOM
    if arguments.checkpoint or word in split_settings(arguments.set):
        return None
    maker = find("program", PROGRAMS, name)
    takes = inspect.signature(maker).parameters if callable(maker) and not isinstance(maker, nn.Module) else {}
    if word not in takes or value not in get_args(takes[word].annotation):
        return None
    args = as_tuple(batch)
    drawn = latents(pair_up(program.model, program.guide, args, {}).run_guide(1, args, {}))
    return f"{word}={value}" if all(is_point(site["fn"]) for site in drawn.values()) else None
