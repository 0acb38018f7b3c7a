"""Images as numbers: PNG or JPEG bytes to float32 in [0, 1]. The home of Pillow.

What is decoded is small by then: an image says its size in its header, and only one of the size that is wanted is
decoded, so that a few bytes cannot ask for gigabytes. A grey image is taken where colour is wanted, not the other way
round; transparency is dropped, and a note on how to turn the image is not followed.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING

import numpy as np

from trunkline.models.signature import LARGEST_IMAGE, LONGEST_IMAGE, MOST_PIXELS

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

__all__ = ["MOST_PIXELS", "check_shape", "decode", "from_base64", "grey", "shape_of"]

_FORMATS = ("PNG", "JPEG")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes for 16 bits a pixel
_GREY = ("1", "L", "LA", "La", *_DEEP)


def shape_of(content: bytes) -> tuple[int, int, int]:
    """(height, width, channels), from the header alone. Raises ValueError for what is no PNG or JPEG, or too large."""
    with _opened(content) as image:
        return _shape(image)


def decode(content: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The pixels of an image of that shape, [height * width * channels], in C order.

    Raises ValueError for what is no PNG or JPEG, is damaged, or has another size.
    """
    with _opened(content) as image:
        found = _shape(image)
        check_shape(found, shape)
        try:
            image.load()
        except (OSError, SyntaxError, ValueError) as exc:  # what Pillow's decoders fail with
            raise ValueError(f"is a damaged image: {exc}") from exc
        if image.mode in _DEEP:
            pixels = np.asarray(image).astype(np.float32) / np.float32(65_535)
        else:
            pixels = np.asarray(image.convert("L" if found[2] == 1 else "RGB"), np.float32) / np.float32(255)
    pixels = pixels.reshape(found)
    return np.broadcast_to(pixels, shape).reshape(-1)


def check_shape(found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless an image of the shape `found` can be taken for one of `shape`."""
    if found[:2] != shape[:2]:
        raise ValueError(f"is an image of {_size(found)} pixels; the model takes {_size(shape)}")
    if found[2] > shape[2]:
        raise ValueError("is an image in colour; the model takes grey ones")


def from_base64(text: str) -> bytes:
    """The bytes of a request's image. Raises ValueError for what is no base64, or too long."""
    if len(text) > LONGEST_IMAGE:
        raise ValueError(f"is {len(text):,} characters long; at most {LONGEST_IMAGE:,} are taken")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no base64 of an image") from None


def grey(shape: tuple[int, ...]) -> str:
    """A grey PNG of that shape as base64."""
    from PIL import Image

    out = io.BytesIO()
    mode, colour = ("L", 128) if shape[2] == 1 else ("RGB", (128, 128, 128))
    Image.new(mode, (shape[1], shape[0]), colour).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def _opened(content: bytes) -> Image:
    from PIL import Image, UnidentifiedImageError

    if len(content) > LARGEST_IMAGE:
        raise ValueError(f"is an image of {len(content):,} bytes; {LARGEST_IMAGE:,} are the most")
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ValueError("is no PNG or JPEG image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, OSError, SyntaxError, ValueError) as exc:
        raise ValueError(f"is an image that cannot be read: {exc}") from exc


def _shape(image: Image) -> tuple[int, int, int]:
    width, height = image.size
    if height * width > MOST_PIXELS:
        raise ValueError(f"is an image of {_size((height, width))} pixels; {MOST_PIXELS:,} in all are the most")
    return height, width, 1 if image.mode in _GREY else 3


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
