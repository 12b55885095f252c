"""How a worker turns a task's source into what the models take: image, mask, box."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.data.decode import UnusableImage, decode
from synood_ray.data.masks import read_mask
from synood_ray.data.reader import ImageReader
from synood_ray.models.images import box_in_square, box_mask, centred_box, square_around, to_tensor
from synood_ray.records import SourceImage

if TYPE_CHECKING:
    from torch import Tensor


class SourceLoader:
    """Reads and decodes source images; one a worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reader = ImageReader(settings.data)

    def image(self, source: SourceImage) -> Image.Image:
        """The decoded RGB image; raises UnusableImage if it changed since it was selected."""
        return decode(self.reader.read(source), self.settings.data)

    def mask(self, source: SourceImage, side: int) -> Tensor:
        """[1, side, side] float32, 1 = repaint, as sampling.mask asks for; UnusableImage if its file is no mask."""
        import torch

        sampling = self.settings.sampling
        if sampling.mask == "whole":
            return torch.ones(1, side, side)
        if sampling.mask == "files":
            return self._mask_file(source, side)
        if source.box is None:
            return box_mask(centred_box(side, sampling.box_share), side)
        box = box_in_square(source.box, source.width, source.height, side)
        return box_mask(square_around(box, side) if sampling.mask == "square" else box, side)

    def _mask_file(self, source: SourceImage, side: int) -> Tensor:
        mask = read_mask(self.settings.sampling.masks or "", source)
        repaint = (to_tensor([mask], side)[0].mean(0, keepdim=True) >= 0.5).float()
        if not 0 < repaint.mean() < 1:
            raise UnusableImage("its mask leaves nothing to repaint, or nothing to keep, in the square that is cut out")
        return repaint
