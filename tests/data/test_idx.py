"""idx files: read back exactly, and refused when damaged."""

import gzip
import hashlib
import struct

import pytest
import torch

from pplvm.data.idx import read_idx

CONTENT = struct.pack(">IIII", 2051, 2, 2, 3) + bytes(range(12))


def written(folder, content):
    path = folder / "some-images-idx3-ubyte"
    path.write_bytes(content)
    return path


def test_a_good_file_is_read_exactly(tmp_path):
    path = written(tmp_path, CONTENT)
    images = read_idx(path, (2, 2, 3), hashlib.sha256(CONTENT).hexdigest())
    assert torch.equal(images, torch.arange(12, dtype=torch.uint8).reshape(2, 2, 3))


@pytest.mark.parametrize(
    "content",
    [
        CONTENT[:-1],
        CONTENT[:7],
        b"",
        CONTENT + b"\0",
        gzip.compress(CONTENT),
        struct.pack(">II", 2049, 12) + CONTENT,
    ],
    ids=["cut short", "cut in the header", "empty", "too long", "compressed", "labels"],
)
def test_a_damaged_file_is_refused(tmp_path, content):
    path = written(tmp_path, content)
    words = rf"some-images-idx3-ubyte has {len(content)} bytes and is not .* idx file of 28 bytes .*replace it"
    with pytest.raises(ValueError, match=words):
        read_idx(path, (2, 2, 3))


def test_another_number_of_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds \(3, 2, 2\)"):
        read_idx(written(tmp_path, CONTENT), (3, 2, 2))


def test_one_flipped_bit_is_seen_by_the_checksum(tmp_path):
    path = written(tmp_path, CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    read_idx(path, (2, 2, 3))
    with pytest.raises(ValueError, match="not the official file"):
        read_idx(path, (2, 2, 3), hashlib.sha256(CONTENT).hexdigest())
