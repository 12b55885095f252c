"""Mask files of images, as tools write them: black and white, 0 and 1, a palette of two; others say why not."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from synood_ray.config.settings import DataSettings
from synood_ray.data import files
from synood_ray.data.decode import UnusableImage, open_picture
from synood_ray.data.folder import THREADS
from synood_ray.errors import UserError
from synood_ray.records import SourceImage

_ANY_SIZE = DataSettings(min_side=1)
_LABELS = 32  # a picture with at most this many values, and not two, is a map of labels, or a sharp mask
_EDGE = 0.05  # share of pixels between black and white that a sharp mask has at its edges


def mask_address(masks: str, source: SourceImage) -> str:
    """Where the mask of an image is: the image's key with .png; of a row of a Parquet file ``file.parquet#row.png``."""
    key = source.key if "#" in source.key else str(PurePosixPath(source.key).with_suffix(""))
    return files.join(files.absolute(masks), f"{key}.png")


def read_mask(masks: str, source: SourceImage) -> Image.Image:
    """The mask of an image, mode L, 255 = repaint, 0 = keep; it has both. Raises UnusableImage with the reason."""
    address = mask_address(masks, source)
    try:
        data = files.read_bytes(address)
    except FileNotFoundError as error:
        raise UnusableImage("is missing (one PNG for each image, same name)") from error
    except OSError as error:
        raise UnusableImage(f"cannot be read: {error.strerror or error}") from error
    image = open_picture(data, _ANY_SIZE)
    (width, height), longest = image.size, max(*image.size, source.width, source.height)
    if abs(width * source.height - height * source.width) > longest:
        raise UnusableImage(f"is {width}x{height}, of another shape than its image ({source.width}x{source.height})")
    return Image.fromarray(np.where(_repaint(image), 255, 0).astype(np.uint8))


def check_masks(masks: str, sources: Iterable[SourceImage]) -> None:
    """Raise UserError unless every image has a mask of its own that can be used; the first that cannot is named."""
    sources = list(sources)
    owners: dict[str, str] = {}
    for source in sources:
        address = mask_address(masks, source)
        if owners.setdefault(address, source.key) != source.key:
            raise UserError(f"sampling.masks: {address} would be the mask of {owners[address]} and of {source.key}")

    def fault(source: SourceImage) -> str:
        try:
            read_mask(masks, source)
        except UnusableImage as error:
            return f"{mask_address(masks, source)}: {error}"
        return ""

    with ThreadPoolExecutor(THREADS) as pool:
        faults = [why for why in pool.map(fault, sources) if why]
    if faults:
        raise UserError(
            f"sampling.masks: {len(faults)} of {len(sources)} masks cannot be used; the first is {faults[0]}"
        )


def _repaint(image: Image.Image) -> np.ndarray:
    """Which pixels are to be repainted, bool [H, W]; some are and some are not."""
    values = _levels(image)
    low, high = values.min(), values.max()
    if high == 0:
        raise UnusableImage("is all black: nothing would be repainted (white = repaint)")
    if low == high:
        raise UnusableImage(f"has the value {high} everywhere: all would be repainted (sampling.mask whole does that)")
    kinds = np.unique(values)
    if len(kinds) == 2:
        if low != 0 and not (low < 128 <= high):
            raise UnusableImage(f"has the values {low} and {high}: it does not say which to repaint (0 = keep)")
        return values > low
    between = float(((values > 0) & (values < high)).mean())
    if high < 128 or (len(kinds) <= _LABELS and between > _EDGE):
        shown = ", ".join(map(str, kinds[:5])) + (" …" if len(kinds) > 5 else "")
        raise UnusableImage(f"has the values {shown}: labels of several things, not black and white (white = repaint)")
    return values >= 128


def _levels(image: Image.Image) -> np.ndarray:
    """0..255, int [H, W]: greys; the place in the palette of a mask that is coloured by it."""
    try:
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
            if alpha.min() < 255:
                raise UnusableImage(
                    "holds its shape in transparency, which some tools mean as the place to repaint and others as what "
                    "stays; save it in black and white, white = repaint"
                )
        if image.mode == "P":
            colours = np.asarray(image.convert("RGB")).astype(int)
            if (colours.max(-1) - colours.min(-1)).max() > 0:  # label maps are coloured to be looked at
                return np.asarray(image).astype(int)
        if image.mode.startswith("I") or image.mode == "F":
            values = np.asarray(image).astype(float)
            top = 255.0 if values.max() <= 255 and values.max() > 1 else max(float(values.max()), 1.0)
            return np.rint(values * 255.0 / top).astype(int)
        return np.asarray(image.convert("RGB")).max(-1).astype(int)
    except (OSError, ValueError, SyntaxError) as error:
        raise UnusableImage(f"cannot be decoded: {error}") from error
