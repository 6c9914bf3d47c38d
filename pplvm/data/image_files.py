"""Decodes image files that nobody vouches for: only known formats, and only up to a size limit."""

__all__ = ["pixels_of", "read_image"]

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # as PIL names them; others may start programs
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
GREY_MODES = ("1", "L", "LA")
MOST_PIXELS = 2**24  # 4,096 x 4,096: ten kilobytes can promise a thousand times as many
MOST_BYTES = 2**27  # of a file: so many pixels in colour and transparent, twice over


def read_image(path: Path) -> np.ndarray:
    """Read one image, (H, W) or (3, H, W) uint8.

    Raises ValueError for anything that is no image of eight bits a channel, or too large.
    """
    from PIL import Image

    try:
        if not path.is_file():
            raise ValueError("it is no file")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ValueError(f"it has {size:,} bytes, and {MOST_BYTES:,} are the most")
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            return pixels_of(image)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"image {path} cannot be read (as {', '.join(FORMATS)}): replace or remove it") from error
    except Exception as error:  # whatever a decoder makes of bytes that someone else may have written
        raise ValueError(f"image {path} cannot be read ({error}): replace or remove it") from error


def pixels_of(image: "Image.Image") -> np.ndarray:
    """The pixels of an image opened by PIL, (H, W) if grey and (3, H, W) if in colour, uint8.

    Raises ValueError for one that is too large or has more than eight bits a channel.
    """
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels, and {MOST_PIXELS:,} are the most")
    if image.mode not in EIGHT_BIT_MODES:
        raise ValueError(f"its mode is {image.mode}, and only eight-bit images are read")
    if image.mode in GREY_MODES:
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
