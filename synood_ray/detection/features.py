"""CLIP image features of images that lie in sources or in memory, in batches."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

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
_AHEAD = BATCH

Item = TypeVar("Item")
Made = TypeVar("Made")


def encode_pictures(
    clip: ImageEncoder,
    pictures: Iterable[Any],
    batch_size: int = BATCH,
    load: Callable[[Any], Image.Image] = lambda picture: picture,
) -> Tensor:
    """RGB pictures of any size -> un-normalised features [N, D] float32 on the CPU; N may be 0.

    load: makes a picture of what comes in its place, such as its bytes. Pictures are loaded and resized in threads
    while those before them are encoded.
    """
    side = clip.preprocess.size
    width = clip.encode_classes(["x"], ["{}"]).shape[1]
    parts = [torch.empty(0, width)]
    tensors = read_ahead(lambda one: to_tensor([load(one)], side), pictures)
    while batch := list(itertools.islice(tensors, batch_size)):
        with torch.inference_mode():
            features = clip.encode_images(torch.cat(batch).to(clip.device))
        parts.append(features.float().cpu().clone())
    return torch.cat(parts)


def read_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What `make` gives for each item, in their order: made in threads, of at most `_AHEAD` items before it is due."""
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def encode_sources(
    clip: ImageEncoder,
    data: DataSettings,
    images: Sequence[SourceImage],
    batch_size: int = BATCH,
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
        for image, loaded in zip(images, read_ahead(load, images), strict=True):
            if isinstance(loaded, UnusableImage):
                skips.append(Skip(image.key, str(loaded)))
            else:
                kept.append(image)
                seen(loaded)
                yield loaded

    return encode_pictures(clip, pictures(), batch_size), kept, skips
