"""Which prior samples to draw: unconditional, of each class in turn, of one class, or for the conditions of data."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pplvm.batch import Batch, as_tuple
from pplvm.commands.runs.trained_program import TrainedProgram

__all__ = ["SampleRequest", "sample_request"]


@dataclass(frozen=True)
class SampleRequest:
    """The arguments of `prior_samples`: a batch with the conditions of each sample.

    Arguments:
        like: a datum, or (x, y) with the conditions of each sample.
        conditions: of each sample, (count, ...), by name.
        classes: that are drawn in turn, more than one of them; none where labels are no condition.
    """

    like: Batch
    conditions: dict[str, Tensor]
    classes: tuple[int, ...] = ()


def sample_request(trained: TrainedProgram, count: int, label: int | None = None) -> SampleRequest:
    """Request samples of each class in turn where labels are conditions, else for the conditions of the first data.

    Arguments:
        count: of the samples.
        label: the one class that is asked for.

    Raises:
        ValueError: the program is given no labels, or there is no such class.
    """
    spec = trained.data.spec
    if label is not None and "labels" not in spec.conditions:
        raise ValueError(f"--label {label} picks a class, and this run was not trained with --condition labels")
    x, *given = as_tuple(trained.rows(count))
    if not given:
        return SampleRequest(x[:1], {})
    numbers = torch.arange(count, device=x.device)
    conditions = {name: part[numbers % len(x)] for name, part in zip(spec.conditions, given, strict=True)}
    classes = tuple(range(spec.num_classes or 0)) if label is None else (label,)
    if label is not None and not 0 <= label < (spec.num_classes or 0):
        raise ValueError(f"--label {label} is no class of {spec.name}, which has 0 to {(spec.num_classes or 0) - 1}")
    if "labels" in conditions:
        conditions["labels"] = torch.tensor(classes, device=x.device)[numbers % len(classes)]
    like = (x[:1].expand(count, *x.shape[1:]), *conditions.values())
    return SampleRequest(like, conditions, classes if "labels" in conditions and len(classes) > 1 else ())
