"""Finds by name which arrays of a file or folder are the data, the splits and the labels."""

__all__ = ["Choice", "Keys", "NO_KEYS", "choose_arrays", "read_named_arrays", "remarks"]

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pplvm.data.array_files import ArrayHeader, listing, read_array, read_headers
from pplvm.data.array_splits import SplitArrays, whole_labels
from pplvm.data.split_names import name_parts


class Keys(NamedTuple):
    """Names of arrays given by the user: data or training data, validation data, test data."""

    train: str | None = None
    valid: str | None = None
    test: str | None = None

    def given(self) -> dict[str, str]:
        return {split: name for split, name in self._asdict().items() if name is not None}


NO_KEYS = Keys()


class Choice(NamedTuple):
    """The names of the chosen arrays by split, or by "all"."""

    data: dict[str, str]
    labels: dict[str, str]
    beside: dict[str, dict[str, str]]  # others of one row a datum, by what their name says without the split
    no_labels: dict[str, str]  # why an array that is called labels is none, a sentence


def read_named_arrays(path: Path, keys: Keys = NO_KEYS) -> SplitArrays:
    """Read the arrays of an `.npy` or `.npz` file, with splits and labels as `choose_arrays` finds them.

    Arguments:
        path: of the file.
        keys: of the data, where the names do not tell.
    Raises FileNotFoundError, and ValueError for a wrong key and a file that cannot be read.
    """
    headers = read_headers(path)
    if "" in headers:  # an .npy file
        for key in keys.given().values():
            raise ValueError(f"{path} has no array {key!r}: its keys are none")
        return SplitArrays({"all": read_array(path)})
    choice = choose_arrays(headers, str(path), keys)
    arrays = {split: read_array(path, name) for split, name in choice.data.items()}
    labels = whole_labels({split: read_array(path, name) for split, name in choice.labels.items()})
    beside = {
        split: {word: partial(read_array, path, name) for word, name in found.items()}
        for split, found in choice.beside.items()
    }
    choice = choice._replace(labels=choice.labels if labels else {})
    return SplitArrays(arrays, labels, remarks(choice, path.name), beside=beside, no_labels=choice.no_labels)


def choose_arrays(arrays: Mapping[str, ArrayHeader], where: str, keys: Keys = NO_KEYS) -> Choice:
    """Choose data, splits and labels among named arrays by these rules:

    1. Keys that are given are obeyed.
    2. Names with the word train (or training), valid (val, validation, dev) or test (testing), and equal but for it,
       are splits of one data set: x_train and x_test, train_images and test_images. The key of the data alone brings
       the others with it, if it says train. Training data without others are one array, split by the rule for all.
    3. Without keys the only such set of names is taken, or the only array. What has no more than one dimension is not
       data beside other arrays.
    4. Labels are integers, one a datum, with the same word for the split and one of y, label(s), target(s), class(es);
       or, where there are none, floats, which have to be whole. Other arrays of numbers with the same word and as many
       rows may be conditions, as masks are.

    Arguments:
        arrays: shape and type by name.
        where: what messages call the file.
        keys: that are given.
    Raises ValueError for a wrong key, no key where several arrays may be meant, and a test set without training data.
    """
    data = _given(arrays, where, keys.given()) if keys.given() else _only(arrays, where)
    if list(data) == ["train"]:
        data = {"all": data["train"]}
    labels = {split: found for split, name in data.items() if (found := _labels_of(arrays, name))}
    taken = {*data.values(), *(name for name in labels.values() if arrays[name].dtype.kind != "f")}
    others = {name: header for name, header in arrays.items() if name not in taken and header.dtype.kind in "biuf"}
    beside = {split: _beside(others, name, arrays[name]) for split, name in data.items()}
    return Choice(data, labels, beside, {split: _no_labels(arrays, name) for split, name in data.items()})


def remarks(choice: Choice, name: str) -> tuple[str, ...]:
    """Say which arrays were chosen, unless there is one array and nothing else."""
    if "all" in choice.data and not choice.labels:
        return ()
    parts = [found if split == "all" else f"{split} is {found}" for split, found in choice.data.items()]
    labels = f", labels are {', '.join(choice.labels.values())}" if choice.labels else ""
    return (f"{name}: {'data are ' if 'all' in choice.data else ''}{', '.join(parts)}{labels}",)


