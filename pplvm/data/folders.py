"""Folders of images, array files or tables, whose names tell the splits."""

__all__ = ["read_folder"]

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pplvm.data.array_files import ArrayHeader
from pplvm.data.array_splits import SplitArrays, label_numbers, whole_labels
from pplvm.data.image_files import read_image
from pplvm.data.named_arrays import NO_KEYS, Keys, choose_arrays, read_named_arrays, remarks
from pplvm.data.split_names import name_parts, split_of
from pplvm.data.tables import TABLE_ENDINGS, Table, is_table, table_of

MOST_FILES = 2**21
"""In a folder and those below it: more are no data set, but a disk."""

LEVELS_OF_FILES = 256
"""Of grey, in image files of eight bits a channel, which are the only ones that are read."""

MOST_BYTES = 2**35
"""Of all images of a folder in memory, three a pixel if they are in colour."""

MOST_NAMED = 12
"""Classes that a message lists."""

ARRAY_ENDINGS = (".npy", ".npz")


class Part(NamedTuple):
    """The images of a split, and the folder whose subfolders are their classes."""

    top: Path
    files: list[Path]


def read_folder(folder: Path, keys: Keys = NO_KEYS) -> SplitArrays:
    """Read the images below a folder; if there are none, its array files and tables named by split, as train.npy.

    Folders train (or training), valid (val, validation, dev) and test (testing) are splits, in any case of letters.
    Labels are the numbers of the folders at the top of the data set, or of each split, in alphabetical order and one
    order for all splits, where every image of a split is in one.

    Arguments:
        folder: its path.
        keys: names of the files, without their endings, where there are several sets of arrays.
    Raises FileNotFoundError, and ValueError for no data, the first image that is unreadable or differs, too many, and
    splits that are not plain: images beside them or splits further down, test data without training data.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give the path of a folder of images")
    images, arrays = _files(folder)
    if images:
        for key in keys.given().values():
            raise ValueError(f"folder {folder} holds images, which have no keys: leave {key!r} out")
        return _images(folder, images)
    if named := [file for file in arrays if name_parts(_stem(file)).split]:
        return _arrays(folder, named, keys)
    beside = f"name {arrays[0]} itself, or " if arrays else ""
    raise ValueError(f"folder {folder} has no images: {beside}put files such as .png or .jpg into it")


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images below a folder, and the array files and tables in it, sorted."""
    from PIL import Image

    endings = Image.registered_extensions()
    images: list[Path] = []
    arrays: list[Path] = []
    for number, file in enumerate(_below(folder, (folder.resolve(),))):
        if number == MOST_FILES:
            raise ValueError(f"folder {folder} holds more than {MOST_FILES:,} files: name one that holds images")
        if file.suffix.lower() in endings:
            images.append(file)
        elif file.parent == folder and (file.suffix.lower() in ARRAY_ENDINGS or is_table(file)):
            arrays.append(file)
    return sorted(images), sorted(arrays)


def _below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """All files below a folder without hidden ones; links are followed except those to a parent folder."""
    for place in folder.iterdir():
        if place.name.startswith("."):  # as .ipynb_checkpoints/
            continue
        yield place
        if place.is_dir() and (real := place.resolve()) not in above:
            yield from _below(place, (*above, real))


def _images(folder: Path, files: list[Path]) -> SplitArrays:
    splits = _splits(folder, files)
    first = next(iter(splits.values())).files[0]
    shape = read_image(first).shape
    if np.prod(shape) * len(files) > MOST_BYTES:
        raise ValueError(
            f"folder {folder} holds {len(files):,} images of shape {shape}, more than fit in "
            f"{MOST_BYTES / 2**30:g} GiB: make them smaller"
        )
    arrays = {split: _decoded(part.files, first, shape) for split, part in splits.items()}
    classes = {split: found for split, part in splits.items() if (found := _classes(part)) is not None}
    return SplitArrays(arrays, label_numbers(classes), _remarks(folder, splits, classes), LEVELS_OF_FILES)


def _splits(folder: Path, files: list[Path]) -> dict[str, Part]:
    """The images by split, or all of them under "all" if the folder does not name two splits."""
    tops = sorted({file.relative_to(folder).parts[0] for file in files})
    named = {path.name: split for path in sorted(folder.iterdir()) if path.is_dir() and (split := split_of(path.name))}
    if not named:
        _refuse_hidden_splits(folder, files)
        return {"all": Part(folder, files)}
    _check_splits(folder, named, tops)
    parts = {split: Part(folder / name, []) for name, split in named.items()}
    for file in files:
        parts[named[file.relative_to(folder).parts[0]]].files.append(file)
    if list(parts) == ["train"]:
        return {"all": parts["train"]}
    return {split: parts[split] for split in ("train", "valid", "test") if split in parts}


def _check_splits(folder: Path, named: dict[str, str], tops: list[str]) -> None:
    """Refuse folders of splits, by name, that are not plain.

    Arguments:
        tops: names of what lies right in the folder and is, or holds, an image.
    """
    there = ", ".join(f"{name}/" for name in named)
    if others := [name for name in tops if name not in named]:
        raise ValueError(
            f"folder {folder} has {others[0]} beside {there}: move it into one of them or away; if {next(iter(named))} "
            "is a class and no split, give its folder another name"
        )
    if empty := [name for name in named if name not in tops]:
        raise ValueError(f"folder {folder} has no images in {empty[0]}/: put some there, or remove it")
    if len(set(named.values())) < len(named):
        raise ValueError(f"folder {folder} has two folders for one split among {there}: leave one of them")
    if len({(folder / name).resolve() for name in named}) < len(named):
        raise ValueError(f"folder {folder} has links that make one folder two splits among {there}: give each its own")
    if "train" not in named.values():
        raise ValueError(
            f"folder {folder} has {there} and no train/: add it, or, if {next(iter(named))} is a class and no split, "
            "give its folder another name"
        )


