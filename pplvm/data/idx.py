"""Reads the idx files of MNIST and similar data sets, after checking their size and shape."""

__all__ = ["read_idx"]

import hashlib
import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

UINT8 = 0x08  # the third byte of an idx file of unsigned bytes; the fourth is the number of dimensions


def read_idx(path: Path, shape: tuple[int, ...], sha256: str | None = None) -> Tensor:
    """Read an uncompressed idx file of unsigned bytes, uint8 of `shape`.

    Arguments:
        path: of the file.
        shape: what the file must hold, e.g. (60000, 28, 28).
        sha256: of the whole file, if known.
    Raises ValueError for a file that is cut short, has another shape or another checksum.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, UINT8, len(shape), *shape)
    expected, size = len(header) + math.prod(shape), path.stat().st_size
    content = path.read_bytes() if size == expected else b""
    if not content.startswith(header) or len(content) != expected:
        raise ValueError(
            f"{path} has {size} bytes and is not the uncompressed idx file of {expected} bytes that "
            f"holds {shape}: it is cut short, compressed or another file; replace it"
        )
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not the official file, its sha256 is not {sha256}: replace it")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy())
