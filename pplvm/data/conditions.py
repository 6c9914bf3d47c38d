"""Conditions of data, one row a datum: labels and masks from arrays, partly unknown labels, descriptions.

Labels are int64 from 0, and -1 where a datum's class is not known, as scikit-learn has it for semi-supervised learning.
"""

__all__ = ["as_condition", "as_labels", "condition_in_words", "number_of_classes", "with_known_labels"]

import torch
from torch import Tensor

from pplvm.data.array_splits import NOT_KNOWN
from pplvm.data.counter_rng import permutation

MOST_CLASSES = 2**24
"""More are no classes, but values or ids: a program makes a row of parameters, or of a one-hot code, for each."""

BEFORE_ALL_EPOCHS = -1  # whose order no minibatch has


def as_condition(values: Tensor, count: int, name: str, data_name: str) -> Tensor:
    """Make a condition of `count` data, (N, ...): booleans stay, integers become int64, floats float32.

    Raises:
        ValueError: it has another number of rows, or holds NaN or infinity.
    """
    rows = len(values) if values.dim() else 0
    if rows != count:
        raise ValueError(
            f"condition {name} of data set {data_name!r} has shape {tuple(values.shape)}, and there are {count:,} "
            "data: give one row a datum"
        )
    if values.dtype == torch.bool:
        return values
    if not values.is_floating_point():
        return values.long()
    found = values.float()
    if not bool(found.isfinite().all()):
        row = int((~found.isfinite()).reshape(count, -1).any(1).nonzero()[0])
        raise ValueError(
            f"condition {name} of data set {data_name!r} holds NaN or infinity in row {row} of its split: repair it"
        )
    return found


def as_labels(labels: Tensor | None, count: int, data_name: str, why_not: str = "") -> Tensor:
    """Make labels a condition, (N,) int64.

    Arguments:
        labels: as they were read; None if the data have none.
        why_not: what might be meant for labels, and is not.
    Raises:
        ValueError: there are none, or they are no integers from -1 on, one a datum.
    """
    if labels is None:
        advice = why_not or "use data that have, or leave them out"
        raise ValueError(f"data set {data_name!r} has no labels to condition on: {advice}")
    if labels.is_floating_point() or labels.dim() != 1:
        raise ValueError(
            f"labels of data set {data_name!r} are {labels.dtype} of shape {tuple(labels.shape)}: give integers, (N,)"
        )
    found = as_condition(labels.long(), count, "labels", data_name)
    if (low := int(found.min())) < NOT_KNOWN:
        raise ValueError(
            f"labels of data set {data_name!r} begin at {low}: number classes from 0, and give -1 to what is not known"
        )
    return found


def number_of_classes(*labels: Tensor | None) -> int | None:
    """One more than the highest label of all splits; None where labels do not number classes.

    Example:
        >>> number_of_classes(torch.tensor([0, 2]), torch.tensor([-1, 4]))
        5
    """
    known = [each for each in labels if each is not None and len(each) and not each.is_floating_point()]
    if not known:
        return None
    low, high = min(int(each.min()) for each in known), max(int(each.max()) for each in known)
    return high + 1 if low >= NOT_KNOWN and 0 <= high < MOST_CLASSES else None


def with_known_labels(labels: Tensor, count: int, seed: int = 0) -> Tensor:
    """Keep `count` labels, chosen by the seed and balanced over classes; the others become -1 (unknown).

    Arguments:
        labels: (N,) int64.
        count: of labels that stay known, one of each class at least.
        seed: decides which.
    Raises:
        ValueError: there are not so many, or fewer than classes are asked for.

    Example:
        >>> with_known_labels(torch.tensor([0, 0, 0, 1, 1, 1]), 4).ge(0).reshape(2, 3).sum(1)
        tensor([2, 2])
    """
    there = labels.unique()
    classes = int((there >= 0).sum())
    known = int((labels >= 0).sum())
    if count > known:
        raise ValueError(f"{count:,} labels cannot be kept, as {known:,} are known: give at most {known:,}")
    if count < classes:
        raise ValueError(
            f"{count:,} known labels leave some of {classes:,} classes without any: {classes:,} are the fewest"
        )
    order = permutation(len(labels), seed, BEFORE_ALL_EPOCHS)
    order = order[labels[order] >= 0]
    turn = torch.empty_like(order)  # the first of each class, then the second of each, ...
    for each in there[there >= 0]:
        own = labels[order] == each
        turn[own] = torch.arange(int(own.sum()))
    kept = order[turn.argsort(stable=True)[:count]]
    found = torch.full_like(labels, NOT_KNOWN)
    found[kept] = labels[kept]
    return found


def condition_in_words(name: str, values: Tensor, num_classes: int | None) -> str:
    """Describe a condition in a few words.

    Example:
        >>> condition_in_words("labels", torch.tensor([0, -1, 1]), 2)
        'labels of 2 classes, 1 of 3 not known'
    """
    if name != "labels":
        return f"{name} of shape {tuple(values.shape[1:])}"
    if num_classes is None:
        return "labels that number no classes"
    known = values[values != NOT_KNOWN]
    told = f"labels of {num_classes} classes"
    if len(known) and int(known.min()) > 0:
        told += f" (none below {int(known.min())}: classes count from 0)"
    unknown = int((values == NOT_KNOWN).sum())
    return f"{told}, {unknown:,} of {len(values):,} not known" if unknown else told