def _refuse_hidden_splits(folder: Path, files: list[Path]) -> None:
    """Refuse splits that only file names or deeper folders tell, since they would be mixed."""
    places: dict[str, Path] = {}
    for parent in sorted({file.parent.relative_to(folder) for file in files}):
        for place in (parent, *parent.parents):
            if split := name_parts(place.name).split:
                places.setdefault(split, place)
    if len(places) > 1:
        first, second = list(places.values())[:2]
        if first.parent == second.parent == Path():
            raise ValueError(
                f"folder {folder} has folders named for splits, {first}/ and {second}/: call them train/ and test/, "
                "or, if they are classes, give them other names"
            )
        raise ValueError(
            f"folder {folder} has splits below its top, {first}/ and {second}/: name the folder that holds train/ and "
            "test/, with a folder for each class in them"
        )
    names: dict[str | None, Path] = {}
    for file in files:
        names.setdefault(name_parts(file.stem).split, file.relative_to(folder))
    if None not in names and len(names) > 1:
        first, second = list(names.values())[:2]
        raise ValueError(
            f"folder {folder} has images named for splits, {first} and {second}: put them into folders train/ and test/"
        )


def _decoded(files: list[Path], first: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Decode images of one shape into an array, (N, *shape) uint8."""
    images = np.empty((len(files), *shape), np.uint8)
    for number, file in enumerate(files):
        image = read_image(file)
        if image.shape != shape:
            raise ValueError(f"{file} has shape {image.shape}, but {first} has {shape}: give all one shape")
        images[number] = image
    return images


def _classes(part: Part) -> list[str] | None:
    """The name of each image's folder right below the top, if every image is in one."""
    places = [file.relative_to(part.top).parts for file in part.files]
    return [place[0] for place in places] if all(len(place) > 1 for place in places) else None


def _remarks(folder: Path, splits: dict[str, Part], classes: dict[str, list[str]]) -> tuple[str, ...]:
    if "all" in splits:
        return ()
    counts = ", ".join(f"{len(part.files):,} in {split}" for split, part in splits.items())
    found = [f"{folder.name}: the images are split by their folders, {counts}"]
    known = set(classes.get("train", ()))
    unseen = sorted({name for part in classes.values() for name in part} - known) if known else []
    if unseen:
        found.append(f"{folder.name}: train has no image of {', '.join(unseen[:MOST_NAMED])}, a class of other splits")
    return tuple(found)


def _arrays(folder: Path, files: list[Path], keys: Keys) -> SplitArrays:
    """Read the arrays of files whose names tell their splits."""
    if len({_stem(file) for file in files}) < len(files):
        raise ValueError(f"folder {folder} has two files of one name, with other endings: leave one of them")
    if "train" not in {name_parts(_stem(file)).split for file in files}:
        raise ValueError(f"folder {folder} has {files[0].name} and no training data: add them, as train.npy")
    read = {_stem(file): _one_array(file) for file in files}
    headers = {stem: ArrayHeader(found.rows.shape, found.rows.dtype) for stem, found in read.items()}
    choice = choose_arrays(headers, f"folder {folder}", keys)
    labels = whole_labels({split: read[name].rows for split, name in choice.labels.items()})
    choice = choice._replace(labels=choice.labels if labels else {})
    own = {split: found for split, name in choice.data.items() if (found := read[name].labels) is not None}
    _check_columns(folder, {name: read[name].columns for name in choice.data.values() if read[name].columns})
    told = tuple(remark for name in choice.data.values() for remark in read[name].remarks)
    arrays = {split: read[name].rows for split, name in choice.data.items()}
    beside = {
        split: {word: partial(np.asarray, read[name].rows) for word, name in found.items()}
        for split, found in choice.beside.items()
    }
    return SplitArrays(
        arrays,
        label_numbers(labels | own),
        (*remarks(choice, folder.name), *told),
        beside=beside,
        no_labels=choice.no_labels,
    )


def _check_columns(folder: Path, columns: dict[str, tuple[str, ...]]) -> None:
    """Refuse tables of one data set whose columns differ in name or order."""
    first = next(iter(columns), "")
    for name, names in columns.items():
        odd = next((i for i, (a, b) in enumerate(zip(names, columns[first], strict=False)) if a != b), None)
        if odd is not None:
            raise ValueError(
                f"folder {folder}: data column {odd} (the first is 0) of {name} is called {names[odd]!r}, that of "
                f"{first} {columns[first][odd]!r}: give them the same columns in the same order"
            )


def _one_array(file: Path) -> Table:
    """Read a file of one array; of a table with nothing but labels, its integers are the rows."""
    if is_table(file):
        table = table_of(file)
        only_labels = table.labels and not table.rows.size and all(isinstance(v, int) for v in table.labels)
        return Table(np.asarray(table.labels)) if only_labels else table
    source = read_named_arrays(file)
    if "all" not in source.arrays:
        raise ValueError(f"{file} names splits of its own: name that file, and not its folder")
    labels = source.labels.get("all")
    return Table(source.arrays["all"], None if labels is None else labels.tolist(), source.remarks)


def _stem(file: Path) -> str:
    name = file.name
    for ending in (*TABLE_ENDINGS, *ARRAY_ENDINGS):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
