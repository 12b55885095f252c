"""CLIP image features of images that lie in sources or in memory, in batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor

from synood_ray.config.settings import DataSettings
from synood_ray.data.decode import UnusableImage, decode
from synood_ray.data.images import Skip
from synood_ray.data.reader import ImageReader
from synood_ray.detection.detector import ImageEncoder
from synood_ray.models.images import to_tensor
from synood_ray.records import SourceImage

BATCH = 64
_READERS = 4
Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def encode_pictures(clip: ImageEncoder, pictures: Iterable[Image.Image], batch_size: int = BATCH) -> Tensor:
    """RGB pictures of any size -> un-normalised features [N, D] float32 on the CPU; N may be 0."""
    pictures = iter(pictures)
    width = clip.encode_classes(["x"], ["{}"]).shape[1]
    parts = [torch.empty(0, width)]
    while batch := list(itertools.islice(pictures, batch_size)):
        with torch.inference_mode():
            features = clip.encode_images(to_tensor(batch, clip.preprocess.size).to(clip.device))
        parts.append(features.float().cpu().clone())
    return torch.cat(parts)


def encode_sources(
    clip: ImageEncoder,
    data: DataSettings,
    images: Sequence[SourceImage],
    batch_size: int = BATCH,
    progress: Progress | None = None,
    seen: Callable[[Image.Image], None] = lambda picture: None,
) -> tuple[Tensor, list[SourceImage], list[Skip]]:
    """Read and encode images; those that cannot be decoded are left out and named.

    Returns (features [N, D] float32 on the CPU, the N images in their order, the skips). Reads ahead in threads.
    seen: called with each of the N pictures, in their order.
    """
    reader = ImageReader(data)
    kept: list[SourceImage] = []
    skips: list[Skip] = []

    def load(image: SourceImage) -> Image.Image | UnusableImage:
        try:
            return decode(reader.read(image), data)
        except UnusableImage as error:
            return error
        except OSError as error:
            return UnusableImage(f"cannot be read: {error.strerror or error}")

    def pictures() -> Iterator[Image.Image]:
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(images), batch_size):  # a batch at a time bounds what is in memory
                for image, loaded in zip(
                    images[start : start + batch_size],
                    pool.map(load, images[start : start + batch_size]),
                    strict=True,
                ):
                    if isinstance(loaded, UnusableImage):
                        skips.append(Skip(image.key, str(loaded)))
                    else:
                        kept.append(image)
                        seen(loaded)
                        yield loaded
                if progress is not None:
                    progress(min(start + batch_size, len(images)), len(images))

    return encode_pictures(clip, pictures(), batch_size), kept, skips
