"""Parses the names of folders, files, arrays and columns: split, data or labels."""

__all__ = ["LABEL_WORDS", "NameParts", "name_parts", "split_of"]

import re
from typing import NamedTuple

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
LABEL_WORDS = ("y", "label", "labels", "target", "targets", "class", "classes")


class NameParts(NamedTuple):
    """The parsed name: its split if any, the remaining words, and whether they mean labels."""

    split: str | None
    stem: str
    labels: bool


def split_of(name: str) -> str | None:
    """The split that a name stands for, in whatever case; None for other names.

    Example:
        >>> split_of("Training"), split_of("dev"), split_of("cats")
        ('train', 'valid', None)
    """
    return SPLIT_WORDS.get(name.lower())


def name_parts(name: str) -> NameParts:
    r"""Parse a name into words at `_`, `-`, `.`, `\`, blanks, or as in trainX; two splits in one name are none.

    Example:
        >>> name_parts("x_train"), name_parts("Test_Labels").labels
        (NameParts(split='train', stem='x', labels=False), True)
    """
    words = [word for word in re.split(r"[_\-. \\]+", re.sub("(?<=[a-z])(?=[A-Z0-9])", " ", name).lower()) if word]
    splits = {split for word in words if (split := split_of(word))}
    if len(splits) != 1:
        return NameParts(None, "_".join(words), any(word in LABEL_WORDS for word in words))
    left = [word for word in words if split_of(word) is None]
    return NameParts(splits.pop(), "_".join(left), any(word in LABEL_WORDS for word in left))
