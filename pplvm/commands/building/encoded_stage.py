"""Stage two on codes that are computed once, where only the prior of a program of codes learns."""

import argparse
from collections.abc import Iterator

import torch
from torch import nn

from pplvm.batch import Batch, to_device, without_conditions
from pplvm.commands.output.status_output import print_status
from pplvm.data.encoded import EncodedData
from pplvm.data.image_data import ImageData
from pplvm.distributed.collectives import all_gather_rows
from pplvm.distributed.ranks import my_rows
from pplvm.evaluation.encoding import Encoding, encode, why_not_encoded
from pplvm.programs.over_codes import OverCodes

__all__ = ["MOST_BYTES", "encoded_stage"]

MOST_BYTES = 2**30
"""Of codes and their terms that are held in memory: 16 million data of 4 x 4 codes."""

AT_ONCE = 500
"""Data that are encoded in one run."""


def encoded_stage(
    arguments: argparse.Namespace, program: nn.Module, data: ImageData, valid: ImageData | None, x: Batch
) -> tuple[nn.Module, ImageData, ImageData | None]:
    """The program over codes and the encoded data, where all that learns is the prior of a program of codes.

    Elsewhere program and data as they are; where codes could be expected to be constant, it is said why they are not.

    Arguments:
        arguments: of `pplvm fit`.
        program: with all but --train frozen.
        data, valid: of training and, if there are any, validation.
        x: a batch of the data.
    """
    if not arguments.train or not callable(getattr(program, "draw_codes", None)) or not _only_prior_learns(program):
        return program, data, valid
    if why := _why_not(program, data, valid, x):
        print_status(f"codes are computed anew in every step: {why}")
        return program, data, valid
    found = _encode(program, data)
    held = None if valid is None else _encode(program, valid)
    count = len(data) + (0 if valid is None else len(valid))
    size = found.bytes + (0 if held is None else held.bytes)
    print_status(f"codes and distortions of {count:,} data computed once, {size / 2**20:.1f} MiB")
    over = OverCodes(program, found.sites, found.penalties)
    encoded = EncodedData(data, found.index, found.terms)
    return over, encoded, None if held is None or valid is None else EncodedData(valid, held.index, held.terms)


def _only_prior_learns(program: nn.Module) -> bool:
    prior = getattr(program, "prior", None)
    own = {id(p) for p in prior.parameters()} if isinstance(prior, nn.Module) else set[int]()
    return all(id(p) in own for p in program.parameters() if p.requires_grad)


def _why_not(program: nn.Module, data: ImageData, valid: ImageData | None, x: Batch) -> str:
    for each in (data, valid):
        if each is not None and each.spec.binarization == "dynamic":
            return "dynamic binarization draws other data in each epoch"
    if why := why_not_encoded(program, x):
        return why
    one = encode(program, iter([x])).bytes / len(x[0] if isinstance(x, tuple | list) else x)
    count = len(data) + (0 if valid is None else len(valid))
    if one * count > MOST_BYTES:
        return f"those of {count:,} data take {one * count / 2**30:.1f} GiB, more than {MOST_BYTES // 2**30}"
    return ""


def _encode(program: nn.Module, data: ImageData) -> Encoding:
    """The codes of all data on each rank, which computes its share of them."""
    device = next(program.parameters()).device
    mine = torch.arange(len(data))[my_rows(len(data))]
    found = encode(program, _rows(data, mine, device))
    return Encoding(
        all_gather_rows(found.index, len(data)), all_gather_rows(found.terms, len(data)), found.sites, found.penalties
    )


def _rows(data: ImageData, numbers: torch.Tensor, device: torch.device) -> Iterator[Batch]:
    for some in numbers.split(AT_ONCE):
        yield without_conditions(to_device(data.batch(some), device))
