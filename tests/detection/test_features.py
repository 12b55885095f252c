"""Images are read by other threads than the one that encodes, in their order, and not all at once."""

import threading
from itertools import count

import pytest
import torch

from synood_ray.detection import features
from synood_ray.detection.features import encode_pictures, read_ahead
from synood_ray.models.images import from_png, to_png, to_tensor
from tests.detection.tiny_clip import ColourClip


def test_pictures_are_loaded_in_threads_and_keep_their_order() -> None:
    clip = ColourClip()
    images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    stored = [to_png(image) for image in images]
    by: set[int] = set()

    def load(data: bytes):  # type: ignore[no-untyped-def]
        by.add(threading.get_ident())
        return from_png(data)

    found = encode_pictures(clip, stored, batch_size=8, load=load)
    assert torch.allclose(found, clip.encode_images(to_tensor([from_png(data) for data in stored], 8)), atol=1e-6)
    assert threading.get_ident() not in by
    assert encode_pictures(clip, []).shape == (0, found.shape[1])


def test_what_is_read_ahead_is_bounded_and_its_errors_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_AHEAD", 3)
    asked: list[int] = []
    made = read_ahead(lambda n: 1 / (5 - n), (asked.append(n) or n for n in count()))
    assert [next(made) for _ in range(5)] == [1 / 5, 1 / 4, 1 / 3, 1 / 2, 1.0]
    assert asked == list(range(8))  # five given and three ahead
    with pytest.raises(ZeroDivisionError):
        next(made)
