"""Image files of strangers: no program is started, no time and memory spent, and one sentence said."""

import os
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from pplvm.data import folders, image_files
from pplvm.data.files import from_folder
from pplvm.data.image_files import read_image

GREY = np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(ran) (w) file closefile\n%%EOF\n"


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "webp", "tif", "ppm"])
def test_the_formats_that_are_meant(tmp_path, ending):
    Image.fromarray(GREY).convert("RGB").save(tmp_path / f"a.{ending}")
    assert read_image(tmp_path / f"a.{ending}").shape in ((3, 4, 5), (4, 5))


@pytest.mark.parametrize("name", ["a.png", "a.eps"])
def test_no_program_is_started_for_an_image(tmp_path, name, monkeypatch):
    def start(*words, **more):
        raise AssertionError("Ghostscript is started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(ValueError, match=rf"image .*{name} cannot be read \(as PNG, JPEG, .*: replace or remove it"):
        from_folder(tmp_path)


def promising(width, height):
    """A PNG of a few bytes that promises many pixels, and holds one row of zeros compressed."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(13_000, 13_000), (100_000, 100_000), (2**24 + 1, 1)])
def test_pixels_are_counted_before_they_are_decoded(tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(promising(width, height))
    started = time.process_time()
    with pytest.raises(ValueError, match="image .*a.png cannot be read .*pixels"):
        read_image(tmp_path / "a.png")
    assert time.process_time() - started < 1


def test_bytes_are_counted_before_they_are_read(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    os.truncate(tmp_path / "a.png", 2**40)  # a hole, which takes no room
    with pytest.raises(ValueError, match="a.png cannot be read .it has 1,099,511,627,776 bytes, and 134,217,728"):
        read_image(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(folders, "MOST_BYTES", 30)
    assert len(from_folder(tmp_path, "all")) == 1
    Image.fromarray(GREY).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"holds 2 images of shape \(4, 5\), more than fit in"):
        from_folder(tmp_path)


@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "folder", "nowhere"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "a.png"
    make = {
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to("a.png"),
        "folder": path.mkdir,
        "nowhere": lambda: path.symlink_to("gone.png"),
    }
    make[kind]()
    with pytest.raises(ValueError, match="image .*a.png cannot be read .it is no file.: replace or remove it"):
        from_folder(tmp_path)


def test_a_disk_is_no_folder_of_images(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to(tmp_path)
    for i in range(3):
        Image.fromarray(GREY).save(tmp_path / f"{i}.png")
    assert len(from_folder(tmp_path, "all")) == 3
    monkeypatch.setattr(folders, "MOST_FILES", 3)
    with pytest.raises(ValueError, match="holds more than 3 files: name one that holds images"):
        from_folder(tmp_path)


def test_whatever_a_decoder_says_of_noise_is_a_sentence(tmp_path):
    draw = np.random.default_rng(0)
    for ending in ("png", "jpg", "bmp", "gif", "webp", "tif", "ppm"):
        path = tmp_path / f"a.{ending}"
        Image.fromarray(draw.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
        whole = path.read_bytes()
        for _ in range(40):
            content = np.frombuffer(whole, np.uint8).copy()
            content[draw.integers(0, len(content), 6)] = draw.integers(0, 256, 6)
            path.write_bytes(content.tobytes())
            try:
                assert read_image(path).size <= image_files.MOST_PIXELS * 3
            except ValueError as error:
                assert str(error).endswith(": replace or remove it")
