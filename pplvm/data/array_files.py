"""Reads `.npy` and `.npz` files that nobody vouches for: headers are checked against the bytes before reading."""

__all__ = ["ArrayHeader", "listing", "read_array", "read_headers"]

import math
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np
from numpy.lib import format as npy

LARGEST_UNPACKED = 2**33
"""Bytes of an array that is compressed in its file: a file of 8 MB could hold so many zeros."""

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of numpy.savez and numpy.savez_compressed

MOST_NAMED = 12
"""Arrays that a message lists."""

LOCAL_HEADER = 30
"""Bytes of a zip member's own header before its name, of whose length bytes 26 to 30 tell."""

Read = TypeVar("Read")


class ArrayHeader(NamedTuple):
    """Shape and dtype of an array, as its file's header gives them."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def numbers(self) -> bool:
        return self.dtype.kind in "biufc"

    def __str__(self) -> str:
        return str(self.shape) if self.numbers else f"{self.shape} of {self.dtype}, no numbers"


def read_array(path: Path, key: str | None = None) -> np.ndarray:
    """Read the array of an `.npy` file, or the one called `key` of an `.npz` file; nothing is ever unpickled.

    It is a read-only map of the file, which takes no memory, unless it is compressed.

    Arguments:
        path: of the file, which must not be written to while the array is in use.
        key: may be left out for a file of one array.
    Raises FileNotFoundError, and ValueError for a wrong key or a file that cannot be read.
    """

    def chosen(archive: zipfile.ZipFile | None, keys: Mapping[str, str]) -> np.ndarray | None:
        if archive is None:
            return _mapped(path, 0, path.stat().st_size) if key is None else None
        name = next(iter(keys)) if key is None and len(keys) == 1 else key
        return _member(path, archive, keys[name]) if name in keys else None

    found = _opened(path, chosen)
    if found is None:
        wanted = "needs a key" if key is None else f"has no array {key!r}"
        raise ValueError(f"{path} {wanted}: its keys are {listing(read_headers(path, named_only=True))}")
    if not found.ndim:
        raise ValueError(f"{path} holds a single number: save an array with a row for each datum")
    return found


def read_headers(path: Path, named_only: bool = False) -> dict[str, ArrayHeader]:
    """Read shape and dtype of every array of an `.npy` or `.npz` file, by key; members that are no array have no shape.

    Arguments:
        path: of the file.
        named_only: leave out the array of an `.npy` file, which has no key and stands under "" otherwise.
    Raises FileNotFoundError, and ValueError for a file that cannot be read.
    """

    def headers(archive: zipfile.ZipFile | None, keys: Mapping[str, str]) -> dict[str, ArrayHeader]:
        if archive is not None:
            return {key: _member_header(archive, name) for key, name in keys.items()}
        with path.open("rb") as file:
            return {} if named_only else {"": _header(file)[0]}

    return _opened(path, headers)


def listing(headers: Mapping[str, ArrayHeader]) -> str:
    """Keys and shapes as messages list them."""
    words = [f"{key} {header}" for key, header in list(headers.items())[:MOST_NAMED]]
    more = len(headers) - len(words)
    return ", ".join(words) + (f" and {more:,} more" if more else "") or "none"


def _opened(path: Path, read: Callable[[zipfile.ZipFile | None, Mapping[str, str]], Read]) -> Read:
    """Apply `read` to an archive and its members' names by key, or to None if the file is no archive."""
    if not path.is_file():
        wrong = f"{path} is no regular file" if path.exists() else f"there is no file {path}"
        raise FileNotFoundError(f"{wrong}: give the path of a .npy or .npz file")
    try:
        if not zipfile.is_zipfile(path):
            return read(None, {})
        with zipfile.ZipFile(path) as archive:
            return read(archive, {name.removesuffix(".npy"): name for name in archive.namelist()})
    except Exception as error:  # whatever a parser makes of bytes that someone else may have written
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as numbers in .npy or .npz ({reason}): save them with numpy.save or numpy.savez"
        ) from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    entry = _checked(archive, name)
    if entry.compress_type == zipfile.ZIP_STORED:
        start = _start(path, entry)
        found = _mapped(path, start, entry.file_size)
        if zlib.crc32(np.memmap(path, np.uint8, "r", start, (entry.file_size,)).data) != entry.CRC:
            raise ValueError(f"{name} is damaged, its checksum differs")
        return found
    with archive.open(entry) as file:
        _checked_header(file, entry.file_size)
        file.seek(0)
        return npy.read_array(file, allow_pickle=False)


