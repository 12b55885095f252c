"""Between PIL images, PNG bytes, subject boxes and the tensors that the models work on."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from synood_ray.data.decode import FORMATS
from synood_ray.records import Box

if TYPE_CHECKING:
    from torch import Tensor


def to_square(image: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side to ``side`` pixels (bicubic) and crop the centre square; no copy if it fits."""
    if image.size == (side, side):
        return image
    scale = side / min(image.size)
    size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))


def box_in_square(box: Box, width: int, height: int, side: int) -> Box:
    """Carry a subject box of a ``width`` x ``height`` image through `to_square`; clipped to the square."""
    scale = side / min(width, height)
    left, top = (max(side, round(width * scale)) - side) // 2, (max(side, round(height * scale)) - side) // 2
    x0, y0 = int(np.floor(box[0] * scale)) - left, int(np.floor(box[1] * scale)) - top
    x1, y1 = int(np.ceil(box[2] * scale)) - left, int(np.ceil(box[3] * scale)) - top
    x0, y0 = min(max(x0, 0), side - 1), min(max(y0, 0), side - 1)
    return x0, y0, min(max(x1, x0 + 1), side), min(max(y1, y0 + 1), side)


def square_around(box: Box, side: int) -> Box:
    """The square around a box, its side the box's longer one and 1/16 of the image's: what is painted into it is drawn
    by its own outline, not by the subject's. Moved where it would leave the image, which it fills at most."""
    edge = min(side, max(box[2] - box[0], box[3] - box[1]) + round(side / 16))
    x0 = min(max((box[0] + box[2] - edge) // 2, 0), side - edge)
    y0 = min(max((box[1] + box[3] - edge) // 2, 0), side - edge)
    return x0, y0, x0 + edge, y0 + edge


def centred_box(side: int, share: float) -> Box:
    """The centred square box whose side is ``share`` of the image's."""
    inset = round(side * (1 - share) / 2)
    return inset, inset, side - inset, side - inset


def to_tensor(images: list[Image.Image], side: int, squash: bool = False) -> Tensor:
    """Stack RGB images as [B, 3, side, side] float32 in [0, 1]: centre squares or, squashed (bicubic), the whole."""
    import torch

    def fitted(image: Image.Image) -> Image.Image:
        return image.resize((side, side), Image.Resampling.BICUBIC) if squash else to_square(image, side)

    arrays = [np.asarray(fitted(image.convert("RGB")), dtype=np.uint8) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().div_(255)


def box_mask(box: Box, side: int) -> Tensor:
    """[1, side, side] float32: 1 inside the box (repainted), 0 outside."""
    import torch

    mask = torch.zeros(1, side, side)
    mask[:, box[1] : box[3], box[0] : box[2]] = 1
    return mask


def structure(image: Tensor, mask: Tensor) -> float:
    """How much is to be seen inside a mask [1, H, W] of an image [3, H, W]: its grey's mean absolute Laplacian.

    In the image's own units; of a blurred or empty place it is small, whatever its colour.
    """
    from torch.nn import functional as F

    grey = F.pad(image.float().mean(0)[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float((laplacian.abs() * mask[0]).sum() / mask.sum().clamp_min(1))


def to_png(image: Tensor) -> bytes:
    """Encode one [3, H, W] image in [0, 1] as PNG, rounded to 8 bits."""
    array = image.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def from_png(data: bytes) -> Image.Image:
    """Decode PNG bytes written by `to_png`, or another format that `decode` reads, to RGB."""
    return Image.open(io.BytesIO(data), formats=FORMATS).convert("RGB")
