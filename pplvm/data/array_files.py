"""Array files that anyone may have written: what they promise is held against their bytes before anything is read."""

__all__ = ["read_array"]

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

LARGEST_UNPACKED = 2**33
"""Bytes of an array that is compressed in its file: a file of 8 MB could hold so many zeros."""

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of numpy.savez and numpy.savez_compressed


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """The array of an `.npy` file, or the one called `key` of an `.npz` file; nothing is ever unpickled.

    Arguments:
        path: of the file.
        key: may be left out for a file of one array.
    Raises FileNotFoundError, and ValueError for a wrong key or a file that cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give the path of a .npy or .npz file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                keys = {name.removesuffix(".npy"): name for name in archive.namelist()}
                chosen = next(iter(keys)) if key is None and len(keys) == 1 else key
                if chosen in keys:
                    return _member(archive, keys[chosen])
        else:
            keys = {}
            if key is None:
                with path.open("rb") as file:
                    return _array(file, os.fstat(file.fileno()).st_size)
    except Exception as error:  # whatever a parser makes of bytes that someone else may have written
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as numbers in .npy or .npz ({reason}): save them with numpy.save or numpy.savez"
        ) from error
    wanted = "needs a key" if key is None else f"has no array {key!r}"
    raise ValueError(f"{path} {wanted}: its keys are {', '.join(keys) or 'none'}")


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    entry = archive.getinfo(name)
    if entry.flag_bits & 1:
        raise ValueError(f"{name} is encrypted")
    if entry.compress_type not in COMPRESSIONS:
        raise ValueError(f"{name} is compressed by method {entry.compress_type}, which numpy does not write")
    if entry.compress_type != zipfile.ZIP_STORED and entry.file_size > LARGEST_UNPACKED:
        raise ValueError(f"{name} unpacks to {entry.file_size} bytes, and {LARGEST_UNPACKED} are the most")
    with archive.open(entry) as file:
        return _array(file, entry.file_size)


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array in a file of `size` bytes.

    Raises:
        ValueError: it is none, or of other things than numbers, or its bytes are not all there.
    """
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"its version is {version}, and those of numbers are 1.0 and 2.0")
    width, read_header = HEADERS[version]
    if (length := int.from_bytes(file.read(width), "little")) > LONGEST_HEADER:
        raise ValueError(f"its header promises {length} bytes, and {LONGEST_HEADER} are the most")
    file.seek(-width, os.SEEK_CUR)
    shape, _, dtype = read_header(file)
    if dtype.kind not in "biufc":
        raise ValueError(f"it holds {dtype}")
    promised, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or promised > there:
        raise ValueError(f"it promises an array of shape {shape}, {promised} bytes, and holds {there}")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


HEADERS = {(1, 0): (2, npy.read_array_header_1_0), (2, 0): (4, npy.read_array_header_2_0)}
"""By version, in how many bytes a header gives its length, and who reads it."""

LONGEST_HEADER = 10_000
"""Bytes, as numpy has it, which looks only once it has read them."""
