"""The named data sets: rows, splits, and files that are missing or wrong."""

import hashlib
import struct

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pplvm.data import images
from pplvm.data.images import binarized_mnist, digits, fashion_mnist, mnist

SPLITS = ("train", "valid", "test")


def test_the_three_splits_of_digits_are_scikit_learns_digits():
    parts = [digits(split) for split in SPLITS]
    assert [len(part) for part in parts] == [1297, 200, 300]
    bunch = load_digits()
    ours = [
        (bytes(x.numpy().tobytes()), int(y)) for part in parts for x, y in zip(part.images, part.labels, strict=True)
    ]
    theirs = [(x.astype(np.uint8).tobytes(), int(y)) for x, y in zip(bunch.images, bunch.target, strict=True)]
    assert sorted(ours) == sorted(theirs)  # disjoint and covering
    assert ours != theirs  # shuffled


def test_digits_are_the_same_every_time_and_of_seventeen_levels():
    train = digits()
    assert torch.equal(train.images, digits("train").images)
    assert (train.spec.shape, train.spec.levels, train.spec.name) == ((8, 8), 17, "digits")
    x = torch.stack([train[i] for i in range(100)])
    assert torch.equal((x * 16).unique(), torch.arange(17.0))
    assert set(digits("test").labels.tolist()) == set(range(10))


@pytest.fixture
def idx_root(tmp_path, monkeypatch):
    """Small idx files of both folders: 6 rows to train, 4 to test, the last 2 of the 6 to validate."""
    monkeypatch.setattr(images, "IDX_ROWS", {"train": 6, "t10k": 4})
    monkeypatch.setattr(images, "VALID_ROWS", 2)
    sums = {}
    for folder in ("MNIST", "FashionMNIST"):
        raw = tmp_path / folder / "raw"
        raw.mkdir(parents=True)
        for stem, rows, start in (("train", 6, 0), ("t10k", 4, 100)):
            labels = np.arange(start, start + rows, dtype=np.uint8)
            pixels = labels[:, None, None].repeat(28, 1).repeat(28, 2)
            for kind, content in (
                ("images-idx3", struct.pack(">IIII", 2051, rows, 28, 28) + pixels.tobytes()),
                ("labels-idx1", struct.pack(">II", 2049, rows) + labels.tobytes()),
            ):
                (raw / f"{stem}-{kind}-ubyte").write_bytes(content)
                sums[f"{stem}-{kind}-ubyte"] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(images, "MNIST_SHA256", sums)
    return tmp_path


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_idx_splits_are_the_official_ones(idx_root, load):
    expected = {"train": [0, 1, 2, 3], "valid": [4, 5], "test": [100, 101, 102, 103]}
    for split, numbers in expected.items():
        data = load(split, idx_root)
        assert data.images[:, 3, 4].tolist() == data.labels.tolist() == numbers
        assert (data.spec.name, data.spec.shape, data.spec.levels) == (load.__name__, (28, 28), 256)


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_a_truncated_idx_file_is_named(idx_root, load):
    folder = "MNIST" if load is mnist else "FashionMNIST"
    path = idx_root / folder / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte has 1000 bytes .* replace it"):
        load("valid", idx_root)
    load("test", idx_root)


def test_only_mnist_has_a_checksum(idx_root):
    for folder in ("MNIST", "FashionMNIST"):
        path = idx_root / folder / "raw" / "t10k-labels-idx1-ubyte"
        path.write_bytes(path.read_bytes()[:-1] + b"\7")
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte is not the official file"):
        mnist("test", idx_root)
    assert fashion_mnist("test", idx_root).labels[-1] == 7


