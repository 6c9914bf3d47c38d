"""A user's own data: from an array file, a table, a folder of images, or a data set by import path."""

__all__ = ["from_array", "from_dataset", "from_folder", "from_table"]

from pathlib import Path
from typing import Any

from pplvm.data.array_splits import SplitArrays
from pplvm.data.arrays import from_rows
from pplvm.data.dataset_splits import read_dataset
from pplvm.data.folders import read_folder
from pplvm.data.image_data import ImageData
from pplvm.data.import_path import import_module, shadowed
from pplvm.data.named_arrays import Keys, read_named_arrays
from pplvm.data.tables import read_table


def from_array(
    path: str | Path,
    key: str | None = None,
    split: str = "train",
    *,
    test_key: str | None = None,
    valid_key: str | None = None,
    **reading: Any,
) -> ImageData:
    """Load the rows of an array in a `.npy` or `.npz` file.

    Splits that an `.npz` names are honoured, as those of x_train and x_test, and y, y_train, labels are the labels:
    `pplvm.data.named_arrays.choose_arrays` has the rules.

    Arguments:
        path: of the file.
        key: of the array in an `.npz` file; may be left out if it holds one, or a set of named splits.
        split: "train", "valid" or "test", by name, or 80, 10 and 10 of a hundred rows by a constant seed; "all".
        test_key: of the array that is the test set.
        valid_key: of the array that is the validation set.
        reading: as of `from_rows`.
    Raises FileNotFoundError, and ValueError for a wrong key, no data, NaN or infinity.
    """
    source = read_named_arrays(Path(path), Keys(key, valid_key, test_key))
    return _data(source, Path(path).name, split, reading)


def from_table(path: str | Path, split: str = "train", **reading: Any) -> ImageData:
    """Load the rows of a `.csv` or `.tsv` table; a column called label, class, target or y becomes the labels.

    Arguments:
        path: of the file.
        split: as in `from_array`.
        reading: as of `from_rows`.
    Raises FileNotFoundError, and ValueError for words, missing values and rows of different lengths.
    """
    return _data(read_table(Path(path)), Path(path).name, split, reading)


def from_folder(
    path: str | Path,
    split: str = "train",
    *,
    key: str | None = None,
    test_key: str | None = None,
    valid_key: str | None = None,
    **reading: Any,
) -> ImageData:
    """Load the images of a folder and its subfolders, (H, W) if grey and (3, H, W) if in colour.

    Folders train/, test/ and the like are honoured as splits; the labels are the numbers of the subfolders in
    alphabetic order, if every image is in one. Transparency is dropped. A folder without images may hold train.npy and
    test.npy, or other array files and tables that are named so.

    Arguments:
        path: of the folder.
        split: as in `from_array`.
        key: the name of an array file without its ending, where there are several sets of them.
        test_key: of the test set, likewise.
        valid_key: of the validation set, likewise.
        reading: as of `from_rows`.
    Raises FileNotFoundError, and ValueError for no image, the first that is unreadable or differs, too many, and
    splits that are not plain.
    """
    return _data(read_folder(Path(path), Keys(key, valid_key, test_key)), Path(path).resolve().name, split, reading)


def from_dataset(import_path: str, split: str = "train", key: str | None = None, **reading: Any) -> ImageData:
    """Load a finite map-style data set into memory by import path; the current directory is searched last.

    Arguments:
        import_path: "my_module:my_dataset", an instance, a mapping of such by split, or a callable that returns
            either; if it takes `split=` or `train=`, it is called once a split. Its items are tensors, arrays or PIL
            images, tuples that begin with one, or mappings that hold one.
        split: as in `from_array`.
        key: of the datum in items that are mappings; may be left out where one entry can be meant.
        reading: as of `from_rows`.
    Raises ValueError for a path that leads nowhere, items of different shapes and what `from_rows` refuses.
    """
    return _data(read_dataset(_find(import_path), import_path, key), import_path, split, reading)


def _data(source: SplitArrays, name: str, split: str, reading: dict[str, Any]) -> ImageData:
    data = from_rows(source, name, split, **reading)
    data.remarks = source.remarks
    return data


def _find(import_path: str) -> Any:
    module, _, name = import_path.partition(":")
    if not module or not name:
        raise ValueError(f"{import_path!r} is not an import path: write my_module:my_dataset")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists, and something that it imports does not
        raise ValueError(
            f"there is no module {module!r} for {import_path!r}: run where it lies, or install it"
        ) from error
    if not hasattr(found, name):
        public = ", ".join(other for other in vars(found) if not other.startswith("_"))
        raise ValueError(f"module {module!r} has no {name!r}{shadowed(found)}: it has {public}")
    return getattr(found, name)
