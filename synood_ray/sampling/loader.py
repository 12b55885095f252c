"""How a worker turns a task's source into what the models take: image, mask, box."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.data.decode import decode
from synood_ray.data.reader import ImageReader
from synood_ray.errors import UserError
from synood_ray.locations import resolve
from synood_ray.models.images import box_in_square, box_mask, centred_box, to_tensor
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
        """[1, side, side] float32, 1 = repaint, as sampling.mask asks for."""
        import torch

        sampling = self.settings.sampling
        if sampling.mask == "whole":
            return torch.ones(1, side, side)
        if sampling.mask == "files":
            return self._mask_file(source, side)
        if source.box is None:
            return box_mask(centred_box(side, sampling.box_share), side)
        return box_mask(box_in_square(source.box, source.width, source.height, side), side)

    def _mask_file(self, source: SourceImage, side: int) -> Tensor:
        # a row of a Parquet file is file.parquet#row: its mask is file.parquet#row.png
        key = source.key if "#" in source.key else str(PurePosixPath(source.key).with_suffix(""))
        path = Path(resolve(self.settings.sampling.masks or "")) / f"{key}.png"
        if not path.is_file():
            raise UserError(f"sampling.masks: {path} is missing (one PNG for each image, same name)")
        with Image.open(path) as mask:
            return (to_tensor([mask.convert("RGB")], side)[0].mean(0, keepdim=True) >= 0.5).float()
