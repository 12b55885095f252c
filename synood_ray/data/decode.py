"""Encoded image bytes -> RGB picture, or a reason why not.

Only formats that hold one still photograph are opened: Pillow would start Ghostscript for an EPS file.
"""

from __future__ import annotations

import io
import warnings
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from synood_ray.config.settings import DataSettings
from synood_ray.errors import Unavailable, UserError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")

LFS = b"version https://git-lfs.github.com/spec/"
_FRAMES = "animated, or more than one picture in the file"
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Large pictures are judged by data.max_side (and refused by Pillow above 179 million pixels): no warning in between.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")  # remarks on damaged EXIF


class UnusableImage(Exception):  # noqa: N818  (a fact about the data, recorded as a skip)
    """An image that cannot be used; ``str()`` is the reason."""


_OURS = (UnusableImage, UserError, Unavailable)  # a store that is away is no fault of the image


def read_header(file: BinaryIO, settings: DataSettings) -> tuple[int, int]:
    """(width, height) in pixels as `decode` will return them, from the header alone.

    Raises UnusableImage for what is no image, has more than one frame, or is outside min_side..max_side.
    """
    image = _open(file, settings)
    return _upright_size(image)


def decode(data: bytes, settings: DataSettings) -> Image.Image:
    """The picture as RGB, uint8, upright: EXIF rotation applied, transparency laid on white, 16 bit scaled to 8.

    Raises UnusableImage(reason) for whatever cannot be decoded in full.
    """
    return to_rgb(_open(io.BytesIO(data), settings))


def open_picture(data: bytes, settings: DataSettings) -> Image.Image:
    """The picture as it is stored, not decoded yet: for masks, whose numbers count. Raises UnusableImage."""
    return _open(io.BytesIO(data), settings)


def to_rgb(image: Image.Image) -> Image.Image:
    """As `decode`, of a picture that Pillow has opened or made."""
    if _is_animated(image):
        raise UnusableImage(_FRAMES)
    orientation = _orientation(image)
    try:
        image.load()
        rgb = _as_rgb(image)
    except _OURS:
        raise
    except Exception as error:  # whatever Pillow raises: one file ends no run
        raise UnusableImage(f"cannot be decoded: {_brief(error)}") from error
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _open(file: BinaryIO, settings: DataSettings) -> Image.Image:
    start = file.read(len(LFS))
    file.seek(0)
    if not start:
        raise UnusableImage("empty file")
    if start == LFS:
        raise UnusableImage("a Git LFS pointer, not the picture itself; git lfs pull fetches it")
    try:
        image = Image.open(file, formats=FORMATS)
        frames = _is_animated(image)
    except _OURS:
        raise
    except Image.DecompressionBombError as error:
        raise UnusableImage("more than 179 million pixels") from error
    except UnidentifiedImageError as error:
        raise UnusableImage("not an image, or of a format that is not read") from error
    except Exception as error:
        raise UnusableImage(f"damaged header: {_brief(error)}") from error
    if frames:
        raise UnusableImage(_FRAMES)
    width, height = image.size
    if min(width, height) < settings.min_side:
        raise UnusableImage(f"{width}x{height} pixels: smaller than data.min_side ({settings.min_side})")
    if max(width, height) > settings.max_side:
        raise UnusableImage(f"{width}x{height} pixels: larger than data.max_side ({settings.max_side})")
    return image


def _is_animated(image: Image.Image) -> bool:
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))  # MPO: a JPEG with a preview


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8, without decoding; a PNG that carries EXIF only behind its pixels counts as upright."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except _OURS:  # EXIF may lie behind the header, in a file of a store
        raise
    except Exception:  # damaged EXIF, of whatever kind, does not damage the picture
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Grey pictures of 16-bit integers, of 32-bit integers that hold 16 bits, or of floats in [0, 1]."""
    import numpy as np

    pixels = np.asarray(image).astype(np.float64)
    if not np.isfinite(pixels).all():
        raise UnusableImage("holds pixels that are no numbers")
    top = 1.0 if image.mode == "F" else 65535.0
    if pixels.min() < 0 or pixels.max() > top:
        raise UnusableImage(f"pixel values outside 0..{top:g}")
    return Image.fromarray(np.rint(pixels * (255.0 / top)).astype(np.uint8))


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
