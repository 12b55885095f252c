"""Regenerated images in a world without models: whose prompt and noise they have, and which are left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from synood_ray.config.settings import Settings
from synood_ray.records import SourceImage, sample_seed
from synood_ray.sampling.companions import regenerate
from tests.sampling.worlds import SIDE, LinearInpainter, Reader

LEVELS = [0.2, 0.4, 0.6]


@pytest.fixture
def sources(tmp_path: Path) -> list[SourceImage]:
    found = []
    for index, level in enumerate(LEVELS):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (16, 16), (round(255 * level),) * 3).save(path)
        found.append(SourceImage(path.name, index, f"bird {index}", str(path), path.stat().st_size, 16, 16))
    return found


def test_an_image_is_regenerated_with_its_own_name_from_noise_of_its_own(sources: list[SourceImage]) -> None:
    inpainter = Reader()
    settings = Settings.model_validate({"seed": 5, "sampling": {"mask": "whole", "batch_size": 2}})
    made = list(regenerate(sources, settings, inpainter))
    assert inpainter.batches == [2, 2], "the last one is filled with a copy"
    assert inpainter.prompts == [f"A photo of bird {number}." for number in (0, 1, 2, 2)]
    for source, level, image in zip(sources, LEVELS, made, strict=True):
        seed = torch.Generator().manual_seed(sample_seed(5, source.key, 0) + 1)
        expected = 0.5 * level + 0.5 * torch.randn((3, SIDE, SIDE), generator=seed)
        assert torch.allclose(image, expected, atol=1e-5)


def test_what_is_not_repainted_stays(sources: list[SourceImage]) -> None:
    settings = Settings.model_validate({"sampling": {"mask": "box", "box_share": 0.5}})
    (image,) = regenerate(sources[:1], settings, LinearInpainter())
    assert torch.allclose(image[:, 0], torch.full((3, SIDE), LEVELS[0]), atol=1e-5)
    assert not torch.allclose(image[:, 1, 1], torch.full((3,), LEVELS[0]), atol=1e-2)


def test_images_that_are_gone_are_left_out(sources: list[SourceImage]) -> None:
    settings = Settings.model_validate({"sampling": {"mask": "whole", "batch_size": 1}})
    whole = list(regenerate(sources, settings, LinearInpainter()))
    Path(sources[1].uri).unlink()
    left = list(regenerate(sources, settings, LinearInpainter()))
    assert torch.equal(torch.stack(left), torch.stack([whole[0], whole[2]]))
