"""Rows of an array that stays where it lies: what is read of them, and how little memory that takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pplvm.data import lazy_rows
from pplvm.data.lazy_rows import FileChanged, LazyRows

ARRAY = np.arange(60, dtype=">i2").reshape(10, 2, 3)
ROWS = np.array([1, 4, 5, 9])


@pytest.mark.parametrize("array", [ARRAY, ARRAY.transpose(0, 2, 1), np.asfortranarray(ARRAY), ARRAY[::-1]])
@pytest.mark.parametrize("rows", [None, ROWS])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_rows_are_read_in_another_dtype(array, rows, dtype, monkeypatch):
    found = LazyRows(array, rows, dtype, 1, (0, 59))
    expected = torch.from_numpy((array if rows is None else array[rows]).astype(dtype))
    assert found.shape == tuple(expected.shape) and len(found) == len(expected)
    index = torch.tensor([2, 0, 3, 0])
    assert torch.equal(found.take(index), expected[index]) and found.take(index).dtype == expected.dtype
    assert torch.equal(found.take(slice(1, 3)), expected[1:3])
    monkeypatch.setattr(lazy_rows, "VALUES_AT_ONCE", 7)
    assert torch.equal(found.to("cpu"), expected) and found.to("meta").device.type == "meta"


@pytest.mark.parametrize("rows", [None, ROWS])
def test_what_is_read_is_another_memory(rows, tmp_path):
    np.save(tmp_path / "mine.npy", ARRAY.astype(np.uint8))
    mapped = np.load(tmp_path / "mine.npy", mmap_mode="r")
    found = LazyRows(mapped, rows, np.uint8, 1, (0, 59))
    for ask in (slice(0, 3), torch.tensor([0, 1, 2])):
        found.take(ask).fill_(7)
    assert np.array_equal(mapped, ARRAY)


MEASURED = """
import sys, threading, time
import numpy as np, torch
from pplvm.commands.runs.manifest import data_checksum
from pplvm.data.arrays import from_rows
from pplvm.data.binarization import binarize
from pplvm.data.epochs import Epochs

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024

def watch():
    while True:
        seen.append(anonymous())
        time.sleep(0.001)

def go_through(array):
    data = binarize(from_rows(array, "mine", "train"), "static")
    data_checksum(data), data.mean()
    epochs = Epochs(data, 100)
    for _ in range(20):
        next(epochs)
    seen.append(anonymous())

seen = []
go_through(np.arange(200, dtype=np.uint8)[:, None].repeat(784, 1))
before = anonymous()
threading.Thread(target=watch, daemon=True).start()
go_through(np.load(sys.argv[1], mmap_mode="r"))
print(max(seen) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how much memory is a process's own")
def test_a_file_of_63_mb_takes_no_such_memory(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (80_000, 784), dtype=np.uint8)
    np.save(tmp_path / "mine.npy", pixels)
    words = [sys.executable, "-c", MEASURED, str(tmp_path / "mine.npy")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40, f"{done.stdout} MB, and all data are {pixels.nbytes / 2**20:.0f}"


def test_a_file_that_is_written_to_while_it_is_read_ends_in_words_and_not_in_a_signal(tmp_path):
    path = tmp_path / "mine.npy"
    np.save(path, np.arange(2000.0).reshape(1000, 2))
    stored = LazyRows(np.load(path, mmap_mode="r"), None, np.float32, 1, (0, 1999))
    assert stored.take(torch.tensor([3])).tolist() == [[6.0, 7.0]]
    path.write_bytes(b"")  # to read a page of the map now would be a bus error
    with pytest.raises(FileChanged, match="mine.npy was written to while its data are used"):
        stored.take(torch.tensor([999]))


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_removed_or_replaced_is_still_read(tmp_path, how):
    path = tmp_path / "mine.npy"
    np.save(path, np.arange(2000.0).reshape(1000, 2))
    stored = LazyRows(np.load(path, mmap_mode="r"), None, np.float32, 1, (0, 1999))
    if how == "removed":
        path.unlink()
    else:
        np.save(tmp_path / "other.npy", np.zeros((1000, 2)))
        (tmp_path / "other.npy").rename(path)
    assert stored.take(torch.tensor([999])).tolist() == [[1998.0, 1999.0]]
