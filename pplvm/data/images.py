"""The built-in data sets: digits, MNIST, Fashion-MNIST and the static binarized MNIST."""

__all__ = ["binarized_mnist", "digits", "fashion_mnist", "mnist"]

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pplvm.data.array_files import read_array
from pplvm.data.counter_rng import permutation
from pplvm.data.idx import read_idx
from pplvm.data.image_data import ImageData

DIGITS_SEED = 1797  # constant, so that everyone's split is the same
DIGITS_PARTS = {"train": slice(0, 1297), "valid": slice(1297, 1497), "test": slice(1497, 1797)}
IDX_ROWS = {"train": 60_000, "t10k": 10_000}
VALID_ROWS = 10_000  # the last of the official training file
SIDE = 28
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MOST_AMAT_BYTES = 2**28  # a digit and a blank for each of 50,000 x 784 values, and room for other spellings
BINARIZED_ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}


def digits(split: str = "train") -> ImageData:
    """scikit-learn's bundled handwritten digits, 8 x 8 in 17 grey levels: 1,297 train, 200 valid, 300 test.

    Raises ValueError for another split.

    Example:
        >>> digits("valid").spec.size
        200
    """
    from sklearn.datasets import load_digits

    _check_split(split)
    pixels, labels = load_digits(return_X_y=True)  # (1797, 64), (1797,)
    part = permutation(len(pixels), DIGITS_SEED)[DIGITS_PARTS[split]]  # (N,)
    images = torch.as_tensor(pixels, dtype=torch.uint8).reshape(-1, 8, 8)
    return ImageData(images[part], "digits", 17, torch.as_tensor(labels)[part])


def mnist(split: str, root: str | Path, download: bool = False) -> ImageData:
    """MNIST, 28 x 28 in 256 grey levels: 50,000 train, 10,000 valid (the rest of its file), 10,000 test.

    Arguments:
        split: "train", "valid" or "test".
        root: the folder that holds MNIST/raw/*-ubyte, as torchvision lays it out.
        download: fetch the files into `root` if they are not there.
    Raises ValueError for another split or a wrong file, FileNotFoundError for a missing one.

    References: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition",
    Proc. IEEE 1998.
    """
    return _from_idx("MNIST", "mnist", split, root, download, MNIST_SHA256)


def fashion_mnist(split: str, root: str | Path, download: bool = False) -> ImageData:
    """Fashion-MNIST, from files like MNIST's in root/FashionMNIST/raw/*-ubyte; only its shape is checked.

    Arguments and errors as of `mnist`.

    References: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
    Learning Algorithms", 2017, arXiv 1708.07747.
    """
    return _from_idx("FashionMNIST", "fashion_mnist", split, root, download, {})


def binarized_mnist(split: str, root: str | Path) -> ImageData:
    """The static binarized MNIST of Larochelle and Murray: 50,000 train, 10,000 valid, 10,000 test.

    Arguments:
        split: "train", "valid" or "test".
        root: the folder that holds binarized_mnist.npz with x_train, x_valid, x_test, or else the text
            files binarized_mnist_{train,valid,test}.amat.
    Raises ValueError for another split or a wrong file, FileNotFoundError for a missing one.

    References: Larochelle and Murray, "The Neural Autoregressive Distribution Estimator", AISTATS 2011.
    """
    _check_split(split)
    path = Path(root) / "binarized_mnist.npz"
    if path.is_file():
        array = read_array(path, f"x_{split}")
    else:
        path = path.with_name(f"binarized_mnist_{split}.amat")
        array = _amat_rows(path)
    rows = BINARIZED_ROWS[split]
    if array.shape not in ((rows, SIDE, SIDE), (rows, SIDE**2)):
        raise ValueError(
            f"{path} holds {array.shape} values as its {split} split, and ({rows}, {SIDE**2}) were expected: "
            "replace it by the official file"
        )
    if not bool(((array == 0) | (array == 1)).all()):
        raise ValueError(f"{path} holds other values than 0 and 1 in its {split} split: replace it")
    images = torch.from_numpy(array.astype(np.uint8)).reshape(rows, SIDE, SIDE)  # (N, 28, 28)
    return ImageData(images, "binarized_mnist", 2)


def _check_split(split: str) -> None:
    if split not in DIGITS_PARTS:
        raise ValueError(f"there is no split {split!r}: use train, valid or test")


def _from_idx(
    folder: str, name: str, split: str, root: str | Path, download: bool, sha256: dict[str, str]
) -> ImageData:
    _check_split(split)
    raw = Path(root) / folder / "raw"
    stem = "t10k" if split == "test" else "train"
    parts: list[Tensor] = []
    for kind, datum in (("images-idx3-ubyte", (SIDE, SIDE)), ("labels-idx1-ubyte", ())):
        path = raw / f"{stem}-{kind}"
        if download and not path.is_file():
            _download(folder, root)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: put {{train,t10k}}-{{images-idx3,labels-idx1}}-ubyte of {folder}, "
                f"uncompressed, into {raw}, or download them (--download; in Python, download=True)"
            )
        parts.append(read_idx(path, (IDX_ROWS[stem], *datum), sha256.get(path.name)))
    edge = IDX_ROWS["train"] - VALID_ROWS
    part = {"train": slice(None, edge), "valid": slice(edge, None), "test": slice(None)}[split]
    images, labels = parts  # (rows, 28, 28), (rows,)
    return ImageData(images[part].clone(), name, 256, labels[part].long())


def _download(folder: str, root: str | Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, folder)(root, download=True)
    except (RuntimeError, OSError) as error:
        raise FileNotFoundError(
            f"{folder} could not be downloaded ({' '.join(str(error).split())}): "
            f"put its four uncompressed idx files into {Path(root) / folder / 'raw'}"
        ) from error


def _amat_rows(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: put binarized_mnist.npz with x_train, x_valid and x_test, or "
            f"binarized_mnist_{{train,valid,test}}.amat, into {path.parent}"
        )
    if (size := path.stat().st_size) > MOST_AMAT_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, and the official files have 80,000,000 at most: replace it")
    try:
        with warnings.catch_warnings(action="ignore"):  # of an empty file, which the shape gives away
            return np.loadtxt(path, dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is not a table of 0 and 1 ({error}): replace it") from error
