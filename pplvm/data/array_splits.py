"""Arrays by split as they were read, and the rule that splits those without splits."""

__all__ = ["SPLITS", "SplitArrays", "label_numbers", "whole_labels"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pplvm.data.counter_rng import permutation

NOT_KNOWN = -1
"""The label of a datum whose class is not known, as scikit-learn has it."""

SPLIT_SEED = 80_10_10  # constant, so that the splits of one array never overlap
SPLITS = ("train", "valid", "test", "all")


@dataclass(frozen=True)
class SplitArrays:
    """The arrays of a file, folder or data set by split, or a single one under "all".

    Arguments:
        arrays: (N, ...) by "train", "valid" and "test", of which "valid" or "test" may lack, or {"all": array}.
        labels: (N,) integers by the same names, where known.
        remarks: what a user should know of how it was read, a sentence each.
        levels: of grey that the format of the files has, 256 of images of eight bits; None if only the numbers tell.
        beside: what reads other arrays (N, ...), by the same names and then their own; they may be conditions.
        no_labels: why what is called labels is none, a sentence, by the same names.
    Raises ValueError for arrays of other shapes than each other's, and for other names.

    Example:
        >>> SplitArrays({"train": np.zeros((20, 2)), "test": np.zeros((3, 2))}).rows("valid", "toy")[1].shape
        (2,)
    """

    arrays: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    levels: int | None = None
    beside: Mapping[str, Mapping[str, Callable[[], np.ndarray]]] = field(default_factory=dict)
    no_labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = set(self.arrays)
        first = next(iter(self.arrays.values()), None)
        if names != {"all"} and not {"train"} <= names <= {"train", "valid", "test"}:
            raise ValueError(f"arrays are named {', '.join(self.arrays) or 'nothing'}: use train, valid, test, or all")
        for split, array in self.arrays.items():
            if first is not None and array.shape[1:] != first.shape[1:]:
                told = f"{array.shape[1:]}, but those of {next(iter(self.arrays))} {first.shape[1:]}"
                raise ValueError(f"data of {split} have shape {told}: give all one shape")

    def rows(self, split: str, name: str) -> tuple[str, np.ndarray]:
        """The array that holds a split, by its name, and the indices of the split's rows, (n,), in order.

        A single array gives 80, 10 and 10 of a hundred rows to train, valid and test, by a constant seed. Of named
        ones a missing "valid" is a tenth of "train", which then lacks it; a missing "test" is refused.

        Arguments:
            split: "train", "valid" or "test"; "all" for every row of a single array.
            name: what messages call the data set.
        Raises ValueError for another split, one that is not there, and too few rows.
        """
        if split not in SPLITS:
            raise ValueError(f"there is no split {split!r}: use {', '.join(SPLITS)}")
        if "all" in self.arrays:
            size, tenth = len(self.arrays["all"]), len(self.arrays["all"]) // 10
            edges = {"valid": (0, tenth), "test": (tenth, 2 * tenth), "train": (2 * tenth, size), "all": (0, size)}
            return "all", _shuffled(size, edges[split], split, name)
        if split in self.arrays and not (split == "train" and "valid" not in self.arrays):
            return split, np.arange(len(self.arrays[split]))
        if split in ("test", "all"):
            there, usable = ", ".join(self.arrays), ", ".join(dict.fromkeys(["train", "valid", *self.arrays]))
            raise ValueError(f"data set {name!r} names its splits, {there}, and has no {split!r}: use {usable}")
        size, tenth = len(self.arrays["train"]), len(self.arrays["train"]) // 10
        return "train", _shuffled(size, {"valid": (0, tenth), "train": (tenth, size)}[split], split, name)


def label_numbers(labels: Mapping[str, Sequence[str | int | None] | np.ndarray]) -> dict[str, np.ndarray]:
    """Labels as integers, by split; words are numbered alphabetically over all splits.

    None and -1 are classes that are not known, -1.

    Example:
        >>> label_numbers({"train": ["cat", "dog"], "test": ["bird", "dog"]})["test"].tolist()
        [0, 2]
    """
    if all(label is None or _is_integer(label) for part in labels.values() for label in part):
        whole = {split: [NOT_KNOWN if label is None else label for label in part] for split, part in labels.items()}
        return {split: np.asarray(part, np.int64) for split, part in whole.items()}
    words = {split: [str(NOT_KNOWN if label is None else label) for label in part] for split, part in labels.items()}
    known = sorted({word for part in words.values() for word in part} - {str(NOT_KNOWN)})
    number = {word: i for i, word in enumerate(known)} | {str(NOT_KNOWN): NOT_KNOWN}
    return {split: np.array([number[word] for word in part], np.int64) for split, part in words.items()}


def whole_labels(labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Integer labels of each split as (N,) int64, NaN as -1 (unknown); empty if any is not an integer.

    Example:
        >>> whole_labels({"train": np.array([[2.0], [np.nan]])})["train"].tolist()
        [2, -1]
    """
    found = {split: np.where(np.isnan(part), NOT_KNOWN, part).reshape(-1) for split, part in labels.items()}
    if not all(np.isfinite(part).all() and (np.rint(part) == part).all() for part in found.values()):
        return {}
    return {split: part.astype(np.int64) for split, part in found.items()}


def _is_integer(label: str | int) -> bool:
    return isinstance(label, int | np.integer | np.bool_) and -(2**63) <= int(label) < 2**63


def _shuffled(size: int, edges: tuple[int, int], split: str, name: str) -> np.ndarray:
    """The rows between two positions of a permutation with a constant seed, in the order of the array."""
    if edges[0] == edges[1] and size:
        raise ValueError(f"data set {name!r} has {size} rows, too few for a split {split!r}: it takes 10")
    return np.sort(permutation(size, SPLIT_SEED).numpy()[slice(*edges)])
