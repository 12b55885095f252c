"""Encoded bytes -> the square that the detector's CLIP sees, by the project's one decoder."""

from __future__ import annotations

import io

import numpy as np

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import UnusableImage, decode, read_header
from synood_ray.models.images import to_square
from synood_ray.serving.refused import Refused

_FILES = DataSettings(min_side=1)  # as `synood_ray.detection.inputs` has it


def decode_square(data: bytes, side: int, max_pixels: int) -> np.ndarray:
    """[side, side, 3] uint8: what a detector makes of these bytes itself, so that it judges both alike.

    Small, whatever came: a batch of them takes little memory. Raises Refused: 413 for more pixels than that, which
    are not decoded; 422 for what is no picture.
    """
    try:
        width, height = read_header(io.BytesIO(data), _FILES)
        if width * height > max_pixels:
            raise Refused(413, f"The image has {width}x{height} pixels, more than {max_pixels} in all.")
        return np.asarray(to_square(decode(data, _FILES), side))
    except UnusableImage as error:
        raise Refused(422, f"The image cannot be judged: {error}.") from error
