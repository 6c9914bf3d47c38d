"""Array files: read by key, and refused in words where their promises do not hold."""

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from pplvm.data import array_files
from pplvm.data.array_files import read_array, read_headers

GREY = np.arange(60, dtype=np.uint8).reshape(20, 3) * 4


def test_arrays_are_read_by_key(tmp_path):
    np.save(tmp_path / "one.npy", GREY)
    np.savez(tmp_path / "one.npz", x=GREY)
    np.savez_compressed(tmp_path / "two.npz", x=GREY, y=GREY[:, 0])
    assert np.array_equal(read_array(tmp_path / "one.npy"), GREY)
    assert np.array_equal(read_array(tmp_path / "one.npz"), GREY)
    assert np.array_equal(read_array(tmp_path / "two.npz", "y"), GREY[:, 0])


def test_wrong_keys_are_told_the_right_ones(tmp_path):
    np.savez(tmp_path / "two.npz", x=GREY, y=GREY)
    np.save(tmp_path / "one.npy", GREY)
    with pytest.raises(ValueError, match=r"two.npz needs a key: its keys are x \(20, 3\), y \(20, 3\)"):
        read_array(tmp_path / "two.npz")
    with pytest.raises(ValueError, match=r"two.npz has no array 'z': its keys are x \(20, 3\), y \(20, 3\)"):
        read_array(tmp_path / "two.npz", "z")
    with pytest.raises(ValueError, match="one.npy has no array 'x': its keys are none"):
        read_array(tmp_path / "one.npy", "x")