def _given(arrays: Mapping[str, ArrayHeader], where: str, keys: dict[str, str]) -> dict[str, str]:
    """The arrays that the user's keys name, by split; "train" alone is not split yet."""
    for key in keys.values():
        if key not in arrays:
            raise ValueError(f"{where} has no array {key!r}: its keys are {listing(arrays)}")
    if "train" not in keys:
        raise ValueError(f"{where}: a key of {next(iter(keys))} data needs the key of the training data beside it")
    if len(set(keys.values())) < len(keys):
        raise ValueError(f"{where}: one key is given for two splits, {' and '.join(keys)}: name two arrays")
    if len(keys) > 1 or name_parts(keys["train"]).split != "train":
        return keys
    stem = name_parts(keys["train"]).stem
    family = [key for key in arrays if (parts := name_parts(key)).stem == stem and parts.split not in (None, "train")]
    return keys | _by_split(family, where, arrays)


def _only(arrays: Mapping[str, ArrayHeader], where: str) -> dict[str, str]:
    """The arrays that can only be data, by split; "train" alone is not split yet."""
    if len(arrays) == 1:
        return {"all": next(iter(arrays))}
    if not any(header.numbers for header in arrays.values()):
        raise ValueError(f"{where} holds no numbers: its keys are {listing(arrays)}")
    data = [key for key in arrays if arrays[key].numbers and len(arrays[key].shape) > 1 and not _may_label(arrays, key)]
    stems = {name_parts(key).stem for key in data if name_parts(key).split is not None}
    loose = [key for key in data if name_parts(key).split is None]
    if len(loose) == 1 and not stems and not name_parts(loose[0]).labels:
        return {"all": loose[0]}
    if loose or len(stems) != 1 or any(name_parts(key).labels for key in data):
        raise ValueError(f"{where} needs a key: its keys are {listing(arrays)}")
    found = _by_split(data, where, arrays)
    if "train" not in found:
        raise ValueError(
            f"{where} has {', '.join(found.values())} and no training data beside it: its keys are {listing(arrays)}; "
            "name one as key"
        )
    return found


def _by_split(keys: list[str], where: str, arrays: Mapping[str, ArrayHeader]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: ("train", "valid", "test").index(name_parts(key).split or "train")):
        split = name_parts(key).split or "train"
        if split in found:
            raise ValueError(f"{where} has two arrays for {split}, {found[split]} and {key}: {listing(arrays)}")
        found[split] = key
    return found


def _may_label(arrays: Mapping[str, ArrayHeader], key: str, kinds: str = "biu") -> bool:
    (shape, dtype), parts = arrays[key], name_parts(key)
    return parts.labels and dtype.kind in kinds and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1))


def _labels_of(arrays: Mapping[str, ArrayHeader], name: str) -> str | None:
    """The only array that is labels of another, by its name and length."""
    split, rows = name_parts(name).split, arrays[name].shape[:1]
    others = [key for key in arrays if key != name and arrays[key].shape[:1] == rows]
    alike = [key for key in others if name_parts(key).split == split]
    for kinds in ("biu", "f"):
        if found := [key for key in alike if _may_label(arrays, key, kinds)]:
            return found[0] if len(found) == 1 else None
    return None


def _no_labels(arrays: Mapping[str, ArrayHeader], name: str) -> str:
    """Why an array named as labels of another is none, in a sentence; empty if it may be."""
    split, rows = name_parts(name).split, arrays[name].shape[:1]
    called = [key for key in arrays if key != name and name_parts(key).labels and name_parts(key).split == split]
    if len(called) != 1:
        return f"{' and '.join(called)} may be labels: leave one in" if called else ""
    key, (shape, dtype) = called[0], arrays[called[0]]
    if dtype.kind not in "biuf":
        return f"{key} holds {'words' if dtype.kind in 'SU' else dtype}: number the classes from 0"
    if shape[:1] != rows:
        return f"{key} has shape {shape}, and {name} {arrays[name].shape}: give one label a datum"
    if len(shape) > 1 and shape[1:] != (1,):
        return f"{key} has shape {shape}: if its rows are one-hot, save {key}.argmax(1)"
    return f"{key} holds numbers that are not whole: number the classes from 0" if dtype.kind == "f" else ""


def _beside(others: Mapping[str, ArrayHeader], name: str, data: ArrayHeader) -> dict[str, str]:
    """Other arrays with one row a datum for the split of an array, by their names without the split."""
    split = name_parts(name).split
    there = {key: name_parts(key) for key, header in others.items() if header.shape[:1] == data.shape[:1]}
    return {key if split is None else parts.stem: key for key, parts in there.items() if parts.split == split}
