"""The user's own data: an array file, a folder of images, or any torch data set by import path."""

__all__ = ["from_array", "from_dataset", "from_folder"]

from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from pplvm.data.array_files import read_array
from pplvm.data.arrays import from_rows
from pplvm.data.image_data import ImageData
from pplvm.data.image_files import read_image
from pplvm.data.source import Source
from pplvm.import_path import import_module, shadowed

MOST_FILES = 2**21
"""In a folder and those below it: more are no data set, but a disk."""

LEVELS_OF_FILES = 256
"""Of grey, in image files of eight bits a channel, which are the only ones that are read."""

MOST_BYTES = 2**35
"""Of all images of a folder in memory, three a pixel if they are in colour."""


def from_array(
    path: str | Path,
    key: str | None = None,
    split: str = "train",
    levels: int | None = None,
    values: str | None = None,
) -> ImageData:
    """The rows of an array in a `.npy` or `.npz` file, with levels and splits as `from_rows` finds them.

    Arguments:
        path: of the file.
        key: of the array in an `.npz` file; may be left out if it holds one.
        split: "train", "valid", "test" (80, 10 and 10 of a hundred rows, by a constant seed) or "all".
        levels, values: how its numbers are read, as `from_rows` has them.
    Raises FileNotFoundError, and ValueError for a wrong key and what `from_rows` refuses.
    """
    return from_rows(read_array(Path(path), key), Path(path).name, split, levels=levels, values=values)


def from_folder(
    path: str | Path, split: str = "train", levels: int | None = None, values: str | None = None
) -> ImageData:
    """The images of a folder and its subfolders, (H, W) if grey and (3, H, W) if in colour; two-valued or 256 levels.

    Transparency is dropped. The labels are the numbers of the subfolders in alphabetic order, if every
    image is in one.

    Arguments:
        path: of the folder.
        split, levels, values: as in `from_array`.
    Raises FileNotFoundError, and ValueError for no image, the first that is unreadable or differs, and too many.
    """
    from PIL import Image

    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give the path of a folder of images")
    endings = Image.registered_extensions()
    files: list[Path] = []
    for number, file in enumerate(folder.rglob("*")):
        if number == MOST_FILES:
            raise ValueError(f"folder {folder} holds more than {MOST_FILES:,} files: name one that holds images")
        if file.suffix.lower() in endings and not file.name.startswith("."):
            files.append(file)
    files.sort()
    if not files:
        raise ValueError(f"folder {folder} has no images: put files such as .png or .jpg into it")
    images: list[np.ndarray] = []
    for file in files:
        images.append(read_image(file))
        _check_shapes([str(files[0]), str(file)], [images[0], images[-1]])
        if images[0].nbytes * len(files) > MOST_BYTES:
            raise ValueError(
                f"folder {folder} holds {len(files):,} images of shape {images[0].shape}, more than fit in "
                f"{MOST_BYTES / 2**30:g} GiB: make them smaller"
            )
    places = [file.relative_to(folder).parts for file in files]
    names = sorted({place[0] for place in places})
    labels = [names.index(place[0]) for place in places] if all(len(p) > 1 for p in places) else None
    by_split = {} if labels is None else {"all": np.asarray(labels)}
    source = Source({"all": np.stack(images)}, by_split, levels=LEVELS_OF_FILES)
    return from_rows(source, folder.name, split, levels=levels, values=values)


def from_dataset(
    import_path: str, split: str = "train", levels: int | None = None, values: str | None = None
) -> ImageData:
    """Any finite `torch.utils.data.Dataset`, read into memory; the current directory is searched last.

    Arguments:
        import_path: "my_module:my_dataset", an instance or a callable that returns one; its items are
            tensors, or tuples that begin with one.
        split, levels, values: as in `from_array`.
    Raises ValueError for a path that leads nowhere, items of different shapes and what `from_rows` refuses.
    """
    found = _find(import_path)
    dataset = found() if callable(found) else found
    if not isinstance(dataset, Dataset) or not isinstance(dataset, Sized):
        raise ValueError(f"{import_path} is not a torch.utils.data.Dataset that has a length: name one that is")
    items = [_item(dataset[i], f"item {i} of {import_path}") for i in range(len(dataset))]
    _check_shapes([f"item {i} of {import_path}" for i in range(len(items))], items)
    stacked = np.stack(items) if items else np.empty(0)
    return from_rows(stacked, import_path, split, levels=levels, values=values)


def _check_shapes(names: list[str], arrays: list[np.ndarray]) -> None:
    for name, array in zip(names, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{name} has shape {array.shape}, but {names[0]} has {arrays[0].shape}: give all one shape"
            )


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


def _item(item: Any, name: str) -> np.ndarray:
    tensor = item[0] if isinstance(item, tuple | list) and item else item
    if not isinstance(tensor, Tensor):
        raise ValueError(
            f"{name} begins with a {type(tensor).__name__}: return a tensor, or a tuple that begins with one "
            "(torchvision's ToTensor makes one of an image)"
        )
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