def test_unreadable_files_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    (tmp_path / "words.npy").write_text("not an array")
    (tmp_path / "nothing.npy").write_bytes(b"")
    np.save(tmp_path / "whole.npy", GREY)
    np.savez(tmp_path / "whole.npz", x=GREY)
    for name in ("whole.npy", "whole.npz"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name.replace("whole", "cut")).write_bytes(content[: len(content) // 2])
    for name in ("objects.npy", "objects.npz", "words.npy", "nothing.npy", "cut.npy", "cut.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as numbers"):
            read_array(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*gone.npy"):
        read_array(tmp_path / "gone.npy")


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def promising(shape, descr="<f8", content=b"few"):
    """An .npy file whose header promises what its content does not hold."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


HEADERS = {
    "terabytes": (promising((10**6, 10**6)), r"promises an array of shape \(1000000, 1000000\), 8000000000000 bytes"),
    "beyond all words": (promising((10**30, 10**30)), "promises an array of shape"),
    "less than nothing": (promising((-1, -3)), r"shape \(-1, -3\), and no array has a negative size"),
    "less than no bytes": (promising((2, -1)), r"shape \(2, -1\), and no array has a negative size"),
    "cut": (saved(GREY)[:-1], "60 bytes, and holds 59"),
    "nothing, many times": (promising((10**12,), "|V0"), r"\(it holds \|V0\)"),
    "words": (saved(np.array([["a"]])), r"\(it holds <U1\)"),
    "no tuple": (promising(7), "shape is not valid"),
    "a long header": (promising((1,), "<f8" + " " * 20_000), "its header promises 200.. bytes"),
    "a header of gigabytes": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "its header promises 4294967295 bytes"),
    "no array": (b"a thesis in words", "magic string is not correct"),
    "version 9": (b"\x93NUMPY\x09\x00" + bytes(9), "its version is"),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("compressed", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_promise_is_held_against_the_bytes(tmp_path, name, compressed):
    content, words = HEADERS[name]
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    if compressed is not None:
        path = tmp_path / "bad.npz"
        with zipfile.ZipFile(path, "w", compressed) as archive:
            archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match=f"bad.np[yz] cannot be read as numbers in .npy or .npz .*{words}"):
        read_array(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_numpy_does_not_write_is_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "odd.npz", "w", method) as archive:
        archive.writestr("x.npy", saved(GREY))
    with pytest.raises(ValueError, match=rf"x.npy is compressed by method {method}, which numpy does not write\)"):
        read_array(tmp_path / "odd.npz")


@pytest.mark.parametrize(("offset", "value", "words"), [(8, 1, "is encrypted"), (10, 99, "compressed by method 99")])
def test_what_the_directory_of_an_archive_says_is_looked_at(tmp_path, offset, value, words):
    np.savez(tmp_path / "odd.npz", x=GREY)
    content = bytearray((tmp_path / "odd.npz").read_bytes())
    content[content.rindex(b"PK\x01\x02") + offset] = value
    (tmp_path / "odd.npz").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_array(tmp_path / "odd.npz")


def test_a_small_file_of_many_zeros_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "zeros.npz", x=np.zeros((1000, 1000), np.uint8))
    assert read_array(tmp_path / "zeros.npz").shape == (1000, 1000)
    monkeypatch.setattr(array_files, "LARGEST_UNPACKED", 10**6)
    with pytest.raises(ValueError, match=r"x.npy unpacks to 1000128 bytes, and 1000000 are the most"):
        read_array(tmp_path / "zeros.npz")
    np.savez(tmp_path / "zeros.npz", x=np.zeros((1000, 1000), np.uint8))
    assert read_array(tmp_path / "zeros.npz").shape == (1000, 1000), "all of it is in the file"


def test_other_orders_and_numbers_are_read(tmp_path):
    for array in (np.asfortranarray(GREY), GREY.astype(">f8"), GREY.astype(np.float16), GREY > 7, GREY[:0]):
        np.save(tmp_path / "a.npy", array)
        np.savez_compressed(tmp_path / "a.npz", array)
        for name in ("a.npy", "a.npz"):
            found = read_array(tmp_path / name)
            assert np.array_equal(found, array) and found.dtype == array.dtype


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("dtype", [np.uint8, ">f8", np.float32, bool])
def test_what_is_not_compressed_takes_no_memory(tmp_path, name, dtype, monkeypatch):
    monkeypatch.setattr("pplvm.data.array_files.LARGEST_COPIED", 0)
    array = np.asfortranarray(np.arange(2_000_000).reshape(-1, 10) % 251).astype(dtype)
    (np.save if name == "a.npy" else np.savez)(tmp_path / name, array)
    tracemalloc.start()
    found = read_array(tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000 < array.nbytes
    assert np.array_equal(found, array) and found.dtype == array.dtype and not found.flags.writeable


def test_the_last_of_several_members_is_where_the_archive_says(tmp_path):
    arrays = {f"a_long_name_{i}" * (i + 1): GREY + i for i in range(5)}
    np.savez(tmp_path / "a.npz", **arrays)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(b"#!/bin/sh what extracts itself\n" + content)
    for key, array in arrays.items():
        assert np.array_equal(read_array(tmp_path / "a.npz", key), array)


@pytest.mark.parametrize("part", ["values", "local header", "size", "offset"])
def test_a_damaged_member_that_is_not_compressed_is_refused(tmp_path, part):
    np.savez(tmp_path / "odd.npz", x=GREY)
    content = bytearray((tmp_path / "odd.npz").read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    if part == "values":
        content[content.index(GREY.tobytes()) + 5] ^= 1
    elif part == "local header":
        content[2] = 0
    elif part == "size":
        content[directory + 24 : directory + 28] = (10**6).to_bytes(4, "little")
    else:
        content[directory + 42 : directory + 46] = (7).to_bytes(4, "little")
    (tmp_path / "odd.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"odd.npz cannot be read as numbers in .npy or .npz \("):
        read_array(tmp_path / "odd.npz")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_single_number_is_no_data(tmp_path, name):
    (np.save if name == "a.npy" else np.savez)(tmp_path / name, np.float64(3))
    with pytest.raises(ValueError, match=f"{name} holds a single number: save an array with a row for each datum"):
        read_array(tmp_path / name)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "a.npy"
    {"fifo": lambda: os.mkfifo(path), "folder": path.mkdir, "device": lambda: path.symlink_to("/dev/zero")}[kind]()
    with pytest.raises(FileNotFoundError, match="a.npy is no regular file: give the path of a .npy or .npz file"):
        read_array(path)


def test_headers_are_read_of_every_member(tmp_path):
    np.savez(tmp_path / "a.npz", x=GREY, words=np.array(["one"]), things=np.array([{}], object), number=np.int8(1))
    found = {key: str(header) for key, header in read_headers(tmp_path / "a.npz").items()}
    assert found["x"] == "(20, 3)" and found["number"] == "()"
    assert found["words"] == "(1,) of <U3, no numbers" and "no numbers" in found["things"]


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "compressed.npz"])
def test_whatever_noise_makes_of_a_file_is_an_array_or_a_sentence(tmp_path, name):
    save = {"a.npy": np.save, "a.npz": np.savez, "compressed.npz": np.savez_compressed}[name]
    save(tmp_path / name, GREY)
    whole, draw = (tmp_path / name).read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        content = np.frombuffer(whole, np.uint8).copy()
        content[draw.integers(0, len(content), 2)] = draw.integers(0, 256, 2)
        (tmp_path / name).write_bytes(content.tobytes()[: len(whole) - draw.integers(0, 2) * draw.integers(0, 99)])
        try:
            assert read_array(tmp_path / name).sum() >= 0
        except ValueError as error:
            refused += str(error).startswith(str(tmp_path)) and "\n" not in str(error)
    assert refused > 200


def test_who_rewrites_a_file_of_usual_size_does_not_reach_what_was_read(tmp_path):
    np.save(tmp_path / "one.npy", GREY)
    found = read_array(tmp_path / "one.npy")
    (tmp_path / "one.npy").write_bytes(b"")
    assert np.array_equal(found, GREY)