@pytest.mark.parametrize("missing", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_missing_idx_file_says_what_to_put_where(idx_root, missing):
    (idx_root / "MNIST" / "raw" / missing).unlink()
    put = "put {train,t10k}-.* of MNIST, uncompressed, into .*MNIST/raw"
    words = rf"{missing} is missing: {put}, or download them \(--download; in Python, download=True\)"
    with pytest.raises(FileNotFoundError, match=words):
        mnist("test", idx_root)


def test_a_failed_download_says_what_to_put_where(tmp_path, monkeypatch):
    from torchvision import datasets

    def unreachable(root, download):
        assert download
        raise RuntimeError("Error downloading a file:\nno network")

    monkeypatch.setattr(datasets, "MNIST", unreachable)
    with pytest.raises(FileNotFoundError, match="MNIST could not be downloaded .*no network.*: put its four"):
        mnist("test", tmp_path, download=True)


def test_nothing_is_downloaded_unasked_or_again(tmp_path, idx_root, monkeypatch):
    from torchvision import datasets

    monkeypatch.setattr(datasets, "MNIST", lambda *args, **kwargs: pytest.fail("downloaded"))
    with pytest.raises(FileNotFoundError):
        mnist("test", tmp_path / "elsewhere")
    assert len(mnist("test", idx_root, download=True)) == 4
    path = idx_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        mnist("test", idx_root, download=True)


@pytest.fixture
def few_binarized(monkeypatch):
    monkeypatch.setattr(images, "BINARIZED_ROWS", {"train": 5, "valid": 2, "test": 3})
    draw = np.random.default_rng(0)
    return {split: draw.integers(0, 2, (n, 784), dtype=np.uint8) for split, n in images.BINARIZED_ROWS.items()}


@pytest.mark.parametrize("form", ["flat npz", "square npz", "amat"])
def test_binarized_mnist_is_read_in_every_form(tmp_path, few_binarized, form):
    if form == "amat":
        for split, array in few_binarized.items():
            np.savetxt(tmp_path / f"binarized_mnist_{split}.amat", array, fmt="%d")
    else:
        shape = (-1, 28, 28) if form == "square npz" else (-1, 784)
        arrays = {f"x_{split}": array.reshape(shape) for split, array in few_binarized.items()}
        np.savez(tmp_path / "binarized_mnist.npz", **arrays)
    for split, array in few_binarized.items():
        data = binarized_mnist(split, tmp_path)
        assert np.array_equal(data.images.numpy().reshape(-1, 784), array)
        assert (data.spec.levels, data.spec.binarization, data.spec.shape) == (2, "given", (28, 28))


def test_binarized_mnist_expects_the_official_rows():
    assert images.BINARIZED_ROWS == {"train": 50_000, "valid": 10_000, "test": 10_000}
    assert images.IDX_ROWS["train"] - images.VALID_ROWS == 50_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:-1], r"holds \(2, 784\) values as its test split, and \(3, 784\) were expected"),
        (lambda a: a * 2, "other values than 0 and 1 in its test split"),
    ],
)
@pytest.mark.parametrize("form", ["npz", "amat"])
def test_wrong_binarized_data_are_refused(tmp_path, few_binarized, change, words, form):
    array = change(few_binarized["test"])
    if form == "npz":
        np.savez(tmp_path / "binarized_mnist.npz", x_test=array)
    else:
        np.savetxt(tmp_path / "binarized_mnist_test.amat", array, fmt="%d")
    with pytest.raises(ValueError, match=words):
        binarized_mnist("test", tmp_path)


def test_binarized_files_that_are_missing_incomplete_or_no_table(tmp_path, few_binarized):
    with pytest.raises(FileNotFoundError, match="test.amat is missing: put binarized_mnist.npz with x_train"):
        binarized_mnist("test", tmp_path)
    (tmp_path / "binarized_mnist_test.amat").write_text("0 1\n0 1 0\n")
    with pytest.raises(ValueError, match="test.amat is not a table of 0 and 1"):
        binarized_mnist("test", tmp_path)
    (tmp_path / "binarized_mnist_test.amat").write_text("")
    with pytest.raises(ValueError, match="test.amat holds"):
        binarized_mnist("test", tmp_path)
    np.savez(tmp_path / "binarized_mnist.npz", x_train=few_binarized["train"])
    with pytest.raises(ValueError, match="has no array 'x_test': its keys are x_train"):
        binarized_mnist("test", tmp_path)


@pytest.mark.parametrize(
    "load",
    [digits, lambda s: mnist(s, "."), lambda s: fashion_mnist(s, "."), lambda s: binarized_mnist(s, ".")],
)
def test_another_split_is_refused(load):
    with pytest.raises(ValueError, match="no split 'dev': use train, valid or test"):
        load("dev")
