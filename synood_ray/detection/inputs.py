"""The ways in which people hand pictures to a detector: each becomes an RGB picture as training saw them.

Files, bytes and PIL images go through `synood_ray.data.decode`. Arrays are pixels: uint8, uint16 (0..65535), or floats
in [0, 1]; what is normalised for a model is refused. All are rounded to 8 bits, as the pictures of a data set are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import UnusableImage, decode, to_rgb

if TYPE_CHECKING:
    from torch import Tensor

    One = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Tensor
    Images = One | Iterable[One]  # an array among them may be a batch

TAKEN = (
    "a path, encoded bytes, a PIL image, a uint8, uint16 or [0, 1] float array [H, W], [H, W, 3] or [H, W, 4] (numpy), "
    "[3, H, W] (torch), a batch of such arrays, a list or iterator of these, or a folder"
)

_FILES = DataSettings(min_side=1)  # how small a picture may be was settled when the detector's images were chosen
_ROUNDING = 1e-6


def pictures(images: Images) -> Iterator[tuple[str, Image.Image]]:
    """Every picture, RGB and upright, with its path ("" where it has none). A folder's come in order of their paths.

    Raises ValueError, one line, for what is no picture, with what is taken.
    """
    if isinstance(images, str | os.PathLike) and Path(images).is_dir():
        images = _in_folder(Path(images))
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or _is_array(images):
        images = [images]  # type: ignore[list-item]
    if not isinstance(images, Iterable):
        raise ValueError(f"images: {type(images).__name__} is no image; {TAKEN} is")
    for image in images:
        for one in image if _is_array(image) and image.ndim == 4 else [image]:  # type: ignore[union-attr]
            yield str(one) if isinstance(one, str | os.PathLike) else "", _picture(one)


def _picture(image: Any) -> Image.Image:
    try:
        if isinstance(image, str | os.PathLike):
            return decode(Path(image).read_bytes(), _FILES)
        if isinstance(image, bytes | bytearray | memoryview):
            return decode(bytes(image), _FILES)
        if isinstance(image, Image.Image):
            return to_rgb(image)
    except UnusableImage as error:
        shown = f"{image}: " if isinstance(image, str | os.PathLike) else ""
        raise ValueError(f"images: {shown}{error}") from error
    except OSError as error:
        raise ValueError(f"images: {image}: {error.strerror or error}") from error
    if _is_array(image):
        return _of_array(image)
    raise ValueError(f"images: {type(image).__name__} is no image; {TAKEN} is")


def _is_array(image: Any) -> bool:
    return isinstance(image, np.ndarray) or _is_tensor(image)


def _is_tensor(image: Any) -> bool:
    import torch

    return isinstance(image, torch.Tensor)


def _of_array(array: Any) -> Image.Image:
    shape = tuple(array.shape)
    if _is_tensor(array):
        if len(shape) != 3 or shape[0] != 3:
            raise ValueError(f"images: a tensor must be [3, H, W] or [B, 3, H, W] with B >= 1, got {list(shape)}")
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).permute(1, 2, 0).numpy()
    elif not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        raise ValueError(f"images: an array must be [H, W], [H, W, 3] or [H, W, 4], or a batch, got {list(shape)}")
    if 0 in shape:
        raise ValueError(f"images: an array of shape {list(shape)} has no pixels")
    pixels = _to_8_bits(array)
    return to_rgb(Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels))


def _to_8_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.uint16:
        return np.rint(array / 257.0).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"images: {array.dtype} pixels are not taken; uint8, uint16 and floats in [0, 1] are")
    low, high = float(array.min()), float(array.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN is neither
        raise ValueError(
            f"images: float pixels must lie in [0, 1], these in [{low:.4g}, {high:.4g}]; give pixels as they are, not "
            "normalised for a model, and 0..255 as uint8"
        )
    return np.rint(array.astype(np.float64).clip(0, 1) * 255).astype(np.uint8)


def _in_folder(folder: Path) -> list[str]:
    from synood_ray.data.source import open_source

    found = open_source(str(folder), _FILES, labelled=False, setting="images").scan()
    if found.skips:
        skip = found.skips[0]
        raise ValueError(f"images: {folder}: {skip.key}: {skip.reason}; leave it out, or give a list of paths")
    return sorted(image.uri for image in found.images)