def _member_header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
    entry = _checked(archive, name)
    with archive.open(entry) as file:
        try:
            return _header(file)[0]
        except ValueError:  # another array than this one may be meant, and reading this one says why
            return ArrayHeader((), np.dtype(object))


def _checked(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    entry = archive.getinfo(name)
    if entry.flag_bits & 1:
        raise ValueError(f"{name} is encrypted")
    if entry.compress_type not in COMPRESSIONS:
        raise ValueError(f"{name} is compressed by method {entry.compress_type}, which numpy does not write")
    if entry.compress_type != zipfile.ZIP_STORED and entry.file_size > LARGEST_UNPACKED:
        raise ValueError(f"{name} unpacks to {entry.file_size} bytes, and {LARGEST_UNPACKED} are the most")
    return entry


def _start(path: Path, entry: zipfile.ZipInfo) -> int:
    """The offset in the archive at which the bytes of an uncompressed member begin."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        header = file.read(LOCAL_HEADER)
    if len(header) != LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
        raise ValueError(f"{entry.filename} does not lie where the archive says")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = entry.header_offset + LOCAL_HEADER + lengths
    if entry.compress_size != entry.file_size or start + entry.file_size > path.stat().st_size:
        raise ValueError(f"{entry.filename} promises {entry.file_size} bytes, which are not all there")
    return start


def _mapped(path: Path, start: int, size: int) -> np.ndarray:
    """The array whose `.npy` bytes, `size` of them, begin at `start` of a file; memory-mapped read-only if large."""
    with path.open("rb") as file:
        file.seek(start)
        (shape, dtype), fortran, offset = _checked_header(file, size)
    order = "F" if fortran else "C"
    if not math.prod(shape):
        return np.empty(shape, dtype, order)
    found = np.memmap(path, dtype, "r", start + offset, shape, order)
    return np.array(found) if found.nbytes <= LARGEST_COPIED else np.asarray(found)


def _checked_header(file: IO[bytes], size: int) -> tuple[ArrayHeader, bool, int]:
    """Parse and check the header of a numeric array: header, whether in Fortran order, and offset of the values.

    Raises:
        ValueError: it is none, or of other things than numbers, or its bytes are not all there.
    """
    begin = file.tell()
    header, fortran = _header(file)
    if not header.numbers:
        raise ValueError(f"it holds {header.dtype}")
    if min(header.shape, default=0) < 0:
        raise ValueError(f"it promises an array of shape {header.shape}, and no array has a negative size")
    promised, there = math.prod(header.shape) * header.dtype.itemsize, size - (file.tell() - begin)
    if promised > there:
        raise ValueError(f"it promises an array of shape {header.shape}, {promised} bytes, and holds {there}")
    return header, fortran, file.tell() - begin


def _header(file: IO[bytes]) -> tuple[ArrayHeader, bool]:
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"its version is {version}, and those of numbers are 1.0 and 2.0")
    width, read_header = HEADERS[version]
    if (length := int.from_bytes(file.read(width), "little")) > LONGEST_HEADER:
        raise ValueError(f"its header promises {length} bytes, and {LONGEST_HEADER} are the most")
    file.seek(-width, os.SEEK_CUR)
    shape, fortran, dtype = read_header(file)
    return ArrayHeader(shape, dtype), fortran


HEADERS = {(1, 0): (2, npy.read_array_header_1_0), (2, 0): (4, npy.read_array_header_2_0)}
"""By version, in how many bytes a header gives its length, and who reads it."""

LARGEST_COPIED = 2**26
"""Bytes of an array that is copied into memory, where no one who writes to its file can reach it: MNIST has 47 MB."""

LONGEST_HEADER = 10_000
"""Bytes, as numpy has it, which looks only once it has read them."""
